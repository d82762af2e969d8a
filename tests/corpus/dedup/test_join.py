"""Components range by range against the same edges in one array; and what the one array costs."""

import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.dedup.components import DisjointSets, members
from corpus.dedup.join import join
from corpus.dedup.ranges import Ranges, in_few, load_npy, read_cut, read_edges, write_edges
from corpus.dedup.work import Work
from store.artifact import Draft, Identity
from store.executor import SerialExecutor
from store.fs import Folder

N = 40
EDGES = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=60)


def work(path):
    return Work(Draft.begin(Folder(str(path)), Identity("dedup", 1, {})), SerialExecutor())


def joined(at, edges, ranges, n_files=1):
    """(roots with Ranges.none for who is alone, receipts) of edges [m, 2] spread over files."""
    names = [f"edges/{i}.arrow" for i in range(n_files)]
    for name, part in zip(names, np.array_split(edges, n_files), strict=True):
        write_edges(at.out, name, [part], ranges)
    n_rows = [ranges.size(i) for i in range(ranges.n)]
    found = join(at, "proposals", names, Ranges(ranges.bounds, tuple((i, i + 1) for i in range(ranges.n))), n_rows)
    roots = np.concatenate([load_npy(at.out, name) for name in found.roots])
    assert [int(np.count_nonzero(part != ranges.none)) for part in np.split(roots, ranges.bounds[1:-1])] == list(found.members)
    return roots


def in_memory(edges, n, none):
    sets = DisjointSets(n)
    sets.union(edges)
    roots = sets.roots().copy()
    roots[~members(roots)] = none
    return roots


@settings(max_examples=25, deadline=None)
@given(EDGES, st.lists(st.integers(0, N), max_size=12), st.integers(1, 4))
def test_ranges_join_what_one_array_joins(tmp_path_factory, edges, cuts, n_files) -> None:
    ranges = Ranges((0, *sorted(cuts), N))  # ranges may be empty
    edges = np.array(edges, np.uint32).reshape(-1, 2)
    found = joined(work(tmp_path_factory.mktemp("join")), edges, ranges, n_files)
    assert found.tolist() == in_memory(edges, N, ranges.none).tolist()


@pytest.mark.parametrize("kind", ["path", "star", "far ends", "random"])
def test_graphs_that_cross_every_range(tmp_path, kind) -> None:
    n, random = 3000, np.random.default_rng(1)
    order = random.permutation(n)
    pairs = {
        "path": np.stack([order[:-1], order[1:]], 1), "star": np.stack([np.full(n, n - 1), order], 1),
        "far ends": np.stack([np.arange(n), np.arange(n)[::-1]], 1), "random": random.integers(0, n, (2000, 2)),
    }[kind].astype(np.uint32)  # fmt: skip
    ranges = Ranges(tuple(np.linspace(0, n, 14).astype(int).tolist()))
    at = work(tmp_path)
    assert (joined(at, pairs, ranges, 3) == in_memory(pairs, n, ranges.none)).all()
    rounds = [r for r in at.receipts if r.key.startswith("join-")]
    met = [sum(r.counts["met"] for r in rounds if f"-{turn:05d}-" in r.key[:21]) for turn in range(ranges.n)]
    assert met[0] == len(pairs) and all(a >= b for a, b in itertools.pairwise(met))  # an edge in sends at most one on
    assert at.receipts and not {r.key for r in at.receipts} & {"", None}


def test_numbers_of_eight_bytes(tmp_path) -> None:
    """From 2^32 documents on; the ranges between the two that edges touch are empty of work but not of numbers."""
    from corpus.dedup.join import _meet, _roots

    base = 2**33
    ranges = Ranges((0, 2**32, base, base + 4))
    assert ranges.kind is np.uint64 and ranges.of(np.array([5, 2**32, base + 3], np.uint64)).tolist() == [0, 1, 2]
    parent, lowest = np.arange(4, dtype=np.uint32), np.full(4, ranges.none, np.uint64)
    edges = np.array([[base + 1, base + 3], [2**32 + 7, base + 3], [base + 1, 9], [base, 11]], np.uint64)
    sent = np.empty_like(edges)
    assert sent[: _meet(parent, lowest, base, ranges.none, edges, sent)].tolist() == [[9, 2**32 + 7]]
    asked, answered = np.array([9, 11], np.uint64), np.array([2, 11], np.uint64)
    assert _roots(parent, lowest, base, ranges.none, asked, answered).tolist() == [11, 2, base + 2, 2]


def test_a_slice_is_read_alone_and_whole(tmp_path) -> None:
    edges = np.array([[0, 5], [9, 1], [2, 1], [9, 8]], np.uint32)
    ranges = Ranges((0, 3, 6, 10))
    out = Folder(str(tmp_path))
    write_edges(out, "e.arrow", [edges, edges[:2], edges[:0]], ranges)
    read = [np.concatenate(list(read_edges(out.path("e.arrow"), i, 3))).tolist() for i in range(3)]
    assert read == [[[2, 1]], [[0, 5], [0, 5]], [[9, 1], [9, 8], [9, 1]]]
    assert [b.num_rows for b in read_cut(out.path("e.arrow"), 2, 3, table=1)] == [1]


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=8), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_many_small_tables_become_few_with_each_slice_in_order(slices, rows) -> None:
    """Ranges that write a table for each other one would write the cube of their number of batches, most of nothing."""
    counted = itertools.count()
    tables = [
        (pa.table({"x": pa.array([next(counted) for _ in part], pa.int64())}), np.array(sorted(part), np.int64)) for part in slices
    ]
    found = list(in_few(iter(tables), 4, rows))
    assert all(len(t) >= rows for t, _ in found[:-1]) and len(found) <= sum(map(len, slices)) // rows + 1
    for _, which in found:
        assert (np.diff(which) >= 0).all()
    for at in range(4):
        before = [x for t, which in tables for x in t["x"].to_numpy()[which == at]]
        assert before == [x for t, which in found for x in t["x"].to_numpy()[which == at]]


def test_what_ranges_tell_each_other_is_a_batch_for_each(tmp_path) -> None:
    edges = np.array([[0, i] for i in range(1, N)] + [[i, i + 1] for i in range(N - 1)], np.uint32)
    joined(work(tmp_path), edges, Ranges(tuple(range(N + 1))))
    answers = [file for file in tmp_path.rglob("*.arrow") if "answers" in file.parts]
    assert len(answers) == N
    for file in answers:
        with pa.ipc.open_file(str(file)) as found:
            assert found.num_record_batches <= N


MEMORY = """
import numpy as np, sys
from corpus.dedup.components import DisjointSets, members
from corpus.passes import peak_rss_mb
n = int(sys.argv[1])
warm = DisjointSets(10); warm.union(np.array([[0, 1]], np.uint32)); members(warm.roots())
random = np.random.default_rng(0)
edges = random.integers(0, n, (1_000_000, 2), dtype=np.uint32)
begin = peak_rss_mb()
sets = DisjointSets(n)
for _ in range(3): sets.union(edges)
members(sets.roots())
print((peak_rss_mb() - begin) * 2**20 / n)
"""


def test_one_array_costs_less_than_twelve_bytes_a_document() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, "20000000"], capture_output=True, text=True, check=True)
    assert 4 < float(done.stdout) <= 6  # 4 bytes for the sets and 1 for membership, and what the allocator rounds up
