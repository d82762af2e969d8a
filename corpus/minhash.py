"""Compiled kernels: min-wise hashes over shingles, one hash per band, and an exact hash of the whole text.

Input is simplified text (corpus/simplify.py) as Arrow buffers: words separated by single blanks; shingles are corpus/shingles.py's.

Min-wise hashing after Broder 1997 ("On the resemblance and containment of documents"): the probability that two documents agree in a
minimum is the Jaccard similarity of their shingle sets. The K hash functions are h_k(x) = x1 + c_k x2 modulo 2^32, of the lower and
the upper half of a shingle's 64-bit hash, with distinct random c_k: double hashing (Kirsch and Mitzenmacher 2006, "Less hashing, same
performance: building a better Bloom filter") with random factors in the place of 0, 1, 2, ..., which would make three functions an
arithmetic progression. Over random x each h_k is uniform, and (h_j, h_k) is a bijection of (x1, x2) where c_j - c_k is odd (else all
but as many low bits as c_j - c_k has zeros at its end): two functions are independent, which makes the variance of the estimate the
binomial J(1-J)/K. All 64 bits of a shingle go in, so two texts of one shingle each agree in a band by chance once in 2^64.

A band of r minima becomes one 64-bit hash. ``NEVER`` (all ones) marks a document without shingles and matches nothing. The exact
hash is xxHash64 under two seeds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.intrinsics import PAD, fold, load64
from corpus.lanes import LANES, least_of_pairs
from corpus.shingles import K1, K2, Grams, mix, shingles

NEVER = np.uint64(0xFFFFFFFFFFFFFFFF)

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_LOW = np.uint64(0xFFFFFFFF)


def hash_family(n_hashes: int, seed: int) -> U32:
    """c [n_hashes], distinct: upper halves of SplitMix64 from ``seed``, so the numbers do not depend on any library's version."""
    state = (np.arange(1, 2 * n_hashes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(seed % 2**64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn = ((state ^ (state >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    _, first = np.unique(drawn, return_index=True)  # of twice as many as needed, nearly all are distinct
    return drawn[np.sort(first)[:n_hashes]]


@njit(cache=True, nogil=True)
def _rotate(x, r):  # type: ignore[no-untyped-def]
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@njit(cache=True, nogil=True)
def _round(acc, lane):  # type: ignore[no-untyped-def]
    return _rotate(acc + lane * _P2, 31) * _P1


@njit(cache=True, nogil=True)
def _merge(acc, lane):  # type: ignore[no-untyped-def]
    return (acc ^ _round(np.uint64(0), lane)) * _P1 + _P4


@njit(cache=True, nogil=True)
def xxh64(data, begin, end, seed):  # type: ignore[no-untyped-def]
    """xxHash64 of data[begin:end] (Collet, the specification at github.com/Cyan4973/xxHash); readable up to end + intrinsics.PAD."""
    p = begin
    if end - begin >= 32:
        v1, v2, v3, v4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
        while p <= end - 32:
            v1 = _round(v1, load64(data, p))
            v2 = _round(v2, load64(data, p + 8))
            v3 = _round(v3, load64(data, p + 16))
            v4 = _round(v4, load64(data, p + 24))
            p += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        h = _merge(_merge(_merge(_merge(h, v1), v2), v3), v4)
    else:
        h = seed + _P5
    h += np.uint64(end - begin)
    while p + 8 <= end:
        h = _rotate(h ^ _round(np.uint64(0), load64(data, p)), 27) * _P1 + _P4
        p += 8
    if p + 4 <= end:
        h = _rotate(h ^ ((load64(data, p) & _LOW) * _P1), 23) * _P2 + _P3
        p += 4
    while p < end:
        h = _rotate(h ^ (np.uint64(data[p]) * _P5), 11) * _P1
        p += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True)
def _minima(offsets, data, chars, ngram, factors, units, found, out):  # type: ignore[no-untyped-def]
    for i in range(len(offsets) - 1):
        count = shingles(data, offsets[i], offsets[i + 1], chars, ngram, units, found)
        least_of_pairs(found, count, factors, out[i])


@njit(cache=True, nogil=True)
def _bands(offsets, minima, out):  # type: ignore[no-untyped-def]
    n_bands = out.shape[1]
    rows = minima.shape[1] // n_bands
    for i in range(len(offsets) - 1):
        if offsets[i] == offsets[i + 1]:
            out[i, :] = NEVER
            continue
        for j in range(n_bands):
            h = np.uint64(rows)
            for k in range(j * rows, (j + 1) * rows - 1, 2):
                h = fold((np.uint64(minima[i, k]) | (np.uint64(minima[i, k + 1]) << np.uint64(32))) ^ K1, h ^ K2)
            if rows % 2:
                h = fold(np.uint64(minima[i, (j + 1) * rows - 1]) ^ K1, h ^ K2)
            h = mix(h)
            out[i, j] = h - np.uint64(1) if h == NEVER else h


@njit(cache=True, nogil=True)
def _exact(offsets, data, out):  # type: ignore[no-untyped-def]
    for i in range(len(offsets) - 1):
        if offsets[i] == offsets[i + 1]:
            out[i, :] = NEVER
        else:
            out[i, 0] = xxh64(data, offsets[i], offsets[i + 1], np.uint64(0))
            out[i, 1] = xxh64(data, offsets[i], offsets[i + 1], _P3)


def minima(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], grams: Grams, factors: U32) -> U32:
    """[n, K] minima of n simplified texts under K hash functions (hash_family); all ones for a text without a word.

    Memory: 4 bytes per document and function, and 8 per byte of the longest text (of characters: 16).
    """
    n, k = len(offsets) - 1, len(factors)
    out = np.full((n, -(-k // LANES) * LANES), 0xFFFFFFFF, np.uint32)
    longest = int(np.diff(offsets).max(initial=0))
    units, found = grams.room(longest), grams.room(longest)
    lanes = np.zeros(out.shape[1], np.uint32)
    lanes[:k] = factors
    _minima(offsets, padded(data, int(offsets[-1])), grams.chars, grams.n, lanes, units, found, out)
    return np.ascontiguousarray(out[:, :k])


def bands_of(offsets: npt.NDArray[np.int64], least: U32, n_bands: int) -> U64:
    """[n, n_bands] band hashes of minima [n, K], K a multiple of n_bands. NEVER for a text without a word."""
    out = np.empty((len(least), n_bands), np.uint64)
    _bands(offsets, least, out)
    return out


def band_hashes(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], grams: Grams, factors: U32, n_bands: int) -> U64:
    """[n, n_bands]: bands_of the minima."""
    return bands_of(offsets, minima(offsets, data, grams, factors), n_bands)


def exact_hashes(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> U64:
    """[n, 2]: 128 bits of each simplified text, as xxHash64 under two seeds. NEVER, NEVER for an empty text."""
    out = np.empty((len(offsets) - 1, 2), np.uint64)
    _exact(offsets, padded(data, int(offsets[-1])), out)
    return out


def padded(data: npt.NDArray[np.uint8], end: int) -> npt.NDArray[np.uint8]:
    """``data`` with at least intrinsics.PAD bytes behind ``end``: itself if it has them (simplify's output does), else a copy."""
    return data if len(data) >= end + PAD else np.concatenate([data[:end], np.zeros(PAD, np.uint8)])
