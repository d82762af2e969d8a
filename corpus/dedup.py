"""Deduplication: signature files in, clusters of duplicates out.

1. One task per band (and one for the exact hash) sorts (hash, document key) and writes an edge from the first document of every
   group of equal hashes to each other document of the group. A group of m documents costs m - 1 edges, never m^2.
2. ``connect`` joins the edges of all bands by union-find, picks one survivor a cluster, and commits ``clusters.parquet``.

Documents are int64 keys throughout. A band hash of all ones (a text without words) matches nothing. Where many documents share a hash
by chance or boilerplate, clusters are the connected components, as in datatrove and FineWeb2: similarity is not re-verified.

The result is a function of the signatures and the parameters: not of how files, tasks or edges are ordered.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from corpus.minhash import NEVER, U64
from corpus.union_find import DisjointSets, Index
from store.artifact import Artifact, Draft, Receipt
from store.errors import ArtifactError
from store.executor import Executor, Job, Task
from store.fs import FileEntry, Folder, open_input, read_bytes
from store.params import Execution, Json, Params
from store.schema import CLUSTERS, require_columns

CLUSTERS_FILE = "clusters.parquet"
EXACT = "exact"
SIZES = {"2": (2, 2), "3-4": (3, 4), "5-9": (5, 9), "10-99": (10, 99), "100+": (100, None)}


class DedupParams(Params):
    """Which duplicates are found and which document of a cluster stays."""

    exact: bool = Field(default=True, description="texts that are the same once case, numbers, punctuation and white space are ignored")
    minhash: bool = Field(default=True, description="texts that share most of their word n-grams, by the signature stage's bands")
    keep: Literal["first", "longest"] = Field(default="first", description="survivor: first in the corpus, or with the most characters")
    docs_per_task: Annotated[int, Execution] = Field(
        default=32_000_000, ge=1, description="documents a band task holds at a time; about 100 bytes of memory each"
    )


class BandWorker:
    """A task's payload is {"band": number or -1 for the exact hash, "part": p, "n_parts": n}: hashes with hash mod n = p.

    Writes ``edges/<task key>.npy``, int64 [n, 2], smaller key first, sorted. Memory: at most 100 bytes per document of the part (key
    and hash as read, joined and sorted, the order, the groups), and one row group's signatures; Parquet stores a fixed-size list as one
    column, so the bands of a row group are read together (8 bytes per document and band).
    """

    def __init__(self, files: Sequence[str], out: Folder) -> None:
        self._files, self._out = list(files), out

    def run(self, task: Task) -> Receipt:
        band, part, n_parts = (cast(int, task.payload[k]) for k in ("band", "part", "n_parts"))
        column, width = ("exact_hash", 2) if band < 0 else ("minhash_bands", 1)
        keys, hashes, n_read = [np.zeros(0, np.int64)], [np.zeros((0, width), np.uint64)], 0
        for batch in read_signatures(self._files, ["doc_key", column]):
            values = lists(batch.column(column))
            values = values if band < 0 else values[:, band : band + 1]
            # The exact hash is 128 bits, of which all ones in the first half alone may be a real value.
            wanted = (values != NEVER).any(axis=1) & (values[:, 0] % np.uint64(n_parts) == part)
            keys.append(batch.column("doc_key").to_numpy()[wanted])
            hashes.append(values[wanted])
            n_read += len(batch)
        edges = group_edges(np.concatenate(keys), np.concatenate(hashes))
        entry = self._out.write_bytes(f"edges/{task.key}.npy", _npy(edges), n_rows=len(edges))
        return Receipt(key=task.key, files=(entry,), counts={"read": n_read, "edges": len(edges)})


def group_edges(keys: Index, hashes: U64) -> Index:
    """[m, 2] edges from the smallest key of every group of equal rows of hashes [n, w] to the group's other keys."""
    order = np.lexsort((keys, *hashes.T))
    keys, hashes = keys[order], hashes[order]
    opens = np.ones(len(keys), bool)
    opens[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
    first = np.maximum.accumulate(np.where(opens, np.arange(len(keys)), 0)) if len(keys) else np.zeros(0, np.int64)
    edges = np.stack([keys[first[~opens]], keys[~opens]], axis=1)
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))]


