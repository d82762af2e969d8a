"""Edges of equal hashes against a dictionary, skew included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.dedup import grouping
from corpus.dedup.grouping import Groups, forest, part_of
from corpus.minhash import NEVER

HASHES = st.lists(st.tuples(st.sampled_from([0, 1, 2, 2**63, 2**64 - 2, 5 << 40, 4096, 8192]), st.integers(0, 2)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(HASHES, st.booleans(), st.sampled_from([np.uint32, np.uint64]))
def test_edges_lead_from_the_first_of_a_group_to_each_other(rows, checked, kind) -> None:
    hashes, check = (np.array([r[k] for r in rows], np.uint64) for k in (0, 1))
    numbers = np.arange(100, 100 + 3 * len(rows), 3).astype(kind)
    expected, first = set(), {}
    for row, number in zip(rows, numbers.tolist(), strict=True):
        origin = first.setdefault(row if checked else row[0], number)
        expected |= {(origin, number)} - {(number, number)}
    found = forest(hashes, numbers, check if checked else None)
    assert found.dtype == kind and len(found) == len(expected)
    assert set(map(tuple, found.tolist())) == expected


def test_many_buckets() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 300_000, np.uint64)
    hashes[random.integers(0, 300_000, 30_000)] = hashes[random.integers(0, 300_000, 30_000)]
    found = forest(hashes, np.arange(300_000, dtype=np.uint32))
    assert len(found) == 300_000 - len(np.unique(hashes))
    assert (hashes[found[:, 0]] == hashes[found[:, 1]]).all()
    assert len(np.unique(found[:, 1])) == len(found)
    first = np.unique(hashes, return_index=True)
    assert (found[:, 0] == first[1][np.searchsorted(first[0], hashes[found[:, 0]])]).all()


def test_one_hash_for_all_costs_linear_edges() -> None:
    edges = forest(np.full(1_000_000, 5, np.uint64), np.arange(1_000_000, dtype=np.uint32))
    assert not edges[:, 0].any() and (edges[:, 1] == np.arange(1, 1_000_000)).all()


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
@pytest.mark.parametrize("checked", [False, True])
def test_portions_and_runs_give_the_edges_of_one_go(monkeypatch: pytest.MonkeyPatch, kind, checked: bool) -> None:
    """Documents come file by file, with gaps in their numbers; edges go portion by portion, which ends in the middle of a bucket."""
    random = np.random.default_rng(1)
    hashes, check = random.integers(0, 2**64, 30_000, np.uint64), random.integers(0, 2, 30_000).astype(np.uint64)
    hashes[::3], hashes[1::30] = hashes[0], NEVER
    check[1::60] = NEVER
    whole = np.delete(np.arange(30_000), np.flatnonzero((hashes == NEVER) & (not checked or check == NEVER)))
    expected = forest(hashes[whole], whole.astype(kind), check[whole] if checked else None)
    assert len(expected) > 9_000
    monkeypatch.setattr(grouping, "EDGES_AT_ONCE", 700)
    groups = Groups(30_000, kind, checked)
    for begin in range(0, 30_000, 1100):
        part = slice(begin, begin + 1100)
        numbers = begin if begin % 2200 else np.arange(begin, min(30_000, begin + 1100)).astype(kind)
        groups.add(hashes[part], numbers, check[part] if checked else None)
    portions = list(groups.edges())
    assert groups.n == len(whole) and max(map(len, portions)) == 700 and min(map(len, portions[:-1])) == 700
    assert np.array_equal(np.concatenate(portions), expected)
    with pytest.raises(ValueError, match="more documents than were announced"):
        groups.add(hashes[:1], 0)


def test_without_documents_there_is_one_empty_portion() -> None:
    assert [e.shape for e in Groups(0, np.uint32).edges()] == [(0, 2)]
    assert forest(np.full(3, NEVER), np.arange(3, dtype=np.uint32)).shape == (0, 2)


def test_parts_are_even_and_keep_equal_hashes_together() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    for n_parts in (1, 3, 8):
        sizes = np.bincount(part_of(hashes, n_parts), minlength=n_parts)
        assert len(sizes) == n_parts and sizes.min() > 0.95 * sizes.mean()
    assert part_of(np.array([0, 2**64 - 1], np.uint64), 7).tolist() == [0, 6]
