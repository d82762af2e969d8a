"""64-bit hashes of n-grams of words or of characters (shingles) of simplified text, straight from its bytes.

A word is hashed by multiplying and folding (the exclusive-or of the two halves of a 128-bit product, the step of wyhash by Wang Yi,
public domain): h = fold(A ^ K1, B ^ K2) of its first eight bytes A and the next eight B, filled with zeros, then h <- fold(C ^ K1,
h ^ K2) for every eight bytes C that follow. Words have no zero bytes, so no two words have the same blocks; and a factor of zero would
take bytes that are not UTF-8. Most words cost one product and no branch that could be foretold wrongly: where they end is read from a
map of the blanks of 64 bytes. A character is hashed as the word that consists of it.

A shingle of units u1 ... un is the finaliser of MurmurHash3 over u1 B^(n-1) + ... + un modulo 2^64. Two different shingles of ordinary
text are equal with probability about 2^-64; text made on purpose can collide, which would raise one estimate of similarity and harm
nobody else's.

A document of fewer than n units has one shingle, all of it; an empty one has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import njit
from numpy import uint64

from corpus.intrinsics import fold, load64, trailing_zeros
from corpus.lanes import blanks64

K0, K1, K2 = uint64(0xA0761D6478BD642F), uint64(0xE7037ED1A0B428DB), uint64(0x8EBC6AF09C88C6E3)
BASE = uint64(0x9E3779B97F4A7C15)
"""Base of the polynomial over units; odd, so that multiplication loses nothing."""
_M1, _M2 = uint64(0xFF51AFD7ED558CCD), uint64(0xC4CEB9FE1A85EC53)
_1, _33 = uint64(1), uint64(33)
_LOWEST = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of the lowest n bytes of eight."""


@dataclass(frozen=True)
class Grams:
    """What a shingle is made of: ``n`` words, or ``n`` code points (blanks included) of the simplified text."""

    n: int
    unit: Literal["word", "char"] = "word"

    def __str__(self) -> str:
        return f"{'character' if self.chars else 'word'} {self.n}-grams"

    @property
    def chars(self) -> bool:
        """Whether units are code points."""
        return self.unit == "char"

    def room(self, size_bytes: int) -> npt.NDArray[np.uint64]:
        """An array for the most units, and shingles, that a simplified text of ``size_bytes`` can have."""
        return np.empty(size_bytes if self.chars else size_bytes // 2 + 1, np.uint64)


@njit(cache=True, nogil=True, inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """The finaliser of MurmurHash3: a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> _33)) * _M1
    x = (x ^ (x >> _33)) * _M2
    return x ^ (x >> _33)


@njit(cache=True, nogil=True)
def base_power(n):  # type: ignore[no-untyped-def]
    """BASE to the power of n, modulo 2^64."""
    power = uint64(1)
    for _ in range(n):
        power *= BASE
    return power


@njit(cache=True, nogil=True, inline="always")
def _unit(data, p, end):  # type: ignore[no-untyped-def]
    """Hash of data[p:end], at least one byte; readable up to end + intrinsics.PAD."""
    size = end - p
    h = fold((load64(data, p) & _LOWEST[min(size, 8)]) ^ K1, (load64(data, p + 8) & _LOWEST[min(max(size - 8, 0), 8)]) ^ K2)
    for at in range(p + 16, end, 8):
        h = fold((load64(data, at) & _LOWEST[min(end - at, 8)]) ^ K1, h ^ K2)
    return h


@njit(cache=True, nogil=True, inline="always")
def word_map(data, at, end):  # type: ignore[no-untyped-def]
    """Bit i is set where a word ends at data[at + i], for 64 bytes: at a blank, and at ``end``; no bit behind it. at <= end."""
    ends = blanks64(data, at)
    if end - at < 64:
        last = _1 << uint64(end - at)
        ends = (ends & (last - _1)) | last
    return ends


@njit(cache=True, nogil=True)
def _words(data, begin, end, out):  # type: ignore[no-untyped-def]
    """Write the hash of every word of data[begin:end], which is not empty, and return their number."""
    count, p = 0, begin
    for at in range(begin, end + 1, 64):
        ends = word_map(data, at, end)
        while ends != 0:
            q = at + trailing_zeros(ends)
            ends &= ends - _1
            out[count] = _unit(data, p, q)
            count += 1
            p = q + 1
    return count


@njit(cache=True, nogil=True, inline="always")
def char_size(lead):  # type: ignore[no-untyped-def]
    """Bytes of the UTF-8 sequence that begins with ``lead``."""
    return 1 + np.int64(lead >= 0xC0) + np.int64(lead >= 0xE0) + np.int64(lead >= 0xF0)


@njit(cache=True, nogil=True)
def _chars(data, begin, end, out):  # type: ignore[no-untyped-def]
    """Write the hash of every code point of data[begin:end] and return their number."""
    count, p = 0, begin
    while p < end:
        size = char_size(data[p])
        out[count] = fold((load64(data, p) & _LOWEST[size]) ^ K1, K2)
        count += 1
        p += size
    return count


@njit(cache=True, nogil=True)
def shingles(data, begin, end, chars, ngram, units, out):  # type: ignore[no-untyped-def]
    """Write the shingles of data[begin:end] to out and return their number.

    Args:
        data: simplified text as uint8, words separated by single blanks, readable up to end + intrinsics.PAD.
        chars, ngram: units are code points, not words; units per shingle.
        units, out: uint64 with room for every unit (Grams.room).
    """
    if begin == end:
        return 0
    n_units = _chars(data, begin, end, units) if chars else _words(data, begin, end, units)
    n = min(ngram, n_units)
    count = n_units - n + 1
    # Unit by unit over all shingles, which vectorises: eight products at once beat the two of a rolling hash up to about n = 16.
    if n <= 16:
        for i in range(count):
            out[i] = units[i]
        for j in range(1, n):
            for i in range(count):
                out[i] = out[i] * BASE + units[i + j]
    else:
        _roll(units, n, count, out)
    for i in range(count):
        out[i] = mix(out[i])
    return count


@njit(cache=True, nogil=True)
def _roll(units, n, count, out):  # type: ignore[no-untyped-def]
    """The same polynomials, one after the other."""
    leaving = base_power(n)
    rolled = uint64(0)
    for i in range(n):
        rolled = rolled * BASE + units[i]
    out[0] = rolled
    for i in range(1, count):
        rolled = rolled * BASE + units[i + n - 1] - units[i - 1] * leaving
        out[i] = rolled
