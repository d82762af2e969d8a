"""The table of tokens whose sums are known, for ``tally``: two slots may hold a token, its home and the one that is second to it.

A newcomer goes to the second slot, whoever is there; a token that is found there changes places with the one at home. So one of the
many tokens that never come again displaces none that does, and the first look, which is the only one on the way, finds the frequent
ones. A slot: bytes 0-31 the token, zero-padded (no token holds NUL); 32-35 fastText's hash; 36-39 its number of rows; then its sums,
int64, from byte 48 (one or two outputs, slots of 64 bytes) or 64 on (slots of 128).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.memory import BLOCK, KEY_BYTES, put_word, same_key, swap_blocks, word_at

HASH_AT, ROWS_AT = 32, 36
FEWEST = 16


class Table(NamedTuple):
    """address of the first home; stride: bytes of a slot; mask: homes - 1, times the stride; second: bytes from a home to the slot
    second to it; nobody: address of a slot that stays empty."""

    address: int
    stride: int
    mask: int
    second: int
    nobody: int


def new_table(n_outputs: int, size_bytes: int) -> tuple[Table, npt.NDArray[np.uint8]]:
    """An empty table of at most ``size_bytes`` (but 16 homes at least), and its memory."""
    stride = BLOCK if n_outputs <= 2 else 2 * BLOCK
    n_homes = max(FEWEST, 1 << max(0, (size_bytes // stride // 2).bit_length() - 1))
    memory = np.zeros((2 * n_homes + 1) * stride + BLOCK, np.uint8)
    begin = int(memory.ctypes.data)
    begin += -begin % BLOCK
    return Table(begin, stride, (n_homes - 1) * stride, n_homes * stride, begin + 2 * n_homes * stride), memory


@numba.njit(nogil=True, cache=True, forceinline=True)
def sums_at(n_outputs):  # type: ignore[no-untyped-def]
    """Where in a slot its sums begin."""
    return 48 if n_outputs <= 2 else 64


@numba.njit(nogil=True, cache=True, forceinline=True)
def find_elsewhere(table, home, key):  # type: ignore[no-untyped-def]
    """Whether a token that was not at home is: it has come since, or was in the second slot and changes places."""
    if home == table.nobody:
        return False
    if same_key(home, key):
        return True
    if not same_key(home + table.second, key):
        return False
    for at in range(0, table.stride, BLOCK):
        swap_blocks(home + at, home + table.second + at)
    return True


@numba.njit(nogil=True, cache=True)
def keep_token(table, home, key, n_rows, value, sums, n_outputs):  # type: ignore[no-untyped-def]
    """Write a token to the slot second to its home, or to its home if that is empty."""
    slot = home if word_at(home) == 0 else home + table.second
    for k in range(0, KEY_BYTES, 8):
        put_word(slot + k, word_at(key + k))
    put_word(slot + HASH_AT, value | (np.uint64(n_rows) << np.uint64(32)))
    for k in range(0, 8 * n_outputs, 8):
        put_word(slot + sums_at(n_outputs) + k, word_at(sums + k))
