"""How hashes come together: the tasks that scatter and group.

If a band of all documents fits a task's memory, a task per band reads its column from every signature file: nothing is exchanged. If
not, hashes are cut into P parts by their value. Scatter tasks read the signature files once, as many at a time as fit the memory, and
write one file each, cut by part, with all bands in it; a grouping task (band, part) reads its slice of every scattered file.

    P = ceil(n_docs x BYTES_PER_DOC / memory)
    S = ceil(n_docs x (n_bands + 2) x 24 / memory), the scatter tasks
    scattered files = S if P > 1, else 0;    edge files = (n_bands + 1) x P

With 2 GB and 14 bands: no scattered file up to 41 M documents; 496 M documents: 96 files of 1 GB. Everything a task writes is named
after the task and its cut, so a task done twice writes the same file, and one done for another memory is not mistaken for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.dedup.grouping import BYTES_PER_DOC, forest, part_of
from corpus.dedup.params import DedupParams
from corpus.dedup.ranges import RANGE_BYTES_PER_DOC, Ranges, by_slice, read_cut, write_cut, write_edges
from corpus.dedup.signatures import Numbers, Signatures, number_type
from corpus.dedup.work import shares
from corpus.minhash import NEVER, U64
from store.artifact import Receipt
from store.executor import Task
from store.fs import Folder

EXACT_BAND = -1
SCATTER_BYTES_PER_HASH = 24


@dataclass(frozen=True)
class Cut:
    """How the work is cut: the bands (EXACT_BAND for the exact hash), the parts of hashes, the files of each scatter task, and the
    ranges of documents: one if there is one part."""

    bands: tuple[int, ...]
    n_parts: int
    groups: tuple[tuple[int, int], ...]
    ranges: Ranges

    @classmethod
    def of(cls, signatures: Signatures, params: DedupParams, n_bands: int) -> Cut:
        """The cut for these files and this memory."""
        memory = round(params.task_memory_mb * 1_000_000)
        bands = (*([EXACT_BAND] if params.exact else []), *(range(n_bands) if params.minhash else []))
        n_parts = max(1, -(-signatures.n_docs * BYTES_PER_DOC // memory))
        groups = groups_of(signatures.n_rows, memory // (SCATTER_BYTES_PER_HASH * (len(bands) + 1)))
        whole = [(0, len(signatures.n_rows))]
        files = groups_of(signatures.n_rows, max(1, memory // RANGE_BYTES_PER_DOC)) if n_parts > 1 else whole
        return cls(bands, n_parts, groups, Ranges.of_files(signatures.n_rows, files))

    @property
    def bytes_per_doc(self) -> int:
        """Bytes that scatter tasks write per document: hash and number for each band, both halves of the exact hash."""
        return (len(self.bands) + (EXACT_BAND in self.bands)) * (8 + np.dtype(self.ranges.kind).itemsize)

    def scatter_tasks(self, signatures: Signatures) -> list[Task]:
        """None if nothing needs to be exchanged."""
        if self.n_parts == 1 or not self.bands:
            return []
        return [
            Task(f"scatter-{a:06d}-{b:06d}-into-{self.n_parts:05d}", {"begin": a, "end": b}, sum(signatures.n_rows[a:b]))
            for a, b in self.groups
        ]

    def group_tasks(self, n_docs: int) -> list[Task]:
        """One per band and part. Each stands for an equal share of the documents: all are done when all bands are."""
        size = iter(shares(n_docs, max(1, len(self.bands) * self.n_parts)))
        return [
            Task(f"{band_text(b)}-{p:05d}-of-{self.n_parts:05d}-ranges-{self.ranges.name}", {"band": b, "part": p}, next(size))
            for b in self.bands
            for p in range(self.n_parts)
        ]


def band_text(band: int) -> str:
    """Name of a band in keys and messages."""
    return "exact" if band == EXACT_BAND else f"band-{band:03d}"


def groups_of(n_rows: Sequence[int], most: int) -> tuple[tuple[int, int], ...]:
    """Runs of files of at most ``most`` documents (or one file)."""
    groups, begin, held = [], 0, 0
    for i, n in enumerate(n_rows):
        if i > begin and held + n > most:
            groups.append((begin, i))
            begin, held = i, 0
        held += n
    return (*groups, (begin, len(n_rows))) if n_rows else ()


class ScatterWorker:
    """A task's payload is {"begin", "end"}: signature files. Writes ``exchange/<task key>.arrow``, cut by part: a table per band (two
    for the exact hash: its halves).

    Memory: SCATTER_BYTES_PER_HASH bytes for every hash of one band of the files, and what is written of it.
    """

    def __init__(self, signatures: Signatures, cut: Cut, out: Folder) -> None:
        self.signatures, self.cut, self.out = signatures, cut, out

    def run(self, task: Task) -> Receipt:
        begin, end = (cast(int, task.payload[k]) for k in ("begin", "end"))
        part = Signatures(self.signatures.files[begin:end], self.signatures.n_rows[begin:end])
        entry = write_cut(self.out, f"exchange/{task.key}.arrow", self._tables(part, self.signatures.first[begin]), self.cut.n_parts)
        return Receipt(key=task.key, files=(entry,), counts={"scattered": part.n_docs})

    def _tables(self, part: Signatures, offset: int) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        for band in self.cut.bands:
            hashes, numbers, check = gathered(part, band, number_type(self.signatures.n_docs), offset)
            which = part_of(hashes, self.cut.n_parts)
            order = by_slice(which, self.cut.n_parts)
            for half in (hashes,) if check is None else (hashes, check):
                yield pa.table({"hash": half[order], "number": numbers[order]}), which[order]


class GroupWorker:
    """A task's payload is {"band", "part"}. Writes ``edges/<task key>.arrow``: edges between numbers of documents, cut by range.

    ``scattered`` are the files of the scatter tasks; without any, the band's column is read from the signature files. Memory:
    grouping.BYTES_PER_DOC bytes per document of the part.
    """

    def __init__(self, signatures: Signatures, cut: Cut, scattered: Sequence[str], out: Folder) -> None:
        self.signatures, self.cut, self.scattered, self.out = signatures, cut, tuple(scattered), out

    def run(self, task: Task) -> Receipt:
        band, part = (cast(int, task.payload[k]) for k in ("band", "part"))
        if self.scattered:
            hashes, numbers, check = self._slice(band, part)
        else:
            hashes, numbers, check = gathered(self.signatures, band, number_type(self.signatures.n_docs), 0)
        edges = forest(hashes, numbers, check)
        entry = write_edges(self.out, f"edges/{task.key}.arrow", [edges], self.cut.ranges)
        return Receipt(key=task.key, files=(entry,), counts={"grouped": len(hashes), "edges": len(edges)})

    def _slice(self, band: int, part: int) -> tuple[U64, Numbers, U64 | None]:
        """The part's hashes, numbers and checks: of a file's tables, in which the exact hash has the first two."""
        halves = 2 if band == EXACT_BAND else 1
        first = self.cut.bands.index(band) + (1 if halves == 1 and EXACT_BAND in self.cut.bands else 0)
        found: list[list[pa.RecordBatch]] = [[] for _ in range(halves)]
        for name in self.scattered:
            for half in range(halves):
                found[half] += read_cut(self.out.path(name), part, self.cut.n_parts, first + half)
        tables = [pa.Table.from_batches(batches).combine_chunks() for batches in found]
        hashes, check = tables[0]["hash"].to_numpy(), tables[1]["hash"].to_numpy() if halves == 2 else None
        return hashes, tables[0]["number"].to_numpy(), check


def gathered(
    signatures: Signatures, band: int, kind: type[np.uint32] | type[np.uint64], offset: int
) -> tuple[U64, Numbers, U64 | None]:
    """(hashes, numbers, checks or None) of a band over all files, without the documents that match nothing."""
    found: tuple[list[U64], list[Numbers], list[U64]] = ([], [], [])
    for first, hashes, check in signatures.hashes(band):
        # The exact hash has 128 bits, of which all ones in the first half alone may be a real value.
        real = hashes != NEVER if check is None else (hashes != NEVER) | (check != NEVER)
        numbers: Numbers = np.arange(offset + first, offset + first + len(hashes), dtype=np.uint64).astype(kind)
        keep: npt.NDArray[np.bool_] | slice = slice(None) if real.all() else real
        found[0].append(hashes[keep])
        found[1].append(numbers[keep])
        found[2].extend([] if check is None else [check[keep]])
    if not found[0]:
        return np.zeros(0, np.uint64), np.zeros(0, kind), None
    return np.concatenate(found[0]), np.concatenate(found[1]), np.concatenate(found[2]) if found[2] else None
