"""Equal hashes to edges: for every group of equal hashes an edge from its first document to each of the others.

A group of m documents costs m - 1 edges, never m^2, so a page copied a million times costs what a million other pages cost. Hashes are
spread by their lowest bits, as they come, into buckets that fit a core's cache; each bucket is then looked through with a hash table.
There is no sort and no pass to count: a bucket is a chain of blocks. What moves is what is read, once written and once read again, so a
document among ten million costs little more than one among one million, whose hashes all stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.dedup.signatures import Numbers
from corpus.minhash import NEVER, U64

BUCKET = 8192
"""Documents a bucket has, copies apart: its hashes, numbers and table (20 to 36 bytes a document) fit a core's cache."""
MOST_BUCKETS = 1 << 13
"""More would be written to less fast than larger buckets are looked through."""
BLOCK = 512
"""Documents of a block."""
BYTES_PER_DOC = 28
"""Hash, check and number (24 bytes beyond 2^32 documents), blocks that are not full, and the edges of one portion."""
EDGES_AT_ONCE = 1 << 20
FIRST_SLOTS = 1 << 10


class Groups:
    """Documents by their hashes. ``add`` them in rising order of their numbers, then take ``edges`` once.

    Args:
        n_docs: how many will be added at most.
        kind: type of their numbers.
        checked: whether they have a second hash that must be equal too (128 bits in all).
    """

    def __init__(self, n_docs: int, kind: type[np.uint32] | type[np.uint64], checked: bool = False) -> None:
        n_buckets = min(1 << (max(0, n_docs - 1) // BUCKET).bit_length(), MOST_BUCKETS)
        n_blocks = n_docs // BLOCK + n_buckets
        # NumPy's arrays, not the compiled code's: it asks for huge pages, without which every write to another bucket misses the TLB.
        self._hashes, self._numbers = np.empty(n_blocks * BLOCK, np.uint64), np.empty(n_blocks * BLOCK, kind)
        self._checks = np.empty(n_blocks * BLOCK if checked else 0, np.uint64)
        self._first, self._last = np.full(n_buckets, -1, np.int64), np.full(n_buckets, -1, np.int64)
        self._ends, self._next = np.zeros(n_buckets, np.int64), np.full(n_blocks, -1, np.int64)
        self._n_blocks, self._room, self.n = 0, n_docs, 0

    def add(self, hashes: U64, numbers: Numbers | int, check: U64 | None = None) -> None:
        """Add documents; those whose hash (and check) is NEVER match nothing and are left out.

        Args:
            hashes: [n] uniformly distributed in their lowest bits.
            numbers: [n] of the documents, or the number of the first of a run.
            check: [n] the second hash, or None.
        """
        if len(hashes) > self._room:
            raise ValueError("more documents than were announced")
        self._room -= len(hashes)
        none = np.zeros(0, np.uint64)
        run = isinstance(numbers, int)
        self._n_blocks, n = _add(
            hashes, none if check is None else check, self._numbers[:0] if run else numbers, numbers if run else 0,
            self._hashes, self._checks, self._numbers, self._first, self._last, self._ends, self._next, self._n_blocks,
        )  # fmt: skip
        self.n += n

    def edges(self) -> Iterator[Numbers]:
        """[m, 2] edges (first, other) of all groups of equal hashes; the first is the document that was added first.

        In portions of at most EDGES_AT_ONCE, of which there is at least one.
        """
        state = np.array([0, -1, 0], np.int64)
        table = np.empty(FIRST_SLOTS, np.int32 if len(self._hashes) < 1 << 31 else np.int64)
        none = True
        while none or state[0] < len(self._first):
            edges = np.empty((min(EDGES_AT_ONCE, max(1, self.n)), 2), self._numbers.dtype)
            n, table = _edges(
                self._hashes, self._checks, self._numbers, self._first, self._last, self._ends, self._next, state, table, edges
            )
            if n or none:
                yield edges[:n]
            none = False


def forest(hashes: U64, numbers: Numbers, check: U64 | None = None) -> Numbers:
    """[m, 2] edges of all groups among these documents (see Groups), whose ``numbers`` [n] rise."""
    groups = Groups(len(hashes), numbers.dtype.type, check is not None)
    groups.add(hashes, numbers, check)
    return np.concatenate(list(groups.edges()))


@njit(cache=True, nogil=True)
def _add(hashes, checks, numbers, start, to_hashes, to_checks, to_numbers, first, last, ends, following, n_blocks):  # type: ignore[no-untyped-def]
    """(blocks in use, documents added). A bucket's end is where its next document goes; at the end of a block it needs another."""
    mask, checked, numbered, n = np.uint64(len(first) - 1), len(checks) > 0, len(numbers) > 0, 0
    for i in range(len(hashes)):
        h = hashes[i]
        if h == NEVER and (not checked or checks[i] == NEVER):
            continue
        bucket = np.int64(h & mask)
        to = ends[bucket]
        if to % BLOCK == 0:
            if last[bucket] < 0:
                first[bucket] = n_blocks
            else:
                following[last[bucket]] = n_blocks
            last[bucket] = n_blocks
            to = n_blocks * BLOCK
            n_blocks += 1
        ends[bucket] = to + 1
        to_hashes[to] = h
        to_numbers[to] = numbers[i] if numbered else start + i
        if checked:
            to_checks[to] = checks[i]
        n += 1
    return n_blocks, n


@njit(cache=True, nogil=True)
def _edges(hashes, checks, numbers, first, last, ends, following, state, table, edges):  # type: ignore[no-untyped-def]
    """(edges found, table). Goes on from ``state``: bucket, place in it (-1: not begun), hashes in the table; stops when ``edges`` is
    full.

    The table holds the first document of each of a bucket's hashes by its place. It begins small, as one bucket may hold half of all
    documents and one hash, and doubles before half of it is in use.
    """
    n = 0
    low = np.uint64(0)
    while (1 << low) < len(first):
        low += np.uint64(1)
    while state[0] < len(first):
        bucket = state[0]
        if state[1] < 0:
            table[:] = -1
            state[1], state[2] = first[bucket] * BLOCK, 0
        i, used = state[1], state[2]
        while i >= 0:
            if 2 * (used + BLOCK) > len(table):
                table = _doubled(table, hashes, low)
            end = ends[bucket] if i // BLOCK == last[bucket] else (i // BLOCK + 1) * BLOCK
            i, used, n = _looked(hashes, checks, numbers, i, end, table, used, edges, n, low)
            if i < end:
                state[1], state[2] = i, used
                return n, table
            block = following[(end - 1) // BLOCK]
            i = block * BLOCK if block >= 0 else np.int64(-1)
        state[0], state[1] = bucket + 1, -1
    return n, table


@njit(cache=True, nogil=True)
def _looked(hashes, checks, numbers, i, end, table, used, edges, n, low):  # type: ignore[no-untyped-def]
    """Places i to end - 1 of a block: (the place it stopped at, hashes in the table, edges found)."""
    checked, slots = len(checks) > 0, np.uint64(len(table) - 1)
    while i < end and n < len(edges):
        h = hashes[i]
        slot = (h >> low) & slots
        while True:
            other = table[slot]
            if other < 0:
                table[slot] = i
                used += 1
                break
            if hashes[other] == h and (not checked or checks[other] == checks[i]):
                edges[n, 0], edges[n, 1] = numbers[other], numbers[i]
                n += 1
                break
            slot = (slot + np.uint64(1)) & slots
        i += 1
    return i, used, n


@njit(cache=True, nogil=True)
def _doubled(table, hashes, low):  # type: ignore[no-untyped-def]
    found = np.full(2 * len(table), -1, table.dtype)
    slots = np.uint64(len(found) - 1)
    for place in table:
        if place >= 0:
            slot = (hashes[place] >> low) & slots
            while found[np.int64(slot)] >= 0:
                slot = (slot + np.uint64(1)) & slots
            found[np.int64(slot)] = place
    return found


def part_of(hashes: U64, n_parts: int) -> npt.NDArray[np.int64]:
    """[n] the part of each hash, by its highest 32 bits: equal hashes are in the same part, parts are of the same size."""
    return ((hashes >> np.uint64(32)) * np.uint64(n_parts) >> np.uint64(32)).astype(np.int64)
