"""fastText's hashes: FNV-1a of a token's signed bytes, and what word n-grams and buckets make of it. Compiled."""

from __future__ import annotations

import numba
import numpy as np

from corpus.fasttext.memory import high_product, signed_byte_at, word_at

FNV_BEGIN, FNV_PRIME = np.uint64(2166136261), np.uint64(16777619)
LOW_32 = np.uint64(0xFFFFFFFF)
WITHOUT_PADDING = np.array([pow(16777619, -k, 1 << 32) for k in range(33)], np.uint64)
"""Entry k times the hash of bytes and k NULs is the hash without them: a NUL multiplies by the prime, and odd numbers have inverses."""
NGRAM_FACTOR = np.uint64(116049371)


@numba.njit(nogil=True, cache=True, forceinline=True)
def fnv(value, byte):  # type: ignore[no-untyped-def]
    """One step of fastText's 32-bit hash: the low half of what it returns. ``byte`` is signed_byte_at's: bytes count as signed, which a
    long-ago compiler settled. The upper half is left to whoever needs it gone: the next step waits for this one's every operation."""
    return (value ^ np.uint64(byte)) * FNV_PRIME


@numba.njit(nogil=True, cache=True, forceinline=True)
def hash_token(begin, end):  # type: ignore[no-untyped-def]
    """Hash of the bytes from begin to end, as dictionary entries and word n-grams use it: below 2^32."""
    value = FNV_BEGIN
    for at in range(begin, end):
        value = fnv(value, signed_byte_at(at))
    return value & LOW_32


@numba.njit(nogil=True, cache=True, forceinline=True)
def hash_padded(begin, n_bytes):  # type: ignore[no-untyped-def]
    """hash_token of the n_bytes <= 32 at ``begin``, behind which NULs fill 32: loops of fixed length, whose end nobody has to guess."""
    value, n_padded = FNV_BEGIN, 16
    for k in range(16):
        value = fnv(value, signed_byte_at(begin + k))
    if n_bytes > 16:
        n_padded = 32
        for k in range(16, 32):
            value = fnv(value, signed_byte_at(begin + k))
    return value * WITHOUT_PADDING[n_padded - n_bytes] & LOW_32


@numba.njit(nogil=True, cache=True, forceinline=True)
def signed_word(value):  # type: ignore[no-untyped-def]
    """A token's hash as it enters fastText's 64-bit product: with its sign."""
    return np.uint64(np.int64(np.int32(value)))


@numba.njit(nogil=True, cache=True, forceinline=True)
def remainder64(value, divisor, share):  # type: ignore[no-untyped-def]
    """value % divisor of two uint64; share = (2^64 - 1) // divisor. The quotient found with it is right or one too small."""
    rest = value - high_product(value, share) * divisor
    return rest - divisor if rest >= divisor else rest


@numba.njit(nogil=True, cache=True, forceinline=True)
def equal_bytes(one, other, n):  # type: ignore[no-untyped-def]
    """Whether the n bytes at two addresses are equal; seven more can be read behind both."""
    k = 0
    while k + 8 <= n:
        if word_at(one + k) != word_at(other + k):
            return False
        k += 8
    return n == k or (word_at(one + k) ^ word_at(other + k)) << np.uint64(8 * (8 - (n - k))) == 0
