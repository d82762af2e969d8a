"""Ranges of documents, and working files cut by them.

What does not fit a task's memory is cut by document number. A range is a run of whole signature files, so a task that holds a range
reads its files and no others. A cut file holds, for every range, what is for that range: a task reads its own slices of all files, and
the number of files is that of the tasks that wrote, not of pairs of tasks.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.dedup.signatures import Numbers, number_type
from store.fingerprint import sha256_hex
from store.fs import FileEntry, Folder, open_input, read_bytes

RANGE_BYTES_PER_DOC = 96
"""Memory per document of a range: its members' keys, ranks and hashes (48 bytes) and their sorting; joining takes 12 of it."""


@dataclass(frozen=True)
class Ranges:
    """Documents cut by number.

    Attributes:
        bounds: range i holds the numbers bounds[i] to bounds[i + 1] - 1.
        files: (begin, end) of the signature files of each range.
    """

    bounds: tuple[int, ...]
    files: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_files(cls, n_rows: Sequence[int], files: Sequence[tuple[int, int]]) -> Ranges:
        """The ranges of these runs of files, whose numbers of documents are ``n_rows``."""
        files = tuple(files) or ((0, 0),)
        return cls((0, *np.cumsum([sum(n_rows[a:b]) for a, b in files]).tolist()), tuple(files))

    @property
    def n(self) -> int:
        return len(self.bounds) - 1

    @property
    def kind(self) -> type[np.uint32] | type[np.uint64]:
        return number_type(self.bounds[-1])

    @property
    def none(self) -> int:
        """Stands for "no document": the largest number there is."""
        return int(np.iinfo(self.kind).max)

    @cached_property
    def name(self) -> str:
        """For keys of tasks: the same name, the same ranges."""
        return f"{self.n:05d}-{sha256_hex(repr(self.bounds).encode())[:8]}"

    def of(self, numbers: Numbers) -> npt.NDArray[np.int64]:
        """[n] the range of each number."""
        return np.searchsorted(np.array(self.bounds[1:], np.uint64), numbers.astype(np.uint64), side="right").astype(np.int64)

    def size(self, at: int) -> int:
        """Documents of a range."""
        return self.bounds[at + 1] - self.bounds[at]


def by_slice(which: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """The stable order of rows by their slices 0 .. n - 1: NumPy sorts 16 bits by counting, which is eight times as fast."""
    return np.argsort(which.astype(np.uint16) if n <= 1 << 16 else which, kind="stable")


def write_cut(out: Folder, name: str, tables: Iterable[tuple[pa.Table, npt.NDArray[np.int64]]], n: int) -> FileEntry:
    """A file of n slices. ``tables`` gives rows and the slice of each row, in rising order of slices, any number of times.

    Every table becomes n record batches, so batch b is of slice b modulo n. Memory: one table.
    """
    with out.writing(name) as target:
        writer: pa.ipc.RecordBatchFileWriter | None = None
        for table, which in tables:
            writer = writer or pa.ipc.new_file(target, table.schema)
            ends = np.searchsorted(which, np.arange(n + 1))
            whole = table.combine_chunks().to_batches()
            empty = pa.RecordBatch.from_pylist([], schema=table.schema)
            for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                writer.write_batch(whole[0].slice(a, b - a) if b > a else empty)
        (writer or pa.ipc.new_file(target, pa.schema([]))).close()
    return out.entry(name)


def in_few(
    tables: Iterable[tuple[pa.Table, npt.NDArray[np.int64]]], n: int, rows: int = 1 << 22
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """The same rows for write_cut in tables of ``rows`` rows or more, but for the last: a slice has its rows in the same order.

    Every table costs n batches, also of nothing: k ranges that write a table for each other one would cost k^3.
    """
    waiting: list[tuple[pa.Table, npt.NDArray[np.int64]]] = []
    held = 0

    def joined() -> tuple[pa.Table, npt.NDArray[np.int64]]:
        which = np.concatenate([w for _, w in waiting])
        order = by_slice(which, n)
        return pa.concat_tables([t for t, _ in waiting]).take(pa.array(order)), which[order]

    for table, which in tables:
        waiting.append((table, which))
        held += len(table)
        if held >= rows:
            yield joined()
            waiting, held = [], 0
    if waiting:
        yield joined()


def read_cut(url: str, at: int | range, n: int, table: int | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of slice ``at`` (or of several, one after the other) of a file of n slices, of all tables or one. Reads no other."""
    with open_input(url) as source:
        file = pa.ipc.open_file(source)
        for slice_ in (at,) if isinstance(at, int) else at:
            for batch in range(slice_, file.num_record_batches, n) if table is None else (table * n + slice_,):
                yield file.get_batch(batch)


def write_edges(out: Folder, name: str, edges: Iterable[Numbers], ranges: Ranges) -> FileEntry:
    """Edges [m, 2], cut by the range of their larger end; ``n_rows`` counts them."""

    n_edges = 0

    def cut() -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        nonlocal n_edges
        for some in edges:
            n_edges += len(some)
            which = np.zeros(len(some), np.int64)
            if ranges.n > 1 and len(some):
                which = ranges.of(some.max(axis=1))
                order = by_slice(which, ranges.n)
                some, which = some[order], which[order]
            yield pa.table({"a": np.ascontiguousarray(some[:, 0]), "b": np.ascontiguousarray(some[:, 1])}), which

    entry = write_cut(out, name, cut(), ranges.n)
    return entry.model_copy(update={"n_rows": n_edges})


def read_edges(url: str, at: int, n: int) -> Iterator[Numbers]:
    """The edges [m, 2] of slice ``at``."""
    for batch in read_cut(url, at, n):
        yield np.stack([batch.column(0).to_numpy(), batch.column(1).to_numpy()], axis=1)


def write_npy(out: Folder, name: str, values: npt.NDArray[np.generic]) -> FileEntry:
    """A little-endian .npy file. Written by Python's file: NumPy's own writer hides why a disk refuses."""
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    with out.writing(name) as target:
        np.lib.format.write_array_header_1_0(target, np.lib.format.header_data_from_array_1_0(values))
        target.write(values.data.cast("B") if len(values) else b"")
    return out.entry(name, n_rows=len(values))


def load_npy(folder: Folder, name: str) -> Numbers:
    """The array of a .npy file."""
    return cast("Numbers", np.load(io.BytesIO(read_bytes(folder.path(name))), allow_pickle=False))
