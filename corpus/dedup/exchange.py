"""How hashes come together: the tasks that scatter and group.

If a band of all documents fits a task's memory, a task per band reads its column from every signature file: nothing is exchanged. If
not, hashes are cut into P parts by their value. Scatter tasks read the signature files once, as many at a time as fit the memory, and
write one file each, cut by part, with all bands in it; a grouping task (band, part) reads its slice of every scattered file.

    P = ceil(n_docs x BYTES_PER_DOC / memory)
    S = ceil(n_docs x (n_bands + 2) x 24 / memory), the scatter tasks
    scattered files = S if P > 1, else 0;    edge files = (n_bands + 1) x P

With 2 GB and 14 bands: no scattered file up to 71 M documents; 496 M documents: 96 files of 1 GB. Everything a task writes is named
after the task and its cut, so a task done twice writes the same file, and one done for another memory is not mistaken for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.dedup.grouping import BYTES_PER_DOC, Groups, part_of
from corpus.dedup.params import DedupParams
from corpus.dedup.ranges import RANGE_BYTES_PER_DOC, Ranges, by_slice, load_npy, read_cut, write_cut, write_edges, write_npy
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
    for the exact hash: its halves); and how many documents each slice has.

    Memory: SCATTER_BYTES_PER_HASH bytes for every hash of one band of the files, and what is written of it.
    """

    def __init__(self, signatures: Signatures, cut: Cut, out: Folder) -> None:
        self.signatures, self.cut, self.out = signatures, cut, out

    def run(self, task: Task) -> Receipt:
        begin, end = (cast(int, task.payload[k]) for k in ("begin", "end"))
        part = Signatures(self.signatures.files[begin:end], self.signatures.n_rows[begin:end])
        name, counts = f"exchange/{task.key}.arrow", list[npt.NDArray[np.int64]]()
        entry = write_cut(self.out, name, self._tables(part, self.signatures.first[begin], counts), self.cut.n_parts)
        counted = write_npy(self.out, counts_name(name), np.concatenate(counts).astype(np.uint32))
        return Receipt(key=task.key, files=(entry, counted), counts={"scattered": part.n_docs})

    def _tables(
        self, part: Signatures, offset: int, counts: list[npt.NDArray[np.int64]]
    ) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        """The tables in the order they are written; ``counts`` is given each one's documents per part."""
        for band in self.cut.bands:
            hashes, numbers, check = gathered(part, band, number_type(self.signatures.n_docs), offset)
            which = part_of(hashes, self.cut.n_parts)
            order = by_slice(which, self.cut.n_parts)
            for half in (hashes,) if check is None else (hashes, check):
                counts.append(np.bincount(which, minlength=self.cut.n_parts))
                yield pa.table({"hash": half[order], "number": numbers[order]}), which[order]


def counts_name(scattered: str) -> str:
    """Beside a scattered file: [tables x parts] uint32, the documents of each slice."""
    return scattered.removesuffix(".arrow") + ".counts.npy"


class GroupWorker:
    """A task's payload is {"band", "part"}. Writes ``edges/<task key>.arrow``: edges between numbers of documents, cut by range.

    ``scattered`` are the files of the scatter tasks; without any, the band's column is read from the signature files. Memory:
    grouping.BYTES_PER_DOC bytes per document of the part.
    """

    def __init__(self, signatures: Signatures, cut: Cut, scattered: Sequence[str], out: Folder) -> None:
        self.signatures, self.cut, self.scattered, self.out = signatures, cut, tuple(scattered), out

    def run(self, task: Task) -> Receipt:
        band, part = (cast(int, task.payload[k]) for k in ("band", "part"))
        groups = self._scattered(band, part) if self.scattered else self._whole(band)
        entry = write_edges(self.out, f"edges/{task.key}.arrow", groups.edges(), self.cut.ranges)
        return Receipt(key=task.key, files=(entry,), counts={"grouped": groups.n, "edges": entry.n_rows or 0})

    def _whole(self, band: int) -> Groups:
        """All documents by their hash of a band."""
        groups = Groups(self.signatures.n_docs, number_type(self.signatures.n_docs), band == EXACT_BAND)
        for first, hashes, check in self.signatures.hashes(band):
            groups.add(hashes, first, check)
        return groups

    def _scattered(self, band: int, part: int) -> Groups:
        """The part's documents: its slices of the scattered files, of whose tables the exact hash has the first two (its halves)."""
        checked = band == EXACT_BAND
        table = self.cut.bands.index(band) + (1 if not checked and EXACT_BAND in self.cut.bands else 0)
        groups = Groups(int(self._counts[table * self.cut.n_parts + part]), number_type(self.signatures.n_docs), checked)
        for name in self.scattered:
            halves = [read_cut(self.out.path(name), part, self.cut.n_parts, table + half) for half in range(2 if checked else 1)]
            for batches in zip(*halves, strict=True):
                hashes, numbers = (column.to_numpy() for column in batches[0].columns)
                groups.add(hashes, numbers, batches[1].column(0).to_numpy() if checked else None)
        return groups

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        """[tables x parts] the documents of each slice, over all scattered files: read once for all tasks of this worker."""
        return sum((load_npy(self.out, counts_name(name)).astype(np.int64) for name in self.scattered), np.zeros(1, np.int64))


def gathered(
    signatures: Signatures, band: int, kind: type[np.uint32] | type[np.uint64], offset: int
) -> tuple[U64, Numbers, U64 | None]:
    """(hashes, numbers, checks or None) of a band over all files, without the documents that match nothing."""
    n, n_docs, checked = 0, signatures.n_docs, band == EXACT_BAND
    found, numbers = np.empty(n_docs, np.uint64), np.empty(n_docs, kind)
    checks = np.empty(n_docs if checked else 0, np.uint64)
    for first, hashes, check in signatures.hashes(band):
        # The exact hash has 128 bits, of which all ones in the first half alone may be a real value.
        real = np.flatnonzero(hashes != NEVER if check is None else (hashes != NEVER) | (check != NEVER))
        end = n + len(real)
        found[n:end], numbers[n:end] = hashes[real], offset + first + real
        if check is not None:
            checks[n:end] = check[real]
        n = end
    return found[:n], numbers[:n], checks[:n] if checked else None
