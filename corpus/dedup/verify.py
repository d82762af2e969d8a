"""Proposed duplicates verified by their true Jaccard similarity, so that more bands cost time and not precision.

Bands propose; components of proposals are compared document by document (corpus/dedup/similarity.py), and only pairs of at least
``min_jaccard`` join. Two kinds of tasks, both named after what they read and for what cut:

* a shingle task reads some files of documents and writes the shingle sets of those that are in a component, cut into P parts by
  component: ``shingles/<task>.arrow``;
* a verifying task reads its part of all of those in order and writes the pairs that hold: ``verified/<task>.arrow``.

    P = S = ceil(members x MEMBER_BYTES / memory);  files = S + P

The similarity is that of the texts as they were kept, simplified as for the signature but with their numbers: bands ignore numbers, so
that a page of tomorrow is found, but two tables with other numbers, or two doses of a medicine, are not copies of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import text_buffers
from corpus.dedup.exchange import groups_of
from corpus.dedup.join import Components
from corpus.dedup.params import DedupParams
from corpus.dedup.ranges import by_slice, read_cut, write_cut, write_edges
from corpus.dedup.signatures import Numbers, Signatures
from corpus.dedup.similarity import Resemblance, shingle_sets
from corpus.dedup.work import Work, shares
from corpus.shingles import Grams
from corpus.simplify import simplify
from store.artifact import Receipt
from store.errors import ArtifactError
from store.executor import Task
from store.fs import Folder, open_input
from store.schema import KEY, require_columns

MEMBER_BYTES = 6000
"""Memory of a candidate's shingles while they are made and sorted into parts: 4 bytes each, twice, of a page of 4 kB."""
READ_DOCS = 1000


@dataclass(frozen=True)
class Candidates:
    """Where the documents and the components of proposals are.

    Attributes:
        signatures: numbers the documents; file i holds the same ones as documents[i].
        documents: files with ``doc_key`` and ``text``.
        components: of the proposals.
        n_parts: parts of components.
        grams: what a shingle is made of, as in the signatures.
    """

    signatures: Signatures
    documents: tuple[str, ...]
    components: Components
    n_parts: int
    grams: Grams


