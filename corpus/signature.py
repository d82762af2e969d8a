"""The stage that signs documents for deduplication: an exact hash, one MinHash value per band, and a length.

Both hashes are of the simplified text (corpus/simplify.py), so pages that differ in case, numbers, punctuation or white space are exact
duplicates. With the defaults, which are FineWeb2's, two documents of Jaccard similarity J over word 5-grams meet in at least one of
14 bands of 8 minima with probability 1 - (1 - J^8)^14: 0.053 at 0.5, 0.924 at 0.8, 0.9996 at 0.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from corpus import datasketch_family, minhash
from corpus.columns import text_buffers
from corpus.minhash import U32, U64, bands_of, exact_hashes
from corpus.shingles import Grams
from corpus.simplify import simplify, tables
from corpus.stage import Apply, Outcome, Resources, Stage
from store.schema import EXACT, MINIMA, band_name, signature_schema


class Signature(Stage):
    """Adds exact_0, exact_1, one band_NNN for every bucket, n_chars, and the minima if asked to. Drops nothing.

    A text without a word (nothing but punctuation, say) gets all ones in every hash, which deduplication takes as "matches nothing":
    such pages are for a quality filter to drop, not for one of them to survive the others.
    """

    version: ClassVar[int] = 3

    stage: Literal["signature"] = Field(default="signature", description="Name of the stage.")
    ngram: int = Field(default=5, ge=1, le=64, description="units per shingle")
    unit: Literal["word", "char"] = Field(
        default="word", description="what a shingle is made of: words, or code points of the simplified text, blanks included"
    )
    buckets: int = Field(default=14, ge=1, le=1024, description="bands of the locality-sensitive hash; more find more and cost more")
    hashes_per_bucket: int = Field(default=8, ge=1, le=256, description="minima per band; more ask for a higher similarity")
    seed: int = Field(default=1, ge=0, description="chooses the hash functions")
    family: Literal["definemed", "datasketch"] = Field(
        default="definemed", description="hash functions: ours, or datasketch's (affine32 over SHA-1), which are much slower"
    )
    keep_minima: bool = Field(
        default=False, description="also write the minima, 4 bytes each, from which similarity can be estimated and LeanMinHash be made"
    )

    @property
    def writes(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # a class variable elsewhere; here it depends on buckets
        """The columns this stage adds; there are ``buckets`` bands."""
        return tuple(f for f in signature_schema(self.buckets, self.n_hashes if self.keep_minima else 0) if f.name != "doc_key")

    @property
    def n_hashes(self) -> int:
        """Minima of a document."""
        return self.buckets * self.hashes_per_bucket

    @property
    def grams(self) -> Grams:
        """What a shingle is made of."""
        return Grams(self.ngram, self.unit)

    @model_validator(mode="after")
    def _seed_of_datasketch(self) -> Signature:
        if self.family == "datasketch" and self.seed > datasketch_family.MAX_SEED:
            raise ValueError(f"seed must be at most {datasketch_family.MAX_SEED} with family: datasketch")
        return self

    def open(self, resources: Resources) -> Apply:  # noqa: ARG002  needs none
        """Draw the hash functions and make the tables of simplification."""
        least_of = self._minima()
        tables()
        bands = [band_name(band) for band in range(self.buckets)]

        def apply(batch: pa.RecordBatch) -> Outcome:
            text = batch.column("text")
            offsets, data = simplify(*text_buffers(text))
            columns = _columns(EXACT, exact_hashes(offsets, data))
            least = least_of(offsets, data)
            columns |= _columns(bands, bands_of(offsets, least, self.buckets))
            columns["n_chars"] = pc.utf8_length(text).cast(pa.int32())
            if self.keep_minima:
                columns[MINIMA] = pa.FixedSizeListArray.from_arrays(pa.array(least.ravel()), self.n_hashes)
            return Outcome(columns=columns)

        return apply

    def _minima(self) -> Callable[[npt.NDArray[np.int64], npt.NDArray[np.uint8]], U32]:
        """(offsets, simplified bytes) -> [n, n_hashes] minima under the functions of the family."""
        grams = self.grams
        if self.family == "datasketch":
            a, b = datasketch_family.permutations(self.n_hashes, self.seed)
            return lambda offsets, data: datasketch_family.minima(offsets, data, grams, a, b)
        factors = minhash.hash_family(self.n_hashes, self.seed)
        return lambda offsets, data: minhash.minima(offsets, data, grams, factors)


def _columns(names: Sequence[str], values: U64) -> dict[str, pa.Array]:
    """[n, k] numbers as k named columns of n."""
    columns = np.ascontiguousarray(values.T)
    return {name: pa.array(columns[k]) for k, name in enumerate(names)}
