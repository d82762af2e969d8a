"""Rows: documents cut into pieces, and pieces packed by best-fit decreasing.

A document longer than a row is cut into full rows; its rest and all other documents are packed by best-fit decreasing (Johnson 1974;
for training rows: Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): the longest piece first, each into the fullest row
that has room for it. No token is lost, and none is repeated but by epochs. Exact, in O(n log seq_len): pieces are ordered by a
counting sort, and rows of equal free space hang in one list under a tree of bits over free space.

Pieces of equal length are taken in keyed random order, so that neighbours of a source do not meet in a row, and lie in a row in keyed
random order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.packing.mixture import I64, U64, mixed
from store.errors import ResourceError
from store.plan import PackPlan

MAX_PIECES = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents, one element each: source, document, first token, tokens, and a keyed random number."""

    source: npt.NDArray[np.uint16]
    doc: I64
    start: I64
    length: npt.NDArray[np.int32]
    random: U64


def count_pieces(lengths: I64, times: npt.NDArray[np.int32], seq_len: int) -> int:
    """Pieces that documents seen so often are cut into."""
    n: int = _count(lengths, times, seq_len)
    return n


def room_for(n: int) -> Pieces:
    """Arrays for n pieces, to be filled by ``cut``. ResourceError for more than a plan can number."""
    if n > MAX_PIECES:
        raise ResourceError(f"{n:,} pieces in one plan", where="pack", expected=f"at most {MAX_PIECES:,}",
                            remedy="train on parts of the data one after another, each with a plan of its own")  # fmt: skip
    kinds = (np.uint16, np.int64, np.int64, np.int32, np.uint64)
    return Pieces(*(np.empty(n, kind) for kind in kinds))  # type: ignore[arg-type]


def cut(out: Pieces, at: int, lengths: I64, times: npt.NDArray[np.int32], seq_len: int, source: int, key: int) -> int:
    """Write the pieces of a source's documents to ``out`` from ``at``: full rows first, then what is left. The next free place."""
    end: int = _cut(out.doc, out.start, out.length, out.random, at, lengths, times, seq_len, np.uint64(key))
    out.source[at:end] = source
    return end


def pack(pieces: Pieces, seq_len: int) -> PackPlan:
    """Pack pieces of at most seq_len tokens into rows by best-fit decreasing. Memory: about 50 bytes a piece, plan included."""
    # Keyed order first, then a stable counting sort by length within the kernel: equals stay in keyed order.
    keyed = np.argsort(pieces.random, kind="stable").astype(np.int32)
    row, n_rows = _best_fit(pieces.length[keyed], seq_len)
    offsets, by_row = _by_row(row, n_rows, keyed)
    del row, keyed
    return PackPlan(seq_len, offsets, pieces.source[by_row], pieces.doc[by_row], pieces.start[by_row], pieces.length[by_row])


@njit(cache=True, nogil=True)
def _count(lengths, times, seq_len):  # type: ignore[no-untyped-def]
    n = 0
    for doc in range(len(lengths)):
        n += times[doc] * ((lengths[doc] + seq_len - 1) // seq_len)
    return n


@njit(cache=True, nogil=True)
def _cut(out_doc, out_start, out_length, out_random, at, lengths, times, seq_len, key):  # type: ignore[no-untyped-def]
    for doc in range(len(lengths)):
        of_doc = mixed(np.uint64(doc), key)
        for copy in range(times[doc]):
            for start in range(0, lengths[doc], seq_len):
                out_doc[at] = doc
                out_start[at] = start
                out_length[at] = min(lengths[doc] - start, seq_len)
                out_random[at] = mixed(mixed(of_doc + np.uint64(start), key) + np.uint64(copy), key)
                at += 1
    return at


@njit(cache=True, nogil=True)
def _by_row(row, n_rows, keyed):  # type: ignore[no-untyped-def]
    """([n_rows + 1] offsets, [n] pieces by row; within a row in keyed order): a counting sort."""
    offsets = np.zeros(n_rows + 1, np.int64)
    for r in row:
        offsets[r + 1] += 1
    for r in range(n_rows):
        offsets[r + 1] += offsets[r]
    at = offsets[:-1].copy()
    out = np.empty(len(row), np.int32)
    for i in range(len(row)):
        out[at[row[i]]] = keyed[i]
        at[row[i]] += 1
    return offsets, out


@njit(cache=True, nogil=True)
def _smallest(tree, n_leaves, at_least):  # type: ignore[no-untyped-def]
    """The smallest set leaf >= at_least, or -1. tree[i] says whether anything is set below node i; leaves start at n_leaves."""
    i = n_leaves + at_least
    if tree[i]:
        return at_least
    while i > 1 and ((i & 1) or not tree[i + 1]):
        i >>= 1
    if i <= 1:
        return -1
    i += 1
    while i < n_leaves:
        i = 2 * i if tree[2 * i] else 2 * i + 1
    return i - n_leaves


@njit(cache=True, nogil=True)
def _set(tree, n_leaves, leaf):  # type: ignore[no-untyped-def]
    i = n_leaves + leaf
    while i >= 1 and not tree[i]:
        tree[i] = True
        i >>= 1


@njit(cache=True, nogil=True)
def _clear(tree, n_leaves, leaf):  # type: ignore[no-untyped-def]
    i = n_leaves + leaf
    tree[i] = False
    i >>= 1
    while i >= 1 and not (tree[2 * i] or tree[2 * i + 1]):
        tree[i] = False
        i >>= 1


@njit(cache=True, nogil=True)
def _longest_first(length, seq_len):  # type: ignore[no-untyped-def]
    """[n] indices by falling length, equals in the order given: a counting sort."""
    begin = np.zeros(seq_len + 2, np.int64)
    for n in length:
        begin[seq_len - n + 1] += 1
    for i in range(1, seq_len + 2):
        begin[i] += begin[i - 1]
    order = np.empty(len(length), np.int32)
    for i in range(len(length)):
        n = seq_len - length[i]
        order[begin[n]] = i
        begin[n] += 1
    return order


@njit(cache=True, nogil=True)
def _best_fit(length, seq_len):  # type: ignore[no-untyped-def]
    """(row of each piece [n] int32, number of rows)."""
    n_leaves = 1
    while n_leaves < seq_len + 1:
        n_leaves *= 2
    tree = np.zeros(2 * n_leaves, np.bool_)
    top = np.full(seq_len + 1, -1, np.int32)  # a row with so much free space; ``below`` links to the next one
    below = np.empty(len(length), np.int32)
    row = np.empty(len(length), np.int32)
    n_rows = 0
    for piece in _longest_first(length, seq_len):
        need = length[piece]
        free = _smallest(tree, n_leaves, need)
        if free < 0:
            free, r = seq_len, n_rows
            n_rows += 1
        else:
            r = top[free]
            top[free] = below[r]
            if top[free] < 0:
                _clear(tree, n_leaves, free)
        row[piece] = r
        left = free - need
        if left > 0:
            below[r] = top[left]
            top[left] = r
            _set(tree, n_leaves, left)
    return row, n_rows
