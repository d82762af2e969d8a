"""Megatron-LM's indexed dataset (MMapIndexedDataset, version 1): ``X.bin`` holds the ids of all sequences end to end, ``X.idx`` where.

Layout of X.idx, little-endian: magic ``MMIDIDX\\0\\0`` (9 bytes), version uint64 = 1, type code uint8, sequences uint64, entries of
the document index uint64; lengths int32 [sequences], byte offsets int64 [sequences], document index int64 [documents + 1]: document
d is the sequences from entry d to entry d + 1. (NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.)
"""

from __future__ import annotations

import struct

import numpy as np

from corpus.token_files.shard import I64, TRUNCATED, Shard, map_tokens
from store.errors import InputError
from store.fs import FileEntry, Folder

MAGIC, VERSION, HEADER = b"MMIDIDX\x00\x00", 1, struct.Struct("<9sQBQQ")
CODES: dict[int, np.dtype[np.generic]] = {4: np.dtype("<i4"), 8: np.dtype("<u2")}  # of Megatron's eight types those that hold ids
SUFFIX = ".idx"


def dtype_for(vocab_size: int) -> np.dtype[np.generic]:
    """The type of ids that Megatron takes for a vocabulary; it has no uint32."""
    return np.dtype("<u2") if vocab_size < 65_500 else np.dtype("<i4")


def write_sides(folder: Folder, stem: str, ends: I64, dtype: np.dtype[np.generic]) -> list[FileEntry]:
    """Write ``stem``.idx: every document is one sequence."""
    lengths = np.diff(ends, prepend=0)
    if len(lengths) and lengths.max() > np.iinfo(np.int32).max:
        raise InputError("a document is too long for Megatron's index", where=stem, expected="at most 2^31 - 1 tokens")
    code = next(c for c, d in CODES.items() if d == dtype)
    head = HEADER.pack(MAGIC, VERSION, code, len(ends), len(ends) + 1)
    pointers = (ends - lengths) * dtype.itemsize
    body = head + lengths.astype("<i4").tobytes() + pointers.astype("<i8").tobytes() + np.arange(len(ends) + 1, dtype="<i8").tobytes()
    return [folder.write_bytes(f"{stem}{SUFFIX}", body, n_rows=len(ends))]


def read_shard(folder: Folder, name: str) -> Shard:
    """Open X.idx with its X.bin; InputError if a file is missing, cut or laid out in another way."""
    where, body = folder.path(name), folder.read_bytes(name)
    if len(body) < HEADER.size or not body.startswith(MAGIC):
        raise InputError("this is no index of Megatron's", where=where, expected="a file that begins with MMIDIDX", remedy=TRUNCATED)
    _, version, code, n_sequences, n_entries = HEADER.unpack_from(body)
    if version != VERSION or code not in CODES:
        raise InputError(f"version {version}, type {code}", where=where, expected="version 1 and ids of type 4 (int32) or 8 (uint16)",
                         remedy="write the data set again with ids of that type")  # fmt: skip
    # What may follow are the sequences' modes (multimodal data); ids are not concerned.
    if len(body) < HEADER.size + 12 * n_sequences + 8 * n_entries:
        raise InputError("the index is truncated", where=where, remedy=TRUNCATED)
    lengths = np.frombuffer(body, "<i4", n_sequences, HEADER.size).astype(np.int64)
    pointers = np.frombuffer(body, "<i8", n_sequences, HEADER.size + 4 * n_sequences)
    documents = np.frombuffer(body, "<i8", n_entries, HEADER.size + 12 * n_sequences)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if (pointers != ends[:-1] * CODES[code].itemsize).any():
        raise InputError("the sequences do not lie end to end", where=where, remedy="write the data set again, without gaps")
    if not n_entries or documents[0] != 0 or documents[-1] != n_sequences or (np.diff(documents) < 0).any():
        raise InputError("the document index does not cover the sequences", where=where, remedy="write the data set again")
    return map_tokens(folder, f"{name.removesuffix(SUFFIX)}.bin", CODES[code], ends[documents[1:]])
