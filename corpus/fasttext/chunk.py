"""A chunk of a document as lists of its tokens: where each begins and ends, its key, and its home in the table of known tokens.

First half of the work of corpus.fasttext.tally, and the memory that its loops share.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.memory import BLOCK, KEY_BYTES, prefetch, put_key, put_word, set_bits, spaces, trailing_zeros, word_at
from corpus.fasttext.vocabulary import PICKS

CHUNK = 32 * BLOCK
"""Bytes of a document at a time: what the loops leave for each other fits the first-level cache."""
ALL, ONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)
UNUSED = np.uint64(32 - 6)
"""The half of a key's hash that is not good, less the bits that a slot of 64 bytes masks."""
MARK_BYTES = 64
"""Room for ``<token>`` of a token that fits a key: lower case takes half as much again at most."""
AT_ONCE = 12
"""Tokens of a block that are written without asking whether there are so many: a wrongly guessed end costs more."""
LIST_LENGTH = CHUNK // 2 + 2 * BLOCK + AT_ONCE


class Room(NamedTuple):
    """Addresses of working memory: lists of words, by token of a chunk, and what a single token needs.

    begins, ends, homes, misses: of tokens; hashes, partial: of the tokens before the chunk and its own; keys: KEY_BYTES each.
    sums, fresh, line: sums of a chunk, of a token, of the end of line; picks: for vocabulary.sum_token; marks: MARK_BYTES for each new
    token; stops: where it ends there; long: the same for a token too long for a key. places: addresses of rows of word n-grams that
    are yet to be added; waiting: their number, and where to.
    """

    begins: int
    ends: int
    homes: int
    misses: int
    hashes: int
    partial: int
    stops: int
    keys: int
    sums: int
    fresh: int
    line: int
    waiting: int
    picks: int
    marks: int
    places: int
    long: int


def new_room(longest: int, word_ngrams: int) -> tuple[Room, npt.NDArray[np.uint8]]:
    """Working memory for documents of at most ``longest`` bytes."""
    sizes = [8 * LIST_LENGTH] * 7 + [KEY_BYTES * LIST_LENGTH] + [BLOCK] * 4 + [8 * PICKS, MARK_BYTES * LIST_LENGTH]
    sizes += [8 * LIST_LENGTH * max(0, word_ngrams - 1), 2 * longest + BLOCK]
    places = np.cumsum([0, *(-(-size // BLOCK) * BLOCK for size in sizes)])
    memory = np.empty(int(places[-1]) + BLOCK, np.uint8)
    begin = int(memory.ctypes.data)
    return Room(*(begin + -begin % BLOCK + int(place) for place in places[:-1])), memory


@numba.njit(nogil=True, cache=True, forceinline=True)
def put_places(to, at, bits):  # type: ignore[no-untyped-def]
    """Write ``at`` + the index of each set bit to the list at ``to``; at most AT_ONCE numbers of no meaning follow."""
    for _ in range(AT_ONCE):
        put_word(to, np.uint64(at + trailing_zeros(bits)))
        bits &= bits - ONE
        to += 8
    while bits != 0:
        put_word(to, np.uint64(at + trailing_zeros(bits)))
        bits &= bits - ONE
        to += 8


@numba.njit(nogil=True, cache=True, forceinline=True)
def cut_chunk(room, at, stop, end, follows, n_begins):  # type: ignore[no-untyped-def]
    """List where tokens begin, behind the ``n_begins`` that are there, and where they end.

    Looked at: the bytes from ``at`` to ``stop`` of a text that ends at ``end``; ``follows``: 1 if the byte before separates. Returns
    (begins, ends, follows).
    """
    n_ends = 0
    while at < stop:
        mask = spaces(at)
        if end - at < BLOCK:
            mask |= ALL << np.uint64(end - at)
        after = (mask << ONE) | follows
        first, last = ~mask & after, mask & ~after
        follows = mask >> np.uint64(63)
        put_places(room.begins + 8 * n_begins, at, first)
        put_places(room.ends + 8 * n_ends, at, last)
        n_begins += set_bits(first)
        n_ends += set_bits(last)
        at += BLOCK
    return n_begins, n_ends, follows


@numba.njit(nogil=True, cache=True, forceinline=True)
def find_homes(room, table, n):  # type: ignore[no-untyped-def]
    """List key and home of n tokens. One too long for a key lives where nobody does."""
    for t in range(n):
        begin = np.int64(word_at(room.begins + 8 * t))
        n_bytes = np.int64(word_at(room.ends + 8 * t)) - begin
        value = put_key(room.keys + KEY_BYTES * t, begin, min(n_bytes, KEY_BYTES))
        home = table.address + (np.int64(value >> UNUSED) & table.mask)
        home = home if n_bytes <= KEY_BYTES else table.nobody
        prefetch(home)
        put_word(room.homes + 8 * t, np.uint64(home))
