"""Clusters and their survivors of more documents than fit one task: the rows of ``clusters.parquet``, range by range.

What a cluster needs to know of its members adds up: how many they are, and the best of them (highest rank, then lowest key) with its
exact hash. So three kinds of tasks, of a range each:

* **partials**: per cluster, what the range's members add up to; sent to the range of the cluster's root (48 bytes);
* **choose**: adds up what was sent to the range, and answers every sender, in the order of its rows (32 bytes);
* **rows**: the range's members with their cluster's survivor and size, in order of key.

The rows of all ranges are then merged by key, one batch of each that overlaps at a time. A cluster of half a billion members is k rows
for the task that chooses. Memory of a task: ranges.RANGE_BYTES_PER_DOC bytes per document of its range. The result is that of
clusters.rows_of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from corpus.dedup.clusters import Members, Ranking, cluster_rows, members_of
from corpus.dedup.join import Components
from corpus.dedup.ranges import in_few, read_cut, write_cut
from corpus.dedup.signatures import Numbers, Signatures
from corpus.dedup.work import Work
from store.artifact import Receipt
from store.executor import Task, Worker
from store.fs import Folder, open_input
from store.schema import CLUSTERS

BATCH_ROWS = 65_536
ANSWER = ("survivor", "size", "exact_0", "exact_1")


def survivors(work: Work, signatures: Signatures, components: Components, ranking: Ranking) -> Iterator[pa.Table]:
    """The rows of CLUSTERS, in order of key."""
    ranges = components.ranges
    kwargs: dict[str, object] = {"signatures": signatures, "components": components, "ranking": ranking}

    def phase(name: str, about: str, worker: type[Worker], size: Sequence[int]) -> list[Receipt]:
        tasks = [Task(f"{name}-{i:05d}-of-{ranges.name}", {"range": i}, size[i]) for i in range(ranges.n)]
        return work.map(about, worker, kwargs, tasks)

    members = [sum(components.members[a:b]) for a, b in ranges.files]
    kwargs["partials"] = tuple(r.files[0].name for r in phase("partials", "survivors: adding up clusters", PartialsWorker, members))
    del kwargs["signatures"], kwargs["ranking"]
    chosen = phase("choose", "survivors: choosing", ChooseWorker, [ranges.size(i) for i in range(ranges.n)])
    kwargs |= {"signatures": signatures, "ranking": ranking, "chosen": tuple(r.files[0].name for r in chosen)}
    rows = phase("rows", "survivors: marking members", RowsWorker, members)
    files = [(cast(int, r.data["first_key"]), work.out.path(r.files[0].name)) for r in rows if r.counts["members"]]
    return merged(files)


class _RangeWorker:
    """What the workers here know."""

    def __init__(self, components: Components, out: Folder, signatures: Signatures | None = None, ranking: Ranking | None = None,
                 partials: Sequence[str] = (), chosen: Sequence[str] = ()) -> None:  # fmt: skip
        self.components, self.ranges, self.out, self.signatures, self.ranking = components, components.ranges, out, signatures, ranking
        self.partials, self.chosen = partials, chosen

    def members(self, at: int) -> Iterator[tuple[Numbers, Members]]:
        """(roots, members) of each file of a range that has any."""
        assert self.signatures is not None and self.ranking is not None
        for file in range(*self.ranges.files[at]):
            if self.components.members[file]:
                roots = self.components.of_file(self.out, file, self.signatures.n_rows)
                wanted = roots != self.ranges.none
                yield roots[wanted], members_of(self.signatures, file, wanted, self.ranking)


class PartialsWorker(_RangeWorker):
    """A task's payload is {"range"}. Writes ``partials/<task key>.arrow``, cut by the range of the root: a row per cluster, by root."""

    def run(self, task: Task) -> Receipt:
        parts = [
            _added_up(r, np.ones(len(r), np.int64), m.rank, m.keys, m.exact) for r, m in self.members(cast(int, task.payload["range"]))
        ]
        none = (np.zeros(0, self.ranges.kind), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 2), np.uint64))
        root, size, rank, key, exact = _added_up(*(np.concatenate(c) for c in zip(none, *parts, strict=True)))
        rows = pa.table(
            {"root": root, "size": size, "rank": rank, "key": key, "exact_0": _column(exact, 0), "exact_1": _column(exact, 1)}
        )
        entry = write_cut(self.out, f"partials/{task.key}.arrow", [(rows, self.ranges.of(root))], self.ranges.n)
        return Receipt(key=task.key, files=(entry,), counts={"partials": len(root)})


