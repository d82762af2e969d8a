"""Connected components of more documents than fit one task: range by range, from the edges of all bands to the root of every document.

Let k ranges of documents be numbered upwards, and an edge belong to the range of its larger end (corpus/dedup/ranges.py). A task
holds a range as disjoint sets over its own documents, 4 bytes each, and for every set the lowest document *below* the range that it is
known to be joined with, 8 bytes. It meets its edges one after the other, in any order:

* both ends in the range: the two sets are joined; if both had a lower document, an edge between these two is sent on;
* the smaller end below the range: it is the set's lower document, or an edge between it and the one the set has is sent on.

So each edge in sends at most one on, to a lower range, and what is sent on connects below the range whatever the range connected.
Ranges work side by side in rounds until nothing is sent: at most k rounds, as an edge only ever goes down; the graphs of real corpora,
most of whose clusters are pairs and stars, need a few. (Contracting a vertex to its lowest neighbour is the step of the external
algorithms of Sibeyn 2004, "External Connected Components", here for ranges of vertices and in parallel.)

Then roots are known in the lowest range, and each range upwards asks the ranges below for the roots of its sets' lower documents: one
question and one answer for each set. Root and members are those of corpus.dedup.components, which does the same in one array.

Memory of a task: 12 bytes per document of its range, the edges of one slice of one file, and SENT_AT_ONCE edges. Reads and writes:
each edge once per round it is in, 16 bytes; the ranges' sets, 12 bytes a document, once per round that changes them; 8 bytes a document
for the roots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from corpus.dedup.components import find
from corpus.dedup.ranges import Ranges, in_few, load_npy, read_cut, read_edges, write_cut, write_edges, write_npy
from corpus.dedup.signatures import Numbers
from corpus.dedup.work import Work
from store.artifact import Receipt
from store.executor import Task
from store.fs import FileEntry, Folder
from store.params import Json

RANGES_PER_TASK = 16
SET_BYTES = 8
"""A range's sets on disk, per document: 4 bytes and a number."""
SENT_AT_ONCE = 4_000_000
"""Edges to be sent on that wait in memory: sorted, the same ones once, then written."""


@dataclass(frozen=True)
class Components:
    """The components of all documents, on disk.

    Attributes:
        roots: per range a file of the root of each of its documents, or Ranges.none for one that is alone.
        members: per signature file the number of documents that are not alone.
    """

    ranges: Ranges
    roots: tuple[str, ...]
    members: tuple[int, ...]

    def of_file(self, out: Folder, at: int, n_rows: Sequence[int]) -> Numbers:
        """[n] the roots of a signature file's documents. Reads no more than that where the files are local, else its range."""
        mine = next(i for i, (a, b) in enumerate(self.ranges.files) if a <= at < b)
        first = sum(n_rows[self.ranges.files[mine][0] : at])
        whole = (
            np.load(out.path(self.roots[mine]), mmap_mode="r", allow_pickle=False) if out.is_local else load_npy(out, self.roots[mine])
        )
        return np.array(whole[first : first + n_rows[at]])


def join(work: Work, label: str, edges: Sequence[str], ranges: Ranges, n_rows: Sequence[int]) -> Components:
    """The components of the edges in these files, which are cut by ``ranges``; ``label`` distinguishes the joins of one step."""
    states = _contracted(work, label, edges, ranges)
    asking = {"ranges": ranges, "states": states}
    tasks = [Task(f"ask-{label}-{i:05d}-of-{ranges.name}", {"range": i}, ranges.size(i)) for i in range(ranges.n)]
    asked = [r.files[0].name for r in work.map(f"joining {label}: asking for roots", AskWorker, asking, tasks)]
    answered: list[str] = []
    roots: list[str] = []
    members: list[int] = []
    # Upwards: what a range answers is what the next ones ask for. A task does several, for each start of a worker takes seconds.
    for begin in range(0, ranges.n, RANGES_PER_TASK):
        end = min(ranges.n, begin + RANGES_PER_TASK)
        kwargs = {**asking, "asked": asked, "answered": tuple(answered), "n_rows": tuple(n_rows)}
        size = ranges.bounds[end] - ranges.bounds[begin]
        task = Task(f"roots-{label}-{begin:05d}-{end:05d}-of-{ranges.name}", {"begin": begin, "end": end}, size)
        (receipt,) = work.map(f"joining {label}: roots to range {end} of {ranges.n}", RootsWorker, kwargs, [task])
        roots += [f.name for f in receipt.files[::2]]
        answered += [f.name for f in receipt.files[1::2]]
        members += cast("list[int]", receipt.data["members"])
    return Components(ranges, tuple(roots), tuple(members))


