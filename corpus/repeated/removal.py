"""Cutting: the table of repeated units as a stage of pass 2.

The table's files are mapped into memory where they are local, so all workers of a machine share one copy: 28 bytes a repeated unit at
most. From object storage each worker holds its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy import uint64

from corpus.columns import text_buffers, text_column
from corpus.dedup.ranges import load_npy
from corpus.minhash import U64
from corpus.passes import OpenStage
from corpus.repeated.marks import marks
from corpus.repeated.params import RepeatedTextParams
from corpus.repeated.tiles import Index, without
from corpus.stage import KEEP, Outcome
from store.fs import Folder
from store.schema import KEY

STAGE = "repeated_text"
REASONS = ("too_little_left",)
COLUMNS = {"hash.npy": "<u8", "first_key.npy": "<i8", "n_documents.npy": "<u4"}
DIRECTORY = "directory.npy"


@dataclass(frozen=True)
class RepeatedText:
    """Units that too many documents have.

    Attributes:
        hashes: [n] uint64, rising.
        first: [n] int64 key of the first document.
        directory: [2^b + 1] int64: hashes with the upper b bits u are at directory[u] to directory[u + 1].
    """

    hashes: U64
    first: Index
    directory: Index

    @classmethod
    def read(cls, folder: Folder) -> RepeatedText:
        """The table in an artifact's folder."""
        hashes, first, _ = (_array(folder, name) for name in COLUMNS)
        return cls(cast(U64, hashes), cast(Index, first), cast(Index, _array(folder, DIRECTORY)))

    def open(self, params: RepeatedTextParams) -> OpenStage:
        """The stage that cuts. Texts of which nothing is cut keep their bytes; a batch of such texts is not copied."""
        shift = np.uint64(64 - (len(self.directory) - 1).bit_length() + 1)
        unit = "passage" if params.unit == "window" else params.unit

        def apply(batch: pa.RecordBatch) -> Outcome:
            offsets, data = text_buffers(batch.column("text"))
            keys = batch.column(KEY.name).to_numpy()
            found = marks(offsets, data, params)
            gone = np.zeros(len(found.tiles.ends), np.bool_)
            _mark(found.hashes, keys[found.rows], found.begins, found.ends, self.hashes, self.first, self.directory, shift,
                  params.keep == "first", gone)  # fmt: skip
            n_gone = int(np.count_nonzero(gone))
            if not n_gone:
                return Outcome()
            new, text, chars, runs = without(offsets, data, found.tiles, gone)
            counts = {
                f"repeated/{unit}": int(runs.sum()) if params.unit == "window" else n_gone,
                "repeated/characters": int(chars.sum()), "repeated/documents": int(np.count_nonzero(runs)),
            }  # fmt: skip
            column = text_column(new, text)
            left = pc.utf8_length(column).to_numpy()
            verdict = np.where((runs > 0) & (left < params.min_chars_left), np.int16(0), np.int16(KEEP)).astype(np.int16)
            return Outcome({"text": column}, verdict, left.astype(np.float64), counts)

        return OpenStage(STAGE, REASONS, (), False, apply)


def _array(folder: Folder, name: str) -> npt.NDArray[np.generic]:
    if not folder.is_local:
        return load_npy(folder, name)
    return np.asarray(np.load(folder.path(name), mmap_mode="r", allow_pickle=False))


@njit(cache=True, nogil=True)
def _mark(asked, keys, begins, ends, hashes, first, directory, shift, keep_first, gone):  # type: ignore[no-untyped-def]
    for k in range(len(asked)):
        h = uint64(asked[k])
        at = np.int64(h >> shift)
        i, stop = directory[at], directory[at + 1]
        while i < stop and hashes[i] < h:
            i += 1
        if i < stop and hashes[i] == h and not (keep_first and first[i] == keys[k]):
            for tile in range(begins[k], ends[k]):
                gone[tile] = True
