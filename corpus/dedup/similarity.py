"""True Jaccard similarity of documents that hashing proposed, compiled: which members of a component really resemble each other.

A document is the sorted set of the upper 32 bits of its shingles: 4 bytes each, and two sets of 500 agree by chance in 6e-5 elements.
Members of a component come in order of number. Each is compared with the component's references: the first REFERENCES_KEPT members, and
every later one that resembled none, up to REFERENCES of them. References already joined are compared once. So a member costs at most
REFERENCES comparisons, and a copy of a page that has been seen a million times costs one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.dedup.components import find
from corpus.dedup.signatures import Numbers
from corpus.shingles import Grams, shingles

REFERENCES, REFERENCES_KEPT = 64, 16

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]


def shingle_sets(offsets: I64, data: npt.NDArray[np.uint8], grams: Grams) -> tuple[I64, U32]:
    """(offsets [n + 1], sorted distinct values) of n simplified texts; ``data`` readable as corpus.shingles asks."""
    longest = int(np.diff(offsets).max(initial=0))
    ends, out = np.zeros(len(offsets), np.int64), np.empty(len(grams.room(int(offsets[-1] - offsets[0]))) + len(offsets), np.uint32)
    _sets(offsets, data, grams.chars, grams.n, grams.room(longest), grams.room(longest), ends, out)
    return ends, out[: ends[-1]].copy()


@dataclass
class Resemblance:
    """The references of every component, and the edges found so far. Memory: 4 bytes per shingle of a reference.

    Attributes:
        n_components: components are numbered 0 .. n - 1.
        min_jaccard: least similarity of two documents that join.
    """

    n_components: int
    min_jaccard: float
    edges: list[Numbers] = field(default_factory=list)
    n_compared: int = 0

    def __post_init__(self) -> None:
        self._head, self._tail = np.full(self.n_components, -1, np.int64), np.full(self.n_components, -1, np.int64)
        self._held = np.zeros(self.n_components, np.int32)
        # Per reference: next of the same component, parent in its disjoint set, its set's begin and end in the pool, its number.
        self._next, self._parent, self._begin, self._end = (np.empty(0, np.int64) for _ in range(4))
        self._number, self._pool = np.empty(0, np.uint64), np.empty(0, np.uint32)
        self._n_references = self._n_pool = 0

    def add(self, components: I64, numbers: Numbers, offsets: I64, values: U32) -> None:
        """Compare the next documents: component [n], number [n] and set (offsets [n + 1], values) of each."""
        n = len(components)
        for name in ("_next", "_parent", "_begin", "_end", "_number"):
            setattr(self, name, _with_room(getattr(self, name), self._n_references + n))
        self._pool = _with_room(self._pool, self._n_pool + len(values))
        found = np.empty((REFERENCES * 4 + n, 2), np.uint64)
        first = 0
        while first < n:
            first, n_found, self._n_references, self._n_pool, compared = _compare(
                components, numbers, offsets, values, first, self.min_jaccard, self._head, self._tail, self._held, self._next,
                self._parent, self._begin, self._end, self._number, self._pool, self._n_references, self._n_pool, found,
            )  # fmt: skip
            self.n_compared += compared
            self.edges.append(found[:n_found].copy())

    def found(self) -> Numbers:
        """[m, 2] edges, smaller number first."""
        return np.concatenate(self.edges) if self.edges else np.zeros((0, 2), np.uint64)


def _with_room(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    if len(array) >= size:
        return array
    out = np.empty(max(size, 2 * len(array)), array.dtype)
    out[: len(array)] = array
    return out


@njit(cache=True, nogil=True)
def _sets(offsets, data, chars, ngram, units, found, ends, out):  # type: ignore[no-untyped-def]
    o = 0
    for row in range(len(offsets) - 1):
        count = shingles(data, offsets[row], offsets[row + 1], chars, ngram, units, found)
        values = np.empty(count, np.uint32)
        for i in range(count):
            values[i] = np.uint32(found[i] >> np.uint64(32))
        values.sort()
        for i in range(count):
            if i == 0 or values[i] != values[i - 1]:
                out[o] = values[i]
                o += 1
        ends[row + 1] = o


@njit(cache=True, nogil=True)
def jaccard(a, b, least):  # type: ignore[no-untyped-def]
    """Similarity of two sorted sets; -1 as soon as it cannot reach ``least``. Two empty sets are not alike."""
    n, m = len(a), len(b)
    if n == 0 or m == 0 or min(n, m) < least * max(n, m):
        return -1.0
    # |a or b| = n + m - common >= ..., so common must reach least / (1 + least) * (n + m).
    spare = n + m - 2 * np.int64(np.floor(least / (1.0 + least) * (n + m) + 1e-9))
    i, j, common, missed = 0, 0, 0, 0
    while i < n and j < m:
        if a[i] == b[j]:
            common += 1
            i += 1
            j += 1
        else:
            missed += 1
            if missed > spare + 2:
                return -1.0
            if a[i] < b[j]:
                i += 1
            else:
                j += 1
    return common / (n + m - common)


@njit(cache=True, nogil=True)
def _compare(  # type: ignore[no-untyped-def]
    components, numbers, offsets, values, first, least, head, tail, held, following, parent, begin, end, number, pool, n_references,
    n_pool, found,
):  # fmt: skip
    """Documents from ``first`` until all are done or ``found`` may not have room for another's edges."""
    n_found, compared = 0, 0
    for i in range(first, len(components)):
        if n_found + REFERENCES > len(found):
            return i, n_found, n_references, n_pool, compared
        component, mine = components[i], values[offsets[i] : offsets[i + 1]]
        root, at = np.int64(-1), head[component]
        while at >= 0:
            other = find(parent, at)
            if other != root:
                compared += 1
                if jaccard(mine, pool[begin[at] : end[at]], least) >= least:
                    found[n_found, 0], found[n_found, 1] = number[at], numbers[i]
                    n_found += 1
                    if root < 0:
                        root = other
                    else:
                        parent[other] = root
            at = following[at]
        if held[component] < REFERENCES and (root < 0 or held[component] < REFERENCES_KEPT):
            me = n_references
            n_references += 1
            following[me], parent[me], begin[me], end[me], number[me] = (
                -1,
                root if root >= 0 else me,
                n_pool,
                n_pool + len(mine),
                numbers[i],
            )
            pool[n_pool : n_pool + len(mine)] = mine
            n_pool += len(mine)
            if tail[component] < 0:
                head[component] = me
            else:
                following[tail[component]] = me
            tail[component] = me
            held[component] += 1
    return len(components), n_found, n_references, n_pool, compared
