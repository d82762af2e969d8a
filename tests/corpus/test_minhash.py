"""Kernels against xxhash, against a reference in plain Python, and against the theory of min-wise hashing."""

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.columns import text_buffers
from corpus.intrinsics import PAD
from corpus.minhash import NEVER, band_hashes, bands_of, exact_hashes, hash_family, minima, padded, xxh64
from corpus.shingles import Grams

WORD = st.text("abcdefghijäöü0𝒜", min_size=1, max_size=40)
MASK = 2**64 - 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, MASK))
def test_xxh64_is_xxhash(data: bytes, seed: int) -> None:
    text = np.frombuffer(b"xyz" + data + b"x" * PAD, np.uint8)
    assert int(xxh64(text, 3, len(text) - PAD, np.uint64(seed))) == xxhash.xxh64_intdigest(data, seed)


@pytest.mark.parametrize("unit", ["word", "char"])
@settings(max_examples=100, deadline=None)
@given(
    documents=st.lists(st.lists(WORD, max_size=12), min_size=1, max_size=4),
    ngram=st.integers(1, 20),
    n_bands=st.integers(1, 40),
    rows=st.integers(1, 5),
    seed=st.integers(0, 2**64),
)
def test_bands_equal_the_reference(unit: str, documents: list[list[str]], ngram: int, n_bands: int, rows: int, seed: int) -> None:
    texts = [" ".join(d) for d in documents]
    factors = hash_family(n_bands * rows, seed)
    least = minima(*buffers(texts), Grams(ngram, unit), factors)
    wanted = [reference(units(t, unit), ngram, factors.tolist()) for t in texts]
    assert least.tolist() == wanted
    bands = bands_of(buffers(texts)[0], least, n_bands)
    assert bands.tolist() == [
        [band(m[i * rows : (i + 1) * rows]) if t else int(NEVER) for i in range(n_bands)] for t, m in zip(texts, wanted, strict=True)
    ]


@pytest.mark.parametrize("unit", ["word", "char"])
def test_a_text_is_signed_alike_whatever_lies_around_it(unit: str) -> None:
    """Ends of words at every place of the 64-byte blocks, another text right behind, texts that end with the buffer."""
    factors = hash_family(16, 1)
    texts = [" ".join("ab" * (1 + i % 7) for i in range(n)) + "c" * n for n in range(1, 140)]
    together = minima(*buffers(texts), Grams(3, unit), factors)
    alone = [minima(*buffers([t]), Grams(3, unit), factors)[0].tolist() for t in texts]
    assert together.tolist() == alone == [reference(units(t, unit), 3, factors.tolist()) for t in texts]


def test_the_hash_family_is_frozen() -> None:
    # SplitMix64 from state 1: upper halves of the first four outputs of the reference implementation.
    assert hash_family(4, 1).tolist() == [0x910A2DEC, 0xBEEB8DA1, 0xF893A2EE, 0x71C18690]


def test_hash_functions_are_distinct() -> None:
    factors = hash_family(200_000, 5)  # of so many random 32-bit numbers about five are drawn twice
    assert len(set(factors.tolist())) == len(factors) == 200_000


def test_minima_agree_as_often_as_the_theory_says() -> None:
    n_pairs, k = 3000, 112
    least = minima(*buffers(pairs_of_similarity(0.8, n_pairs)), Grams(1), hash_family(k, 1))
    agreement = (least[0::2] == least[1::2]).mean(axis=1)
    assert abs(agreement.mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / k / n_pairs)
    # Binomial variance, a little below it for 100 shingles drawn without replacement; 0.85 to 1.15 is four standard errors.
    assert 0.85 < agreement.var() / (0.8 * 0.2 / k) < 1.15


