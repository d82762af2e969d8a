"""Edges of all bands to clusters: disjoint sets over the documents' numbers, 4 bytes a document (8 beyond 2^32 documents), and one for
membership. More documents than a task's memory holds: corpus/dedup/join.py.

The root of a set is its smallest member, so the result does not depend on the order of edges. Union by minimum with path halving
(Tarjan and van Leeuwen 1984, "Worst-case analysis of set union algorithms").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.dedup.signatures import Numbers, number_type


class DisjointSets:
    """Sets that edges join, over 0 .. n - 1. Edges may come in any order and in any number of calls."""

    def __init__(self, n: int) -> None:
        self._parent: Numbers = np.arange(n, dtype=number_type(n))

    def union(self, edges: Numbers) -> None:
        """Join edges[i, 0] with edges[i, 1] for every row of [m, 2]; ValueError for a number outside 0 .. n - 1."""
        if len(edges) and int(edges.max()) >= len(self._parent):
            raise ValueError(f"an edge ends outside 0..{len(self._parent) - 1}")
        _union(self._parent, np.ascontiguousarray(edges.astype(self._parent.dtype, copy=False)))

    def roots(self) -> Numbers:
        """[n] the smallest member of every number's set. A view: valid until the next union."""
        _flatten(self._parent)
        return self._parent


def members(roots: Numbers) -> npt.NDArray[np.bool_]:
    """[n] whether a document is in a set of two or more: it has another root, or is another's."""
    return _members(roots)


@njit(cache=True, nogil=True)
def find(parent, i):  # type: ignore[no-untyped-def]
    """The root of i; halves the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _union(parent, edges):  # type: ignore[no-untyped-def]
    for e in range(len(edges)):
        x, y = find(parent, edges[e, 0]), find(parent, edges[e, 1])
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y


@njit(cache=True, nogil=True)
def _flatten(parent):  # type: ignore[no-untyped-def]
    # A parent is never larger than its child, so in rising order every parent is already a root.
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]


@njit(cache=True, nogil=True)
def _members(roots):  # type: ignore[no-untyped-def]
    found = np.zeros(len(roots), np.bool_)
    for i in range(len(roots)):
        if roots[i] != i:
            found[i] = True
            found[roots[i]] = True
    return found
