"""A token store written for another program: a shard for a shard, in order, streamed.

Beside the files of the format stands ``definemed.json`` (docs/formats.md): what tokenizer the ids are of, and every file with its
sha256; and ``documents/NNNNN.parquet``, the shard's index with what the other format has no place for. Both make a way back
without loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from corpus.token_files import Kind, datatrove, megatron
from store.artifact import Artifact
from store.errors import ArtifactError
from store.fs import FileEntry, Folder
from store.params import Json
from store.tokens import map_shard, read_index, shard_names

NOTE = "definemed.json"
CHUNK_TOKENS = 1 << 22


def export_tokens(artifact: Artifact, to: Folder, kind: Kind) -> dict[str, Json]:
    """Write all shards of a tokens artifact to ``to`` and return what definemed.json says.

    ArtifactError if a shard is not what the manifest says (sha256), or holds an id outside its own vocabulary.
    """
    summary = artifact.manifest.summary
    vocab_size, tokenizer = int(str(summary["vocab_size"])), str(summary.get("tokenizer") or "unknown")
    to.make()
    files: list[FileEntry] = []
    for name in shard_names(artifact):
        files += _shard(artifact, name, to, kind, vocab_size, f"sha256:{tokenizer}")
    note: dict[str, Json] = {
        "format": 1, "kind": kind, "tokenizer": tokenizer, "vocab_size": vocab_size, "eos_id": summary["eos_id"],
        "files": [f.model_dump() for f in sorted(files, key=lambda f: f.name)],
    }  # fmt: skip
    to.write_bytes(NOTE, json.dumps(note, indent=1, sort_keys=True).encode())
    return note


def _shard(artifact: Artifact, name: str, to: Folder, kind: Kind, vocab_size: int, tokenizer: str) -> list[FileEntry]:
    index = read_index(artifact, name)
    ends = np.cumsum(index["n_tokens"].to_numpy().astype(np.int64))
    documents = to.write_bytes(f"documents/{name}.parquet", artifact.folder.read_bytes(f"index/{name}.parquet"), n_rows=len(index))
    if kind == "datatrove":
        dtype = datatrove.dtype_for(vocab_size)
        tokens = _tokens(artifact, name, to, f"{name}{datatrove.SUFFIX}", dtype, vocab_size)
        return [documents, tokens, *datatrove.write_sides(to, name, ends, dtype, tokenizer)]
    dtype = megatron.dtype_for(vocab_size)
    tokens = _tokens(artifact, name, to, f"{name}.bin", dtype, vocab_size)
    return [documents, tokens, *megatron.write_sides(to, name, ends, dtype)]


def _tokens(artifact: Artifact, name: str, to: Folder, target: str, dtype: np.dtype[np.generic], vocab_size: int) -> FileEntry:
    """Copy a shard's ids as ``dtype``, checking each and the whole; the file appears only if all was right."""
    tokens, mine, made = map_shard(artifact, name), hashlib.sha256(), hashlib.sha256()
    limit = min(vocab_size, largest_id(dtype) + 1)
    with to.writing(target) as out:
        for first in range(0, len(tokens), CHUNK_TOKENS):
            chunk = np.ascontiguousarray(tokens[first : first + CHUNK_TOKENS])
            if int(chunk.max()) >= limit:
                raise ArtifactError(f"token id {int(chunk.max())} is outside the vocabulary", where=artifact.path(f"tokens/{name}.bin"),
                                    expected=f"ids below {limit}", remedy="tokenise again with one tokenizer")  # fmt: skip
            body = chunk.astype(dtype).tobytes()
            mine.update(chunk.data)
            made.update(body)
            out.write(body)
        _check(artifact, name, mine.hexdigest())
    return FileEntry(name=target, size_bytes=len(tokens) * dtype.itemsize, sha256=made.hexdigest(), n_rows=len(tokens))


def largest_id(dtype: np.dtype[np.generic]) -> int:
    """The largest id a type of a format can hold."""
    return int(np.iinfo(dtype.str).max)


def _check(artifact: Artifact, name: str, found: str) -> None:
    wanted: Mapping[str, str] = {e.name: e.sha256 for e in artifact.files("tokens/")}
    if wanted[f"tokens/{name}.bin"] != found:
        raise ArtifactError("the shard's content is not what the manifest says (sha256)", where=artifact.path(f"tokens/{name}.bin"),
                            remedy="remove the artifact's folder and run the recipe again")  # fmt: skip