def test_bands_meet_as_often_as_the_theory_says() -> None:
    factors = hash_family(112, 1)
    for similarity, n_pairs in ((0.5, 3000), (0.7, 3000), (0.8, 3000), (0.9, 3000)):
        bands = band_hashes(*buffers(pairs_of_similarity(similarity, n_pairs)), Grams(1), factors, 14)
        met = (bands[0::2] == bands[1::2]).any(axis=1).mean()
        theory = 1 - (1 - similarity**8) ** 14
        assert abs(met - theory) < 4.5 * np.sqrt(theory * (1 - theory) / n_pairs) + 0.002, similarity


def test_short_texts_do_not_meet_by_chance() -> None:
    """A text of one shingle brings all its 64 bits: of 300,000 of them, none meet (32 bits would let ten pairs meet in every band)."""
    texts = [f"wort {i:x}" for i in range(300_000)]
    bands = band_hashes(*buffers(texts), Grams(5), hash_family(112, 1), 14)
    assert all(len(np.unique(bands[:, j])) == len(texts) for j in range(14))


def test_exact_hashes_are_two_seeds_of_xxhash() -> None:
    found = exact_hashes(*buffers(["ein text", "ein text", "ein texu", ""]))
    assert found[0].tolist() == found[1].tolist() != found[2].tolist()
    assert int(found[0, 0]) == xxhash.xxh64_intdigest("ein text", 0)
    assert int(found[0, 1]) == xxhash.xxh64_intdigest("ein text", 0x165667B19E3779F9)
    assert (found[3] == NEVER).all()


def test_a_buffer_without_room_behind_it_is_copied_and_one_with_room_is_not() -> None:
    tight = np.arange(PAD + 12, dtype=np.uint8)
    assert padded(tight, 12) is tight
    assert padded(tight, 13).tolist() == [*range(13), *[0] * PAD]


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))


def pairs_of_similarity(similarity: float, n_pairs: int) -> list[str]:
    """Texts in pairs: 180 different words in all, round(180 J) of them in both, the rest in one of the two."""
    texts, common = [], round(180 * similarity)
    for pair in range(n_pairs):
        words = [f"w{pair}x{i}" for i in range(180)]
        texts += [" ".join(words[:common] + words[common + side :: 2]) for side in (0, 1)]
    return texts


def units(text: str, unit: str) -> list[str]:
    return list(text) if unit == "char" else text.split()


def reference(found: list[str], n: int, factors: list[int]) -> list[int]:
    """Minima as corpus/minhash.py defines them, over the distinct n-grams of units."""
    grams = {tuple(found[i : i + n]) for i in range(max(1, len(found) - n + 1))} if found else set()
    hashes = [shingle(g) for g in grams]
    return [min((((h & 0xFFFFFFFF) + c * (h >> 32)) & 0xFFFFFFFF for h in hashes), default=0xFFFFFFFF) for c in factors]


def shingle(gram: tuple[str, ...]) -> int:
    """The definition in corpus/shingles.py, in Python's integers."""
    rolled = 0
    for unit in gram:
        data = unit.encode()
        first, second, *rest = [int.from_bytes(data[at : at + 8], "little") for at in range(0, max(16, len(data)), 8)]
        h = fold(first ^ 0xE7037ED1A0B428DB, second ^ 0x8EBC6AF09C88C6E3)
        for block in rest:
            h = fold(block ^ 0xE7037ED1A0B428DB, h ^ 0x8EBC6AF09C88C6E3)
        rolled = (rolled * 0x9E3779B97F4A7C15 + h) & MASK
    return mixed(rolled)


def fold(a: int, b: int) -> int:
    return (a * b >> 64) ^ (a * b & MASK)


def mixed(h: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = ((h ^ (h >> 33)) * factor) & MASK
    return h ^ (h >> 33)


def band(least: list[int]) -> int:
    h = len(least)
    for low, high in zip(least[0::2], [*least[1::2], 0] if len(least) % 2 else least[1::2], strict=True):
        h = fold((low | high << 32) ^ 0xE7037ED1A0B428DB, h ^ 0x8EBC6AF09C88C6E3)
    return mixed(h)
