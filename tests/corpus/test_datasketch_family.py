"""Hash values and similarities against datasketch itself; SHA-1 against hashlib."""

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import LeanMinHash, MinHash
from datasketch.hashfunc import sha1_hash32 as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus import datasketch_family
from corpus.columns import text_buffers
from corpus.minhash import NEVER
from corpus.signature import Signature
from corpus.simplify import simplify

TEXT = st.text(st.characters(codec="utf-8"), max_size=120)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_sha1_is_hashlibs(data: bytes) -> None:
    found = datasketch_family.sha1_hash32(np.frombuffer(b"xy" + data, np.uint8), 2, 2 + len(data), np.empty(16, np.uint64))
    assert int(found) == theirs(data) == int.from_bytes(hashlib.sha1(data).digest()[:4], "little")


@pytest.mark.parametrize("size", [54, 55, 56, 63, 64, 119, 120, 128, 1000])
def test_sha1_of_messages_about_the_length_of_its_blocks(size: int) -> None:
    data = np.arange(size, dtype=np.uint64).astype(np.uint8)
    assert int(datasketch_family.sha1_hash32(data, 0, size, np.empty(16, np.uint64))) == theirs(data.tobytes())


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
def test_functions_are_datasketchs(seed: int) -> None:
    a, b = datasketch_family.permutations(200, seed)
    assert np.array_equal(MinHash(200, seed=seed).permutations, np.array([a, b])) and a.dtype == b.dtype == np.uint32


@pytest.mark.parametrize("unit", ["word", "char"])
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=4), ngram=st.integers(1, 7), n_hashes=st.integers(1, 40), seed=st.integers(0, 2**32 - 1)
)
def test_minima_are_datasketchs_on_random_unicode(unit: str, texts: list[str], ngram: int, n_hashes: int, seed: int) -> None:
    stage = Signature(unit=unit, ngram=ngram, buckets=1, hashes_per_bucket=n_hashes, seed=seed, family="datasketch", keep_minima=True)
    columns = stage.open({})(pa.record_batch({"text": pa.array(texts, pa.large_string())})).columns
    for text, minima, band in zip(simplified(texts), columns["minima"].to_pylist(), columns["band_000"].to_pylist(), strict=True):
        sketch = sketch_of(text, unit, ngram, n_hashes, seed)
        assert minima == sketch.hashvalues.tolist()
        assert sketch.is_empty() == (band == int(NEVER)) == (text == "")


def test_similarities_are_datasketchs() -> None:
    random = np.random.default_rng(0)
    words = np.array(["".join(chr(97 + c) for c in w) for w in random.integers(0, 26, (400, 9))])
    texts = [" ".join(words[a : a + 200]) for a in (0, 5, 20, 100)]
    stage = Signature(family="datasketch", keep_minima=True, seed=7)
    columns = stage.open({})(pa.record_batch({"text": pa.array(texts, pa.large_string())})).columns
    ours = [LeanMinHash(seed=7, hashvalues=m, scheme=datasketch_family.SCHEME) for m in columns["minima"].to_pylist()]
    sketches = [sketch_of(t, "word", 5, 112, 7) for t in texts]
    for mine in ours:
        assert [mine.jaccard(s) for s in sketches] == [mine.jaccard(o) for o in ours]
    assert all(mine == LeanMinHash(sketch) for mine, sketch in zip(ours, sketches, strict=True))
    assert ours[0].jaccard(sketches[1]) > 0.8 > ours[0].jaccard(sketches[3])


def test_a_seed_that_datasketch_cannot_have_is_refused() -> None:
    assert Signature(seed=2**32).seed == 2**32
    with pytest.raises(ValidationError, match="at most 4294967295"):
        Signature(seed=2**32, family="datasketch")


def sketch_of(text: str, unit: str, ngram: int, n_hashes: int, seed: int) -> MinHash:
    """datasketch's own, of the n-grams of a simplified text."""
    made = MinHash(num_perm=n_hashes, seed=seed, hashfunc=theirs)
    units = list(text) if unit == "char" else text.split(" ") if text else []
    between = "" if unit == "char" else " "
    grams = {between.join(units[i : i + ngram]) for i in range(max(1, len(units) - ngram + 1))} if units else set()
    made.update_batch([g.encode() for g in grams])
    return made


def simplified(texts: list[str]) -> list[str]:
    offsets, data = simplify(*text_buffers(pa.array(texts, pa.large_string())))
    return [bytes(data[a:b]).decode() for a, b in pairwise(offsets)]
