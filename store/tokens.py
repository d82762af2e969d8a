"""Token shards: flat little-endian uint32 files with an index of documents.

An artifact of the step ``tokens`` holds, for every shard NNNNN, ``tokens/NNNNN.bin`` (uint32 token ids, documents end to end, each
closed by the end-of-text id) and ``index/NNNNN.parquet`` (schema.TOKEN_INDEX). Its summary has n_docs, n_tokens, n_bytes (UTF-8 of
the text), vocab_size, eos_id and the tokenizer's fingerprint. uint32 because vocabularies of 131 k and 152 k exceed uint16.
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
from store.errors import ArtifactError, InputError
from store.fs import FileEntry, Folder, read_bytes
from store.schema import TOKEN_INDEX

TOKEN_DTYPE = np.dtype("<u4")
REMEDY = "remove the artifact's folder and run the recipe again"


def write_token_shard(
    folder: Folder,
    name: str,
    tokens: npt.NDArray[np.uint32],
    doc_keys: npt.NDArray[np.int64],
    n_tokens: npt.NDArray[np.int32],
    n_bytes: npt.NDArray[np.int32],
) -> tuple[FileEntry, FileEntry]:
    """Write one shard; the sum of n_tokens must be len(tokens)."""
    if int(n_tokens.sum()) != len(tokens) or not len(doc_keys) == len(n_tokens) == len(n_bytes):
        raise ValueError(f"shard {name}: {int(n_tokens.sum())} tokens indexed, {len(tokens)} given")
    index = pa.table([doc_keys, n_tokens, n_bytes], schema=TOKEN_INDEX)
    sink = pa.BufferOutputStream()
    pq.write_table(index, sink, compression="zstd")
    return (
        folder.write_bytes(f"tokens/{name}.bin", tokens.astype(TOKEN_DTYPE).tobytes(), n_rows=len(tokens)),
        folder.write_bytes(f"index/{name}.parquet", sink.getvalue().to_pybytes(), n_rows=len(doc_keys)),
    )


@dataclass(frozen=True)
class TokenStore:
    """Read access to a tokens artifact. Documents are numbered 0..n_docs-1 through all shards in name order.

    Attributes:
        lengths: [n_docs] int64 tokens of each document, end-of-text included.
        n_bytes: [n_docs] int64 UTF-8 bytes of each document's text.
        doc_keys: [n_docs] int64.
    """

    artifact: Artifact
    shards: tuple[npt.NDArray[np.uint32], ...]
    first_doc: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    n_bytes: npt.NDArray[np.int64]
    doc_keys: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def open(cls, artifact: Artifact) -> TokenStore:
        """Map the shards of a complete tokens artifact; ArtifactError if sizes disagree with the manifest or the index."""
        names = [e.name[len("tokens/") : -len(".bin")] for e in artifact.files("tokens/")]
        shards, lengths, sizes, keys, offsets, first = [], [], [], [], [], [0]
        for name in names:
            data = _map_shard(artifact, f"tokens/{name}.bin")
            index = _read_index(artifact, f"index/{name}.parquet")
            n = index["n_tokens"].to_numpy().astype(np.int64)
            if n.sum() != len(data):
                raise ArtifactError(
                    f"{len(data)} tokens on disk, {n.sum()} in the index", where=artifact.path(f"tokens/{name}.bin"),
                    remedy=REMEDY,
                )  # fmt: skip
            shards.append(data)
            lengths.append(n)
            offsets.append(np.concatenate([[0], np.cumsum(n)[:-1]]).astype(np.int64)[: len(n)])
            sizes.append(index["n_bytes"].to_numpy().astype(np.int64))
            keys.append(index["doc_key"].to_numpy())
            first.append(first[-1] + len(n))
        empty = [np.zeros(0, np.int64)]
        return cls(
            artifact, tuple(shards), np.array(first, np.int64), np.concatenate(lengths or empty),
            np.concatenate(sizes or empty), np.concatenate(keys or empty), np.concatenate(offsets or empty),
        )  # fmt: skip

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


def _read_index(artifact: Artifact, name: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(read_bytes(artifact.path(name))), schema=TOKEN_INDEX)
    except (InputError, pa.ArrowException) as error:
        raise ArtifactError(f"the index cannot be read ({type(error).__name__})", where=artifact.path(name), remedy=REMEDY) from error


def _map_shard(artifact: Artifact, name: str) -> npt.NDArray[np.uint32]:
    entry = next(e for e in artifact.files("tokens/") if e.name == name)
    path = artifact.path(name)
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
