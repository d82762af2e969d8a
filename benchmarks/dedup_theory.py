"""Do the bands meet as often as min-wise hashing says they must? Pairs of random texts of known similarity, through the real kernel.

Two texts of n different words each have c of them in common, so that J = c / (2 n - c); shingles are single words. The probability to
meet in one of b bands of r minima is 1 - (1 - J^r)^b for a family that is min-wise independent; the share of the b r minima that agree
has variance J (1 - J) / (b r). With 30,000 pairs a share near one half has a standard error of 0.0029.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.intrinsics import PAD
from corpus.minhash import bands_of, hash_family, minima
from corpus.shingles import Grams

LETTERS = 7
CHUNK_WORDS = 4_000_000


@dataclass(frozen=True)
class Meeting:
    """What was measured of pairs of one size and similarity.

    Attributes:
        jaccard: exact similarity of every pair.
        recall, expected: share of pairs that met in a band, and what theory says.
        variance_ratio: variance of the share of equal minima over J (1 - J) / K.
        bias: mean share of equal minima minus J.
    """

    n_shingles: int
    jaccard: float
    n_pairs: int
    recall: float
    expected: float
    variance_ratio: float
    bias: float


def meeting(n_shingles: int, jaccard: float, n_pairs: int, buckets: int = 14, rows: int = 8, seed: int = 1) -> Meeting:
    """Measure pairs of texts of n_shingles words each, at the similarity nearest to ``jaccard`` that they can have."""
    common = round(2 * n_shingles * jaccard / (1 + jaccard))
    exact = common / (2 * n_shingles - common)
    factors = hash_family(buckets * rows, seed)
    random = np.random.default_rng([n_shingles, common, seed])
    met: list[npt.NDArray[np.bool_]] = []
    equal: list[npt.NDArray[np.float64]] = []
    at_once = max(1, CHUNK_WORDS // n_shingles)
    for begin in range(0, n_pairs, at_once):
        offsets, data = pairs_of_texts(random, min(at_once, n_pairs - begin), n_shingles, common)
        least = minima(offsets, data, Grams(1), factors)
        bands = bands_of(offsets, least, buckets)
        met.append((bands[0::2] == bands[1::2]).any(axis=1))
        equal.append((least[0::2] == least[1::2]).mean(axis=1))
    share = np.concatenate(equal)
    variance = exact * (1 - exact) / (buckets * rows)
    return Meeting(n_shingles, exact, n_pairs, float(np.concatenate(met).mean()), 1 - (1 - exact**rows) ** buckets,
                   float(share.var() / variance), float(share.mean() - exact))  # fmt: skip


def pairs_of_texts(
    random: np.random.Generator, n_pairs: int, n_words: int, common: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """(offsets [2 n_pairs + 1], bytes): texts of n_words words of LETTERS letters; pairs share their first ``common`` words."""
    words = random.integers(97, 123, (2 * n_pairs, n_words, LETTERS + 1), dtype=np.uint8)
    words[1::2, :common] = words[0::2, :common]
    words[:, :, LETTERS] = 32
    size = n_words * (LETTERS + 1)
    # The last blank is no part of a text.
    data = np.concatenate([words.reshape(2 * n_pairs, size)[:, : size - 1].ravel(), np.zeros(PAD, np.uint8)])
    return np.arange(2 * n_pairs + 1, dtype=np.int64) * (size - 1), data
