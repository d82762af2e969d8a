"""datatrove's token files: ``X.ds`` (uint16 or uint32 ids, little-endian), ``X.ds.index`` (uint64 ends of documents, in tokens) and
``X.ds.metadata`` (lines: tokenizer|bytes a token, tokens, the same in words). Two bytes a token where the vocabulary fits 65,536 ids.
"""

from __future__ import annotations

import numpy as np

from corpus.token_files.shard import I64, TRUNCATED, Shard, map_tokens
from store.errors import InputError
from store.fs import FileEntry, Folder

SUFFIX = ".ds"


def dtype_for(vocab_size: int) -> np.dtype[np.generic]:
    """The type of ids that datatrove takes for a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def write_sides(folder: Folder, stem: str, ends: I64, dtype: np.dtype[np.generic], tokenizer: str) -> list[FileEntry]:
    """Write the index and metadata of ``stem``.ds."""
    n_tokens = int(ends[-1]) if len(ends) else 0
    words = f"{tokenizer}|{dtype.itemsize}\n{n_tokens}\n{n_tokens / 1e6:.3g} MT"
    return [
        folder.write_bytes(f"{stem}{SUFFIX}.index", ends.astype("<u8").tobytes(), n_rows=len(ends)),
        folder.write_bytes(f"{stem}{SUFFIX}.metadata", words.encode()),
    ]


def written_with(folder: Folder, name: str) -> tuple[str | None, int | None]:
    """(tokenizer, bytes a token) that the metadata of X.ds names; None for what it does not say."""
    if not folder.exists(f"{name}.metadata"):
        return None, None
    tokenizer, _, size = folder.read_bytes(f"{name}.metadata").decode(errors="replace").split("\n", 1)[0].rpartition("|")
    return tokenizer or None, int(size) if size in ("2", "4") else None


def read_shard(folder: Folder, name: str) -> Shard:
    """Open X.ds with its index; InputError if a file is missing or cut."""
    if not folder.exists(f"{name}.index"):
        raise InputError("the shard's index is missing", where=folder.path(f"{name}.index"), remedy="write it with save_index=True")
    body = folder.read_bytes(f"{name}.index")
    if len(body) % 8:
        raise InputError("the index is truncated", where=folder.path(f"{name}.index"), expected="8 bytes a document", remedy=TRUNCATED)
    ends = np.frombuffer(body, "<u8").astype(np.int64)
    _, size = written_with(folder, name)
    if size is None:  # without metadata the sizes tell
        n_bytes = folder.size(name) or 0
        size = 4 if len(ends) and n_bytes == int(ends[-1]) * 4 else 2
    return map_tokens(folder, name, np.dtype("<u2" if size == 2 else "<u4"), ends)
