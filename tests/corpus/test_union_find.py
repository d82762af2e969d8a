"""Union-find against a fixed point in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.union_find import DisjointSets

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40)


@settings(max_examples=200, deadline=None)
@given(EDGES)
def test_roots_are_the_smallest_members_of_components(edges: list[tuple[int, int]]) -> None:
    smallest = list(range(20))
    for _ in range(20):  # a label needs at most 19 steps along any path
        for a, b in edges:
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
    assert roots(edges).tolist() == smallest


@settings(max_examples=100, deadline=None)
@given(EDGES, st.randoms())
def test_the_order_of_edges_and_calls_does_not_matter(edges: list[tuple[int, int]], random: object) -> None:
    shuffled = [(b, a) for a, b in edges]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert roots(edges, calls=1).tolist() == roots(shuffled, calls=3).tolist()


def test_a_long_chain_is_one_set() -> None:
    n = 1_000_000
    sets = DisjointSets(n)
    sets.union(np.arange(n - 1, 0, -1), np.arange(n - 2, -1, -1))
    assert not sets.roots().any()


def test_edges_outside_are_refused() -> None:
    for a, b in (([0], [5]), ([-1], [0]), ([0, 1], [1])):
        with pytest.raises(ValueError):
            DisjointSets(5).union(np.array(a), np.array(b))


def roots(edges: list[tuple[int, int]], calls: int = 1) -> np.ndarray:
    sets = DisjointSets(20)
    for part in np.array_split(np.array(edges, np.int64).reshape(-1, 2), calls):
        sets.union(part[:, 0].copy(), part[:, 1].copy())
    return sets.roots()
