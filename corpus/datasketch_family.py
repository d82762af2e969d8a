"""The hash functions of datasketch, so that its sketches and ours can be compared: MinHash(num_perm, seed, scheme="affine32").

A shingle is what datasketch would be given: the bytes of its words joined by blanks (or of its characters), hashed by SHA-1
(FIPS 180-4), of which the first four bytes count, little end first. From datasketch 2.0 on that number goes through the finaliser of
MurmurHash3 for 32 bits, and function k is a_k h + b_k modulo 2^32, a_k odd, drawn by numpy's RandomState, whose stream is frozen
(NEP 19). The minima are equal to datasketch's, number by number; a test compares them. Sketches of datasketch before 2.0 are of other
functions (scheme "legacy").

What it costs: SHA-1 makes it tens of times slower than the family of corpus/minhash.py, and only 32 bits of a shingle go in, so that
two texts of one shingle each are taken for copies once in 2^32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit
from numpy import uint64

from corpus.intrinsics import trailing_zeros
from corpus.lanes import LANES, least_of_products
from corpus.shingles import Grams, char_size, word_map

U32 = npt.NDArray[np.uint32]

SCHEME = "affine32"
"""datasketch's name of the scheme, which its LeanMinHash asks for."""
MAX_SEED = 2**32 - 1

_MASK, _1, _LAST = uint64(0xFFFFFFFF), uint64(1), uint64(0x80)
_START = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0], np.uint64)
_K = np.array([0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6], np.uint64)


def permutations(n_hashes: int, seed: int) -> tuple[U32, U32]:
    """(a [n], b [n]) as datasketch draws them; ``seed`` at most MAX_SEED."""
    random = np.random.RandomState(seed)
    a = random.randint(0, 2**31, n_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, random.randint(0, 2**32, n_hashes, dtype=np.uint32)


def minima(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], grams: Grams, a: U32, b: U32) -> U32:
    """[n, K] hash values of n simplified texts; all ones, datasketch's empty sketch, for a text without a word.

    ``data`` must be readable up to intrinsics.PAD behind the last text. Memory: as minhash.minima.
    """
    n, k = len(offsets) - 1, len(a)
    out = np.full((n, -(-k // LANES) * LANES), 0xFFFFFFFF, np.uint32)
    factor, offset = np.zeros((2, out.shape[1]), np.uint32)
    factor[:k], offset[:k] = a, b
    room = len(grams.room(int(np.diff(offsets).max(initial=0)))) + 1
    bounds, found = np.empty((2, room), np.int64), np.empty(room, np.uint64)
    _minima(offsets, data, grams.chars, grams.n, factor, offset, bounds, found, out)
    return np.ascontiguousarray(out[:, :k])


@njit(cache=True, nogil=True)
def _minima(offsets, data, chars, ngram, factor, offset, bounds, found, out):  # type: ignore[no-untyped-def]
    words = np.empty(16, np.uint64)
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        if begin == end:
            continue
        n_units = _chars(data, begin, end, bounds) if chars else _words(data, begin, end, bounds)
        n = min(ngram, n_units)
        count = n_units - n + 1
        for s in range(count):
            h = sha1_hash32(data, bounds[0, s], bounds[1, s + n - 1], words)
            found[s] = _mix32(h) << uint64(32)
        least_of_products(found, count, factor, offset, out[i])


@njit(cache=True, nogil=True)
def _words(data, begin, end, bounds):  # type: ignore[no-untyped-def]
    """Write where the words of data[begin:end] begin and end, and return their number."""
    count, p = 0, begin
    for at in range(begin, end + 1, 64):
        ends = word_map(data, at, end)
        while ends != 0:
            bounds[0, count], bounds[1, count] = p, at + trailing_zeros(ends)
            p = bounds[1, count] + 1
            count += 1
            ends &= ends - _1
    return count


@njit(cache=True, nogil=True)
def _chars(data, begin, end, bounds):  # type: ignore[no-untyped-def]
    """The same of code points."""
    count, p = 0, begin
    while p < end:
        bounds[0, count] = p
        p += char_size(data[p])
        bounds[1, count] = p
        count += 1
    return count


@njit(cache=True, nogil=True, inline="always")
def _mix32(h):  # type: ignore[no-untyped-def]
    """The finaliser of MurmurHash3 for 32 bits, of a uint64 below 2^32."""
    h = ((h ^ (h >> uint64(16))) * uint64(0x85EBCA6B)) & _MASK
    h = ((h ^ (h >> uint64(13))) * uint64(0xC2B2AE35)) & _MASK
    return h ^ (h >> uint64(16))


@njit(cache=True, nogil=True, inline="always")
def _left(x, r):  # type: ignore[no-untyped-def]
    return ((x << uint64(r)) | (x >> uint64(32 - r))) & _MASK


@njit(cache=True, nogil=True)
def sha1_hash32(data, begin, end, words):  # type: ignore[no-untyped-def]
    """The first four bytes of the SHA-1 of data[begin:end], little end first; ``words`` is [16] uint64 scratch."""
    size = end - begin
    h0, h1, h2, h3, h4 = _START[0], _START[1], _START[2], _START[3], _START[4]
    for block in range(0, size + 9, 64):
        _fill(data, begin, size, block, words)
        a, b, c, d, e = h0, h1, h2, h3, h4
        for t in range(80):
            if t >= 16:
                words[t & 15] = _left(words[(t - 3) & 15] ^ words[(t - 8) & 15] ^ words[(t - 14) & 15] ^ words[t & 15], 1)
            if t < 20:
                f = (b & c) | ((b ^ _MASK) & d)
            elif t < 40 or t >= 60:
                f = b ^ c ^ d
            else:
                f = (b & c) | (b & d) | (c & d)
            a, b, c, d, e = (_left(a, 5) + f + e + _K[t // 20] + words[t & 15]) & _MASK, a, _left(b, 30), c, d
        h0, h1, h2, h3, h4 = (h0 + a) & _MASK, (h1 + b) & _MASK, (h2 + c) & _MASK, (h3 + d) & _MASK, (h4 + e) & _MASK
    swapped = ((h0 & uint64(0x00FF00FF)) << uint64(8)) | ((h0 >> uint64(8)) & uint64(0x00FF00FF))
    return ((swapped << uint64(16)) & _MASK) | (swapped >> uint64(16))


@njit(cache=True, nogil=True)
def _fill(data, begin, size, block, words):  # type: ignore[no-untyped-def]
    """The sixteen 32-bit words of the block that begins at byte ``block``: bytes, 0x80, zeros, and at the end the length in bits."""
    for w in range(16):
        word = uint64(0)
        for at in range(block + 4 * w, block + 4 * w + 4):
            byte = uint64(data[begin + at]) if at < size else (_LAST if at == size else uint64(0))
            word = (word << uint64(8)) | byte
        words[w] = word
    if block + 64 >= size + 9:  # the length fits into this block: it is the last
        words[14], words[15] = uint64(size) >> uint64(29), (uint64(size) << uint64(3)) & _MASK