def _contracted(work: Work, label: str, edges: Sequence[str], ranges: Ranges) -> list[str]:
    """Rounds until nothing is sent on; the folder of each range's last state."""
    inbox, states, active = list(edges), [""] * ranges.n, list(range(ranges.n))
    for turn in range(ranges.n + 1):
        tasks = [
            Task(f"join-{label}-{turn:05d}-{i:05d}-of-{ranges.name}", {"range": i, "state": states[i]}, ranges.size(i)) for i in active
        ]
        done = work.map(f"joining {label}: round {turn + 1}", JoinWorker, {"ranges": ranges, "inbox": tuple(inbox)}, tasks, SET_BYTES)
        for i, receipt in zip(active, done, strict=True):
            states[i] = f"join/{receipt.key}"
        sent = np.array([receipt.data["sent"] for receipt in done], np.int64)
        inbox, active = [r.files[-1].name for r in done if r.counts["sent"]], np.flatnonzero(sent.sum(axis=0)).tolist()
        if not active:
            return states
    raise AssertionError("an edge was sent up")


class JoinWorker:
    """A task's payload is {"range", "state"}: takes the range's slice of the files in ``inbox`` into its state (a folder, or none yet).

    Writes ``join/<task key>/``: ``parent.npy`` (uint32, within the range) and ``lowest.npy``, [documents of the range], and
    ``sent.arrow``, the edges sent on. Receipts count them by range.
    """

    def __init__(self, ranges: Ranges, inbox: Sequence[str], out: Folder) -> None:
        self.ranges, self.inbox, self.out = ranges, inbox, out

    def run(self, task: Task) -> Receipt:
        at, state = cast(int, task.payload["range"]), cast(str, task.payload["state"])
        ranges, base = self.ranges, self.ranges.bounds[at]
        if state:
            parent, lowest = load_npy(self.out, f"{state}/parent.npy"), load_npy(self.out, f"{state}/lowest.npy")
        else:
            parent, lowest = np.arange(ranges.size(at), dtype=np.uint32), np.full(ranges.size(at), ranges.none, ranges.kind)
        sent, n_met = np.zeros(ranges.n, np.int64), 0

        def on() -> Iterator[Numbers]:
            nonlocal n_met
            waiting: list[Numbers] = []
            for name in self.inbox:
                for edges in read_edges(self.out.path(name), at, ranges.n):
                    n_met += len(edges)
                    found = np.empty_like(edges)
                    waiting.append(found[: _meet(parent, lowest, base, ranges.none, edges, found)].copy())
                    if sum(map(len, waiting)) > SENT_AT_ONCE:
                        yield _counted(waiting, ranges, sent)
                        waiting = []
            if sum(map(len, waiting)):
                yield _counted(waiting, ranges, sent)

        entry = write_edges(self.out, f"join/{task.key}/sent.arrow", on(), ranges)
        files = [write_npy(self.out, f"join/{task.key}/{name}.npy", a) for name, a in (("parent", parent), ("lowest", lowest))]
        by_range: list[Json] = [int(n) for n in sent]
        return Receipt(key=task.key, files=(*files, entry), counts={"met": n_met, "sent": int(sent.sum())}, data={"sent": by_range})