class ChooseWorker(_RangeWorker):
    """A task's payload is {"range"}. Writes ``chosen/<task key>.arrow``: for every range the answers (ANSWER) to the rows it sent."""

    def run(self, task: Task) -> Receipt:
        at = cast(int, task.payload["range"])
        n, base = self.ranges.size(at), self.ranges.bounds[at]
        size, rank, key, exact = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64), np.zeros((n, 2), np.uint64)
        for sender in range(at, self.ranges.n):  # a root is the smallest of its cluster: no range below has members of it
            for b in read_cut(self.out.path(self.partials[sender]), at, self.ranges.n):
                theirs = np.stack([b.column("exact_0").to_numpy(), b.column("exact_1").to_numpy()], axis=1)
                _add(b.column("root").to_numpy(), b.column("size").to_numpy(), b.column("rank").to_numpy(), b.column("key").to_numpy(),
                     theirs, base, size, rank, key, exact)  # fmt: skip

        def answers() -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
            for sender in range(at, self.ranges.n):
                for b in read_cut(self.out.path(self.partials[sender]), at, self.ranges.n):
                    local = (b.column("root").to_numpy() - self.ranges.kind(base)).astype(np.int64)
                    columns = (key[local], size[local], _column(exact[local], 0), _column(exact[local], 1))
                    yield pa.table(dict(zip(ANSWER, columns, strict=True))), np.full(len(local), sender)

        entry = write_cut(self.out, f"chosen/{task.key}.arrow", in_few(answers(), self.ranges.n), self.ranges.n)
        return Receipt(key=task.key, files=(entry,), counts={"clusters": int(np.count_nonzero(size))})


class RowsWorker(_RangeWorker):
    """A task's payload is {"range"}. Writes ``rows/<task key>.arrow``: the range's members, CLUSTERS in order of key."""

    def run(self, task: Task) -> Receipt:
        at, n = cast(int, task.payload["range"]), self.ranges.n
        mine = [b.column("root").to_numpy() for b in read_cut(self.out.path(self.partials[at]), range(n), n)]
        roots = np.concatenate([np.zeros(0, self.ranges.kind), *mine])
        answers = [b for name in self.chosen[: at + 1] for b in read_cut(self.out.path(name), at, n)]
        parts = [CLUSTERS.empty_table()]
        if answers:
            found = pa.Table.from_batches(answers)
            survivor, size, first, second = (found[name].to_numpy() for name in ANSWER)
            for theirs, members in self.members(at):
                row = np.searchsorted(roots, theirs)
                exact = (members.exact[:, 0] == first[row]) & (members.exact[:, 1] == second[row])
                parts.append(cluster_rows(members.keys, survivor[row], size[row], exact))
        rows = pa.concat_tables(parts)
        rows = rows.take(pa.array(np.argsort(rows["doc_key"].to_numpy(), kind="stable")))
        with self.out.writing(f"rows/{task.key}.arrow") as target, pa.ipc.new_file(target, CLUSTERS) as writer:
            writer.write_table(rows, max_chunksize=BATCH_ROWS)
        data: dict[str, Any] = {"first_key": rows["doc_key"][0].as_py()} if len(rows) else {}
        return Receipt(key=task.key, files=(self.out.entry(f"rows/{task.key}.arrow"),), counts={"members": len(rows)}, data=data)


def merged(files: Sequence[tuple[int, str]]) -> Iterator[pa.Table]:
    """The rows of (first key, file), each in order of key, no key twice, in that order. Memory: BATCH_ROWS of files that overlap."""
    waiting, heads = sorted(files, reverse=True), list[tuple[pa.Table, Iterator[pa.Table]]]()
    while waiting or heads:
        # All rows up to the least of the last keys in hand are in hand, once every file that begins below it is open.
        while waiting and (not heads or waiting[-1][0] <= min(h["doc_key"][-1].as_py() for h, _ in heads)):
            rest = _batches(waiting.pop()[1])
            heads.append((next(rest), rest))
        least = min(h["doc_key"][-1].as_py() for h, _ in heads)
        ready, left = [], []
        for head, rest in heads:
            n = int(np.searchsorted(head["doc_key"].to_numpy(), least, side="right"))
            ready.append(head.slice(0, n))
            following = head.slice(n) if n < len(head) else next(rest, None)
            if following is not None:
                left.append((following, rest))
        heads = left
        rows = pa.concat_tables(ready)
        yield rows if len(ready) == 1 else rows.take(pa.array(np.argsort(rows["doc_key"].to_numpy(), kind="stable")))


def _batches(url: str) -> Iterator[pa.Table]:
    with open_input(url) as source:
        file = pa.ipc.open_file(source)
        for i in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(i)])


def _column(values: npt.NDArray[np.uint64], at: int) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(values[:, at])


def _added_up(root: Any, size: Any, rank: Any, key: Any, exact: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Rows of the same root added up, by root; arrays [n], exact [n, 2]."""
    distinct, local = np.unique(root, return_inverse=True)
    n = len(distinct)
    out = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, np.int64), np.zeros((n, 2), np.uint64)
    _add(local.astype(np.uint64), size, rank, key, exact, 0, *out)
    return distinct, *out


@njit(cache=True, nogil=True)
def _add(root, size, rank, key, exact, base, sizes, ranks, keys, exacts):  # type: ignore[no-untyped-def]
    """Add rows to the totals of their roots: sizes add up; of ranks the highest stays, of equals the lowest key."""
    for i in range(len(root)):
        at = np.int64(root[i]) - base
        if sizes[at] == 0 or rank[i] > ranks[at] or (rank[i] == ranks[at] and key[i] < keys[at]):
            ranks[at], keys[at], exacts[at, 0], exacts[at, 1] = rank[i], key[i], exact[i, 0], exact[i, 1]
        sizes[at] += size[i]
