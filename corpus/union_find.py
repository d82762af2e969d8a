"""Disjoint sets over 0..n-1, compiled. The root of a set is its smallest member, so the result does not depend on the order of edges.

Union by minimum with path halving (Tarjan and van Leeuwen 1984, "Worst-case analysis of set union algorithms"): a few hundred
million edges take minutes on one core, and memory is the 8 bytes per member of the parent array.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Index = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _find(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _union(parent, a, b):  # type: ignore[no-untyped-def]
    for e in range(len(a)):
        x, y = _find(parent, a[e]), _find(parent, b[e])
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y


@njit(cache=True, nogil=True)
def _flatten(parent):  # type: ignore[no-untyped-def]
    # A parent is never larger than its child, so in rising order every parent is already a root.
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]


class DisjointSets:
    """Sets that edges join. Edges may come in any order and in any number of calls."""

    def __init__(self, n: int) -> None:
        self._parent: Index = np.arange(n, dtype=np.int64)

    def union(self, a: Index, b: Index) -> None:
        """Join a[i] with b[i] for every i; indices must lie in 0..n-1 (ValueError)."""
        if len(a) != len(b):
            raise ValueError(f"{len(a)} ends of edges and {len(b)} others")
        for ends in (a, b):
            if len(ends) and (ends.min() < 0 or ends.max() >= len(self._parent)):
                raise ValueError(f"an edge ends outside 0..{len(self._parent) - 1}")
        _union(self._parent, a, b)

    def roots(self) -> Index:
        """[n] the smallest member of every index's set. A view: valid until the next union."""
        _flatten(self._parent)
        return self._parent