def verify(
    work: Work, signatures: Signatures, documents: Sequence[str], grams: Grams, proposed: Components, params: DedupParams
) -> list[str]:
    """The files of the pairs that hold, cut by the ranges of ``proposed``."""
    assert params.min_jaccard is not None
    memory, n_members = round(params.task_memory_mb * 1_000_000), sum(proposed.members)
    n_parts = max(1, -(-n_members * MEMBER_BYTES // memory))
    candidates = Candidates(signatures, tuple(documents), proposed, n_parts, grams)
    mark = f"{n_parts:05d}-ranges-{proposed.ranges.name}"
    tasks = [
        Task(f"shingles-{a:06d}-{b:06d}-into-{mark}", {"begin": a, "end": b}, sum(proposed.members[a:b]))
        for a, b in groups_of(proposed.members, max(1, memory // MEMBER_BYTES))
    ]
    shingled = work.map("reading proposed duplicates", ShingleWorker, {"candidates": candidates}, tasks)
    kwargs = {"candidates": candidates, "min_jaccard": params.min_jaccard, "shingled": tuple(r.files[0].name for r in shingled)}
    sizes = shares(n_members, n_parts)
    parts = [Task(f"verify-{p:05d}-of-{mark}", {"part": p}, sizes[p]) for p in range(n_parts)]
    return [r.files[0].name for r in work.map("comparing proposed duplicates", VerifyWorker, kwargs, parts if shingled else [])]


def part_of(components: Numbers, n_parts: int) -> npt.NDArray[np.int64]:
    """[n] the part of each component."""
    mixed = components.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(32)) * np.uint64(n_parts) >> np.uint64(32)).astype(np.int64)


class ShingleWorker:
    """A task's payload is {"begin", "end"}: files. Memory: MEMBER_BYTES per candidate in them, and READ_DOCS documents."""

    def __init__(self, candidates: Candidates, out: Folder) -> None:
        self.candidates, self.out = candidates, out

    def run(self, task: Task) -> Receipt:
        begin, end = (cast(int, task.payload[k]) for k in ("begin", "end"))
        n_parts, waiting, n = self.candidates.n_parts, [self._schema().empty_table()], 0
        for at in range(begin, end):
            for table in self._sets(at):
                waiting.append(table)
                n += table.num_rows
        table = pa.concat_tables(waiting)
        which = part_of(table["component"].to_numpy(), n_parts)
        order = by_slice(which, n_parts)
        entry = write_cut(self.out, f"shingles/{task.key}.arrow", [(table.take(pa.array(order)), which[order])], n_parts)
        return Receipt(key=task.key, files=(entry,), counts={"candidates": n})

    def _schema(self) -> pa.Schema:
        number = pa.from_numpy_dtype(np.dtype(self.candidates.components.ranges.kind))
        return pa.schema([("component", number), ("number", number), ("shingles", pa.large_list(pa.uint32()))])

    def _sets(self, at: int) -> Iterator[pa.Table]:
        """component, number and shingles of the candidates of a file, READ_DOCS documents at a time."""
        signatures, url = self.candidates.signatures, self.candidates.documents[at]
        first, n_rows = signatures.first[at], signatures.n_rows[at]
        components = self.candidates.components.of_file(self.out, at, signatures.n_rows)
        wanted = components != self.candidates.components.ranges.none
        if not wanted.any():
            return
        keys = signatures.own_keys(at)
        row = 0
        with open_input(url) as source, pq.ParquetFile(source) as file:
            # An index of an earlier corpus holds the sets themselves.
            content = "shingles" if "shingles" in file.schema_arrow.names else "text"
            require_columns(file.schema_arrow, [KEY.name, content], url)
            for batch in file.iter_batches(READ_DOCS, columns=[KEY.name, content], use_threads=False):
                end = row + len(batch)
                if end > n_rows or (batch.column(KEY.name).to_numpy() != keys[row:end]).any():
                    raise ArtifactError("documents and signatures are not of the same rows", where=url,
                                        remedy="remove the artifact's folder and run the recipe again")  # fmt: skip
                mine = wanted[row:end]
                if mine.any():
                    sets = batch.column(content).filter(pa.array(mine))
                    lists = sets if content == "shingles" else shingle_lists(sets, self.candidates.grams)
                    numbers = (np.flatnonzero(mine) + first + row).astype(components.dtype)
                    yield pa.table([components[row:end][mine], numbers, lists], schema=self._schema())
                row = end


def shingle_lists(text: pa.Array, grams: Grams) -> pa.LargeListArray:
    """The shingle sets of texts, numbers kept, as sorted lists of uint32."""
    ends, values = shingle_sets(*simplify(*text_buffers(text.cast(pa.large_string())), keep_numbers=True), grams)
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values))


class VerifyWorker:
    """A task's payload is {"part"}. Memory: 4 bytes per shingle of the part's references, and the part's slice of one file."""

    def __init__(self, candidates: Candidates, min_jaccard: float, shingled: Sequence[str], out: Folder) -> None:
        self.candidates, self.min_jaccard, self.shingled, self.out = candidates, min_jaccard, tuple(shingled), out

    def run(self, task: Task) -> Receipt:
        part = cast(int, task.payload["part"])
        known = np.unique(np.concatenate([b.column("component").to_numpy() for b in self._batches(part)]))
        made = Resemblance(len(known), self.min_jaccard)
        for batch in self._batches(part):
            lists = batch.column("shingles")
            offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
            made.add(np.searchsorted(known, batch.column("component").to_numpy()), batch.column("number").to_numpy(), offsets, values)
        pairs = made.found()
        entry = write_edges(self.out, f"verified/{task.key}.arrow", [pairs], self.candidates.components.ranges)
        return Receipt(key=task.key, files=(entry,), counts={"compared": made.n_compared, "confirmed": len(pairs)})

    def _batches(self, part: int) -> Iterator[pa.RecordBatch]:
        for name in self.shingled:
            yield from read_cut(self.out.path(name), part, self.candidates.n_parts)
