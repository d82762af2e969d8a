"""Token shards: flat little-endian uint32 files with an index of documents.

An artifact of the step ``tokens`` holds, for every shard NNNNN, ``tokens/NNNNN.bin`` (uint32 token ids, documents end to end, each
closed by the end-of-text id) and ``index/NNNNN.parquet`` (schema.TOKEN_INDEX). Its summary has the format's number, n_docs, n_tokens,
n_bytes (UTF-8 of the text), vocab_size, eos_id and the tokenizer's fingerprint. uint32 because vocabularies of 131 k and 152 k exceed
uint16. Shards are memory-mapped: where they lie, or from a local copy of an object store's (store/cache.py).

Format 1 had no cluster sizes in the index; it is still read, with sizes that are not known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from store.artifact import Artifact
from store.cache import map_cached, require_room
from store.errors import ArtifactError, InputError
from store.fs import FileEntry, Folder, read_bytes
from store.objects import GCS, S3, protocol_of
from store.schema import TOKEN_INDEX

TOKEN_FORMAT = 2
TOKEN_DTYPE = np.dtype("<u4")
REMEDY = "remove the artifact's folder and run the recipe again"
I64 = npt.NDArray[np.int64]


def write_token_shard(
    folder: Folder,
    name: str,
    tokens: npt.NDArray[np.uint32],
    doc_keys: I64,
    n_tokens: npt.NDArray[np.int32],
    n_bytes: npt.NDArray[np.int32],
    cluster_sizes: I64 | None = None,
) -> tuple[FileEntry, FileEntry]:
    """Write one shard; the sum of n_tokens must be len(tokens). Cluster sizes that are not given are recorded as not known (0)."""
    sizes = np.zeros(len(doc_keys), np.int64) if cluster_sizes is None else cluster_sizes
    if int(n_tokens.sum(dtype=np.int64)) != len(tokens) or not len(doc_keys) == len(n_tokens) == len(n_bytes) == len(sizes):
        raise ValueError(f"shard {name}: {int(n_tokens.sum(dtype=np.int64))} tokens indexed, {len(tokens)} given")
    index = pa.table([doc_keys, n_tokens, n_bytes, sizes], schema=TOKEN_INDEX)
    sink = pa.BufferOutputStream()
    pq.write_table(index, sink, compression="zstd")
    return (
        folder.write_bytes(f"tokens/{name}.bin", tokens.astype(TOKEN_DTYPE, copy=False).tobytes(), n_rows=len(tokens)),
        folder.write_bytes(f"index/{name}.parquet", sink.getvalue().to_pybytes(), n_rows=len(doc_keys)),
    )


@dataclass(frozen=True)
class TokenStore:
    """Read access to a tokens artifact. Documents are numbered 0..n_docs-1 through all shards in name order.

    Memory: 40 bytes a document; the tokens are mapped.

    Attributes:
        lengths: [n_docs] int64 tokens of each document, end-of-text included.
        n_bytes: [n_docs] int64 UTF-8 bytes of each document's text.
        doc_keys: [n_docs] int64.
        offsets: [n_docs] int64 where each document begins in its shard.
        cluster_sizes: [n_docs] int64 documents that each one stands for after deduplication, itself included; 0: not known.
    """

    artifact: Artifact
    shards: tuple[npt.NDArray[np.uint32], ...]
    first_doc: I64
    lengths: I64
    n_bytes: I64
    doc_keys: I64
    offsets: I64
    cluster_sizes: I64

    @classmethod
    def open(cls, artifact: Artifact) -> TokenStore:
        """Map the shards of a complete tokens artifact; ArtifactError if sizes disagree with the manifest or the index."""
        names = shard_names(artifact)
        if not artifact.folder.is_local:
            require_room(artifact.files("tokens/"), artifact.folder.url)
        n_docs = sum(e.n_rows or 0 for e in artifact.files("index/"))
        columns = {c: np.empty(n_docs, np.int64) for c in (*TOKEN_INDEX.names, "offset")}
        shards, first = [], [0]
        for name in names:
            data = map_shard(artifact, name)
            index = read_index(artifact, name)
            n = index["n_tokens"].to_numpy().astype(np.int64)
            if n.sum() != len(data) or first[-1] + len(n) > n_docs:
                raise ArtifactError(
                    f"{len(data)} tokens on disk, {n.sum()} in the index", where=artifact.path(f"tokens/{name}.bin"),
                    remedy=REMEDY,
                )  # fmt: skip
            here = slice(first[-1], first[-1] + len(n))
            for column in TOKEN_INDEX.names:
                columns[column][here] = index[column].to_numpy()
            columns["offset"][here] = np.cumsum(n) - n
            shards.append(data.view(np.ndarray))  # a memmap's own class makes every slice slow
            first.append(here.stop)
        keys, lengths, sizes, clusters, offsets = (columns[c][: first[-1]] for c in (*TOKEN_INDEX.names, "offset"))
        return cls(artifact, tuple(shards), np.array(first, np.int64), lengths, sizes, keys, offsets, clusters)

    @property
    def n_docs(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        return int(self.lengths.sum())

    def summary(self, key: str) -> int:
        """An integer of the manifest's summary (vocab_size, eos_id, ...)."""
        return cast(int, self.artifact.manifest.summary[key])

    def tokens(self, doc: int, start: int = 0, length: int | None = None) -> npt.NDArray[np.uint32]:
        """Token ids of a document, or of a piece of it, as a view of the mapped shard."""
        shard = int(np.searchsorted(self.first_doc, doc, side="right")) - 1
        begin = int(self.offsets[doc]) + start
        end = begin + (int(self.lengths[doc]) - start if length is None else length)
        return self.shards[shard][begin:end]