def _counted(waiting: list[Numbers], ranges: Ranges, sent: npt.NDArray[np.int64]) -> Numbers:
    """These edges, each once; ``sent`` is raised by their number per range."""
    edges = np.concatenate(waiting)
    edges = edges[np.lexsort((edges[:, 0], edges[:, 1]))]
    new = np.ones(len(edges), bool)
    new[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    edges = edges[new]
    sent += np.bincount(ranges.of(edges[:, 1]), minlength=ranges.n)
    return edges


class AskWorker:
    """A task's payload is {"range"}. Writes ``ask/<task key>.arrow``: the lower documents of the range's sets, cut by their range."""

    def __init__(self, ranges: Ranges, states: Sequence[str], out: Folder) -> None:
        self.ranges, self.states, self.out = ranges, states, out

    def run(self, task: Task) -> Receipt:
        lowest = load_npy(self.out, f"{self.states[cast(int, task.payload['range'])]}/lowest.npy")
        asked = np.unique(lowest[lowest != self.ranges.none])
        cut = [(pa.table({"number": asked}), self.ranges.of(asked))]
        entry = write_cut(self.out, f"ask/{task.key}.arrow", cut, self.ranges.n)
        return Receipt(key=task.key, files=(entry,), counts={"asked": len(asked)})


class RootsWorker:
    """A task's payload is {"begin", "end"}: ranges; those below have ``answered``. Writes for each ``roots/<task key>/<range>.npy``
    (see Components) and, for what the ranges above ask, ``answers/<task key>/<range>.arrow``.
    """

    def __init__(
        self, ranges: Ranges, states: Sequence[str], asked: Sequence[str], answered: Sequence[str], n_rows: Sequence[int], out: Folder
    ) -> None:
        self.ranges, self.states, self.asked, self.answered = ranges, states, asked, tuple(answered)
        self.n_rows, self.out = n_rows, out

    def run(self, task: Task) -> Receipt:
        begin, end = (cast(int, task.payload[k]) for k in ("begin", "end"))
        files: list[FileEntry] = []
        counted: list[Json] = []
        for at in range(begin, end):
            roots, member = self._roots(at, [*self.answered, *(f.name for f in files[1::2])])
            replies = in_few(self._replies(at, roots, member), self.ranges.n)
            reply = write_cut(self.out, f"answers/{task.key}/{at:05d}.arrow", replies, self.ranges.n)
            roots[~member] = self.ranges.none
            files += [write_npy(self.out, f"roots/{task.key}/{at:05d}.npy", roots), reply]
            n_rows = [self.n_rows[i] for i in range(*self.ranges.files[at])]
            counted += [int(np.count_nonzero(m)) for m in np.split(member, np.cumsum(n_rows)[:-1])]
        return Receipt(key=task.key, files=tuple(files), data={"members": counted})

    def _roots(self, at: int, answered: Sequence[str]) -> tuple[Numbers, npt.NDArray[np.bool_]]:
        """(root, whether it is not alone as far as the range and those below can tell) of every document of a range."""
        ranges, none = self.ranges, np.zeros(0, self.ranges.kind)
        parent, lowest = (load_npy(self.out, f"{self.states[at]}/{name}.npy") for name in ("parent", "lowest"))
        questions = self._numbers(self.asked[at], range(at))
        answers = np.concatenate([none, *(self._numbers(name, at) for name in answered)])
        roots = _roots(parent, lowest, ranges.bounds[at], ranges.none, questions, answers)
        return roots, _members(roots, ranges.bounds[at])

    def _replies(self, at: int, roots: Numbers, member: npt.NDArray[np.bool_]) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        """Answers for every range above; who is asked for is not alone."""
        for above in range(at + 1, self.ranges.n):
            local = (self._numbers(self.asked[above], at) - self.ranges.kind(self.ranges.bounds[at])).astype(np.int64)
            member[local] = True
            yield pa.table({"root": roots[local]}), np.full(len(local), above)

    def _numbers(self, name: str, at: int | range) -> Numbers:
        parts = [b.column(0).to_numpy() for b in read_cut(self.out.path(name), at, self.ranges.n)]
        return np.concatenate([np.zeros(0, self.ranges.kind), *parts])


@njit(cache=True, nogil=True)
def _meet(parent, lowest, base, none, edges, sent):  # type: ignore[no-untyped-def]
    """Edges into a range's sets; how many edges were sent on (smaller end first)."""
    n = 0
    none, base = np.uint64(none), np.uint64(base)
    for e in range(len(edges)):
        a, b = np.uint64(min(edges[e, 0], edges[e, 1])), np.uint64(max(edges[e, 0], edges[e, 1]))
        y = np.int64(find(parent, np.int64(b - base)))
        have = np.uint64(lowest[y])
        if a >= base:
            x = np.int64(find(parent, np.int64(a - base)))
            if x == y:
                continue
            root, other = min(x, y), max(x, y)
            parent[other] = root
            a = np.uint64(lowest[x])
            y = root
        if a != none and have != none and a != have:
            sent[n, 0], sent[n, 1] = min(a, have), max(a, have)
            n += 1
        lowest[y] = min(a, have)
    return n


@njit(cache=True, nogil=True)
def _roots(parent, lowest, base, none, questions, answers):  # type: ignore[no-untyped-def]
    """[n] the root of every document of a range. A parent is never larger than its child, so in rising order each is known already."""
    roots = np.empty(len(parent), lowest.dtype)
    for i in range(len(parent)):
        if parent[i] != i:
            roots[i] = roots[parent[i]]
        elif lowest[i] == none:
            roots[i] = base + i
        else:
            roots[i] = answers[np.searchsorted(questions, lowest[i])]
    return roots


@njit(cache=True, nogil=True)
def _members(roots, base):  # type: ignore[no-untyped-def]
    """[n] whether a document has another root, or is another's of the range."""
    found = np.zeros(len(roots), np.bool_)
    for i in range(len(roots)):
        local = np.int64(roots[i]) - base
        if local != i:
            found[i] = True
            if local >= 0:
                found[local] = True
    return found
