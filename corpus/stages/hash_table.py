"""An open-addressing hash table over arrays that a kernel keeps from one document to the next, and two byte counts.

A table is two arrays of a power-of-two size: ``keys`` (uint64) and ``stamps`` (int32). A slot is taken if it bears the current stamp,
so raising the stamp empties the table without touching it. Only the part a document needs is used: ``mask`` is that part's size - 1.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def mixed(value):  # type: ignore[no-untyped-def]
    """Bits of a polynomial hash spread over the word (the finaliser of MurmurHash3)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(nogil=True, cache=True)
def table_mask(n_items):  # type: ignore[no-untyped-def]
    """Size - 1 of a table at most half full with ``n_items``."""
    size = 16
    while size < 2 * n_items:
        size *= 2
    return size - 1


@numba.njit(nogil=True, cache=True)
def find_slot(keys, stamps, stamp, mask, key):  # type: ignore[no-untyped-def]
    """(slot, whether the key was there). The caller marks a new slot by ``keys[slot] = key; stamps[slot] = stamp``.

    A slot is occupied if it bears the current stamp, so a table need not be cleared between uses.
    """
    slot = np.int64(mixed(key) & np.uint64(mask))
    while stamps[slot] == stamp:
        if keys[slot] == key:
            return slot, True
        slot = (slot + 1) & mask
    return slot, False


@numba.njit(nogil=True, cache=True)
def count_chars(data, begin, end):  # type: ignore[no-untyped-def]
    n = 0
    for k in range(begin, end):
        n += (data[k] & 0xC0) != 0x80
    return n


@numba.njit(nogil=True, cache=True)
def count_byte(data, begin, end, byte):  # type: ignore[no-untyped-def]
    n = 0
    for k in range(begin, end):
        n += data[k] == byte
    return n
