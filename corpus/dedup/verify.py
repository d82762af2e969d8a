"""Proposed duplicates verified by their true Jaccard similarity, so that more bands cost time and not precision.

Bands propose; components of proposals are compared document by document (corpus/dedup/similarity.py), and only pairs of at least
``min_jaccard`` join. Two kinds of tasks, both named after what they read and for what cut:

* a shingle task reads some files of documents and writes the shingle sets of those that are in a component, cut into P parts by
  component: ``shingles/<task>/<part>.parquet``;
* a verifying task reads its part of all of those in order and writes the pairs that hold: ``verified/<task>.npy``.

    P = S = ceil(members x MEMBER_BYTES / memory);  files = S x P

The similarity is that of the texts as they were kept, simplified as for the signature but with their numbers: bands ignore numbers, so
that a page of tomorrow is found, but two tables with other numbers, or two doses of a medicine, are not copies of each other.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import text_buffers
from corpus.dedup.exchange import npy
from corpus.dedup.signatures import Numbers, Signatures, number_type
from corpus.dedup.similarity import Resemblance, shingle_sets
from corpus.shingles import Grams
from corpus.simplify import simplify
from store.artifact import Receipt
from store.errors import ArtifactError
from store.executor import Task
from store.fs import Folder, open_input, read_bytes
from store.schema import KEY, require_columns

MEMBER_BYTES = 6000
"""Memory of a candidate's shingles while they are made and sorted into parts: 4 bytes each, twice, of a page of 4 kB."""
READ_DOCS = 1000
COMPONENTS = "components.npy"


@dataclass(frozen=True)
class Candidates:
    """Where the documents and the components of proposals are.

    Attributes:
        signatures: numbers the documents; file i holds the same ones as documents[i].
        documents: files with ``doc_key`` and ``text``.
        n_parts: parts of components.
        grams: what a shingle is made of, as in the signatures.
    """

    signatures: Signatures
    documents: tuple[str, ...]
    n_parts: int
    grams: Grams

    def none(self) -> int:
        """Stands for "in no component": the largest number there is."""
        return int(np.iinfo(number_type(self.signatures.n_docs)).max)


def write_components(out: Folder, roots: Numbers, member: npt.NDArray[np.bool_]) -> None:
    """Write each document's component, by number, for the tasks to read slices of."""
    components = roots.copy()
    components[~member] = np.iinfo(components.dtype).max
    out.write_bytes(COMPONENTS, npy(components))


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
        parts: list[list[pa.Table]] = [[] for _ in range(self.candidates.n_parts)]
        n = 0
        for at in range(begin, end):
            for table in self._sets(at):
                which = part_of(table["component"].to_numpy(), self.candidates.n_parts)
                for p in np.unique(which).tolist():
                    parts[p].append(table.filter(pa.array(which == p)))
                n += table.num_rows
        files = [
            self.out.write_bytes(f"shingles/{task.key}/{p:05d}.parquet", _parquet(tables, self._schema()))
            for p, tables in enumerate(parts)
        ]
        return Receipt(key=task.key, files=tuple(files), counts={"candidates": n})

    def _schema(self) -> pa.Schema:
        number = pa.from_numpy_dtype(np.dtype(number_type(self.candidates.signatures.n_docs)))
        return pa.schema([("component", number), ("number", number), ("shingles", pa.large_list(pa.uint32()))])

    def _sets(self, at: int) -> Iterator[pa.Table]:
        """component, number and shingles of the candidates of a file, READ_DOCS documents at a time."""
        signatures, url = self.candidates.signatures, self.candidates.documents[at]
        first, n_rows = signatures.first[at], signatures.n_rows[at]
        components = _slice(self.out, first, n_rows)
        wanted = components != self.candidates.none()
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
    """A task's payload is {"part"}. Memory: 4 bytes per shingle of the part's references, and one row group."""

    def __init__(self, candidates: Candidates, min_jaccard: float, shingled: Sequence[str], out: Folder) -> None:
        self.candidates, self.min_jaccard, self.shingled, self.out = candidates, min_jaccard, tuple(shingled), out

    def run(self, task: Task) -> Receipt:
        part = cast(int, task.payload["part"])
        files = [self.out.path(f"shingles/{key}/{part:05d}.parquet") for key in self.shingled]
        known = np.unique(np.concatenate([c for table in _tables(files, ["component"]) for c in [table["component"].to_numpy()]]))
        made = Resemblance(len(known), self.min_jaccard)
        for table in _tables(files, None):
            lists = table["shingles"].combine_chunks()
            offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
            made.add(np.searchsorted(known, table["component"].to_numpy()), table["number"].to_numpy(), offsets, values)
        pairs = made.found()
        entry = self.out.write_bytes(f"verified/{task.key}.npy", npy(pairs), n_rows=len(pairs))
        return Receipt(key=task.key, files=(entry,), counts={"compared": made.n_compared, "confirmed": len(pairs)})


def _tables(files: Sequence[str], columns: list[str] | None) -> Iterator[pa.Table]:
    """Row groups of the files, in order."""
    for url in files:
        with open_input(url) as source, pq.ParquetFile(source) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns, use_threads=False)


def _parquet(tables: Sequence[pa.Table], schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="none", use_dictionary=False) as writer:
        writer.write_table(pa.concat_tables([schema.empty_table(), *tables]), row_group_size=50_000)
    return sink.getvalue()


def _slice(out: Folder, first: int, n: int) -> Numbers:
    """components[first : first + n], reading no more than that where the file is local."""
    if out.is_local:
        whole: Any = np.load(out.path(COMPONENTS), mmap_mode="r", allow_pickle=False)
        return np.array(whole[first : first + n])
    return cast("Numbers", np.load(io.BytesIO(read_bytes(out.path(COMPONENTS))), allow_pickle=False)[first : first + n])