def shard_names(artifact: Artifact) -> list[str]:
    """Names of the shards, in order."""
    return [e.name[len("tokens/") : -len(".bin")] for e in artifact.files("tokens/")]


def read_index(artifact: Artifact, name: str) -> pa.Table:
    """The index of one shard, with TOKEN_INDEX's columns whatever its format; ArtifactError if it cannot be read."""
    where = artifact.path(f"index/{name}.parquet")
    try:
        found = pq.read_table(pa.BufferReader(read_bytes(where)))
        if "minhash_cluster_size" not in found.column_names:
            found = found.append_column("minhash_cluster_size", pa.array(np.zeros(len(found), np.int64)))
        return found.select(TOKEN_INDEX.names).cast(TOKEN_INDEX)
    except (InputError, KeyError, ValueError, pa.ArrowException) as error:
        raise ArtifactError(f"the index cannot be read ({type(error).__name__})", where=where, remedy=REMEDY) from error


def map_shard(artifact: Artifact, name: str) -> npt.NDArray[np.uint32]:
    """The tokens of one shard, read-only: mapped from the local disk, or from the cache if it lies in an object store."""
    name = f"tokens/{name}.bin"
    entry = next(e for e in artifact.files("tokens/") if e.name == name)
    path = artifact.path(name)
    if protocol_of(path) in (*S3, *GCS) and entry.size_bytes:
        return map_cached(path, entry, TOKEN_DTYPE)
    if artifact.folder.is_local:
        size = os.path.getsize(path) if os.path.exists(path) else 0
    else:
        body = read_bytes(path)
        size = len(body)
    if size != entry.size_bytes:
        raise ArtifactError(f"{size} bytes on disk, {entry.size_bytes} in the manifest", where=path, remedy=REMEDY)
    if size == 0:  # an empty file cannot be mapped
        return np.zeros(0, TOKEN_DTYPE)
    if artifact.folder.is_local:
        return np.memmap(path, dtype=TOKEN_DTYPE, mode="r")
    return np.frombuffer(body, dtype=TOKEN_DTYPE)