def band_tasks(n_bands: int, n_docs: int, params: DedupParams) -> list[Task]:
    """The tasks of the first half. More parts for more documents; the edges are the same for any number of parts."""
    n_parts = max(1, -(-n_docs // params.docs_per_task))
    bands = [*([-1] if params.exact else []), *(range(n_bands) if params.minhash else [])]
    return [
        # The number of parts is in the key: a receipt of a half must not pass for the whole in a run with larger parts.
        Task(f"{EXACT if b < 0 else f'band-{b:02d}'}-{p:03d}-of-{n_parts:03d}", {"band": b, "part": p, "n_parts": n_parts}, n_docs)
        for b in bands
        for p in range(n_parts)
    ]


def connect(draft: Draft, executor: Executor, signature_files: Sequence[str], n_docs: int, params: DedupParams) -> Artifact:
    """Find the clusters of duplicates and commit them as ``clusters.parquet`` (store.schema.CLUSTERS, in order of doc_key).

    Args:
        signature_files: Parquet files of store.schema.signature_schema, paths or URLs.
        n_docs: documents in them; ArtifactError if there are more or fewer.

    ``level`` is "exact" where the member's exact hash is its survivor's, else "minhash". Memory: 8 bytes x 3 per document that has a
    duplicate, and the edges of one task. Errors of tasks are the executor's StepError.
    """
    tasks = band_tasks(count_bands(signature_files) if params.minhash else 0, n_docs, params)
    job = Job(draft.identity.step, BandWorker, {"files": list(signature_files), "out": draft.folder}, tasks, draft, unit="documents")
    receipts = executor.map(job)
    for receipt in receipts:
        if receipt.counts["read"] != n_docs:
            raise ArtifactError(
                f"the signature files hold {receipt.counts['read']} documents", where=draft.folder.url, expected=f"{n_docs}",
                remedy="remove the artifact that holds the signatures and run the recipe again",
            )  # fmt: skip
    clusters = _clusters(draft.folder, [r.files[0].name for r in receipts], signature_files, params)
    entry = _write(draft.folder, clusters)
    # The edges are intermediate: no receipt that commit sees lists them, so it removes them.
    return draft.commit([Receipt(key=r.key, timing=r.timing) for r in receipts], files=[entry], summary=clusters.summary(n_docs))


@dataclass(frozen=True)
class Clusters:
    """Members of clusters of two or more, in order of key. All arrays have one element per member."""

    keys: Index
    survivor: Index
    size: npt.NDArray[np.int32]
    exact: npt.NDArray[np.bool_]

    def summary(self, n_docs: int) -> dict[str, Json]:
        """Counts for the manifest."""
        sizes = self.size[self.keys == self.survivor]
        histogram: dict[str, Json] = {
            name: int(np.count_nonzero((sizes >= a) & (sizes <= (b or len(self.keys))))) for name, (a, b) in SIZES.items()
        }
        return {
            "n_docs": n_docs, "n_clusters": len(sizes), "n_duplicates": len(self.keys) - len(sizes),
            "largest_cluster": int(sizes.max(initial=0)), "cluster_sizes": histogram,
        }  # fmt: skip


def _clusters(folder: Folder, edge_files: Sequence[str], signature_files: Sequence[str], params: DedupParams) -> Clusters:
    keys: Index = np.zeros(0, np.int64)
    for name in edge_files:
        keys = np.union1d(keys, _edges(folder, name))
    sets = DisjointSets(len(keys))
    for name in edge_files:
        edges = np.searchsorted(keys, _edges(folder, name))
        sets.union(np.ascontiguousarray(edges[:, 0]), np.ascontiguousarray(edges[:, 1]))
    root = sets.roots()
    exact, n_chars = _properties(keys, signature_files)
    # Roots are smallest members, and members are in order of key: the root is the first document of its cluster.
    survivor = root if params.keep == "first" else _longest(root, n_chars)
    size = np.bincount(root, minlength=len(keys))[root].astype(np.int32)
    return Clusters(keys, keys[survivor], size, (exact == exact[survivor]).all(axis=1))


def _longest(root: Index, n_chars: npt.NDArray[np.int32]) -> Index:
    """[n] the member with the most characters of each member's cluster, the first of equals."""
    order = np.lexsort((np.arange(len(root)), -n_chars.astype(np.int64), root))
    opens = np.ones(len(root), bool)
    opens[1:] = root[order][1:] != root[order][:-1]
    best = np.zeros(len(root), np.int64)
    best[root[order][opens]] = order[opens]
    return best[root]


def _properties(keys: Index, signature_files: Sequence[str]) -> tuple[U64, npt.NDArray[np.int32]]:
    """(exact hash [n, 2], characters [n]) of the given documents, in their order."""
    exact, n_chars = np.zeros((len(keys), 2), np.uint64), np.zeros(len(keys), np.int32)
    for batch in read_signatures(signature_files, ["doc_key", "exact_hash", "n_chars"]) if len(keys) else ():
        found = batch.column("doc_key").to_numpy()
        at = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
        hit = keys[at] == found
        exact[at[hit]] = lists(batch.column("exact_hash"))[hit]
        n_chars[at[hit]] = batch.column("n_chars").to_numpy()[hit]
    return exact, n_chars


def _write(folder: Folder, clusters: Clusters) -> FileEntry:
    level = pa.array(np.where(clusters.exact, EXACT, "minhash"), pa.string())
    table = pa.table([clusters.keys, clusters.survivor, clusters.size, level], schema=CLUSTERS)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return folder.write_bytes(CLUSTERS_FILE, sink.getvalue().to_pybytes(), n_rows=len(table))


def read_signatures(files: Sequence[str], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Row groups of signature files, one or more batches each; InputError if a column is missing."""
    for url in files:
        with open_input(url) as source, pq.ParquetFile(source) as file:
            require_columns(file.schema_arrow, columns, url)
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=columns, use_threads=False).to_batches()


def count_bands(files: Sequence[str]) -> int:
    """The number of bands of signature files; 0 of none. ArtifactError if they differ."""
    widths: dict[int, str] = {}
    for url in files:
        with open_input(url) as source, pq.ParquetFile(source) as file:
            require_columns(file.schema_arrow, ["minhash_bands"], url)
            widths[file.schema_arrow.field("minhash_bands").type.list_size] = url
    if len(widths) > 1:
        raise ArtifactError(f"signature files have {sorted(widths)} bands", where=max(widths.values()), expected="one number of bands")
    return next(iter(widths), 0)


def lists(column: pa.FixedSizeListArray) -> U64:
    """[n, width] view of a fixed-size list column without nulls."""
    return cast("U64", column.flatten().to_numpy().reshape(len(column), column.type.list_size))


def _edges(folder: Folder, name: str) -> Index:
    return cast("Index", np.load(io.BytesIO(read_bytes(folder.path(name))), allow_pickle=False))


def _npy(values: Index) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.astype("<i8"), allow_pickle=False)
    return buffer.getvalue()
