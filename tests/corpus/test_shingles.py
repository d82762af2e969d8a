"""Hashes of structured units collide as random ones would; a machine of narrower registers gets the same numbers."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from corpus.columns import text_buffers
from corpus.dedup.similarity import shingle_sets
from corpus.minhash import band_hashes, hash_family, padded
from corpus.shingles import Grams

N = 400_000
KINDS = {
    "numbers": "{0}",
    "block by block": "{0:08x}{0:08x}",
    "end of the first block": "abcdefgh{0:08x}",
    "end of a long word": "verwaltungsgericht{0:x}",
    "two words": "w{1:x} w{2:x}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_hashes_of_structured_words_collide_as_random_ones(kind: str) -> None:
    """The upper halves, which verification keeps: N^2 / 2^33 of N random 32-bit numbers are equal to another."""
    offsets, data = buffers([KINDS[kind].format(i, i % 625, i // 625) for i in range(N)])
    _, values = shingle_sets(offsets, padded(data, int(offsets[-1])), Grams(5))
    expected = N * N / 2**33
    assert abs(N - len(np.unique(values)) - expected) < 5 * np.sqrt(expected)


def test_characters_are_code_points_and_blanks_count() -> None:
    def sets(text: str, n: int) -> set[int]:
        offsets, data = buffers([text])
        return set(shingle_sets(offsets, padded(data, int(offsets[-1])), Grams(n, "char"))[1].tolist())

    assert len(sets("aß€𝒜b", 2)) == 4 and len(sets("abab", 2)) == 2 and len(sets("ab", 9)) == 1
    assert sets("ab c", 3) & sets("b cd", 3) == sets("b c", 3) and not sets("abc", 3) & sets("ab c", 3)


def digest() -> str:
    """Of signatures of all kinds; other processes print it."""
    texts = [" ".join(f"wört{i * j % 97:0{1 + i % 23}d}" for j in range(i)) for i in range(150)]
    found = [band_hashes(*buffers(texts), Grams(n, unit), hash_family(k, 3), 4) for n, unit, k in ((5, "word", 112), (20, "char", 60))]
    return hashlib.sha256(b"".join(f.tobytes() for f in found)).hexdigest()


@pytest.mark.slow
def test_a_machine_without_wide_registers_gets_the_same_numbers(tmp_path) -> None:
    code = f"import sys, runpy; sys.path.insert(0, '.'); print(runpy.run_path({__file__!r})['digest']())"
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))
