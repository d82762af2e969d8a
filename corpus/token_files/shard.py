"""A shard of another program's, opened: its tokens as a map, and where its documents end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.errors import InputError
from store.fs import Folder, local_copy

I64 = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32] | npt.NDArray[np.int32]
PART_TOKENS = 1 << 27  # a shard of ours holds at most so many tokens: 512 MiB
TRUNCATED = "copy the file again from where it was made"


@dataclass(frozen=True)
class Shard:
    """One shard. ``ends`` [n_docs] int64 says after which token each document ends."""

    where: str
    tokens: Tokens
    ends: I64

    def parts(self) -> Iterator[tuple[int, int]]:
        """Ranges of documents of at most PART_TOKENS tokens each, in order; a longer document is a part of its own."""
        first = 0
        while first < len(self.ends):
            begin = int(self.ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(self.ends, begin + PART_TOKENS, side="right")))
            yield first, last
            first = last

    def part(self, first: int, last: int) -> tuple[Tokens, I64]:
        """(tokens, lengths of the documents) of documents first .. last - 1."""
        begin = int(self.ends[first - 1]) if first else 0
        return self.tokens[begin : int(self.ends[last - 1])], np.diff(self.ends[first:last], prepend=begin)


def map_tokens(folder: Folder, name: str, dtype: np.dtype[np.generic], ends: I64) -> Shard:
    """Map a flat file of tokens whose documents end at ``ends``; InputError if there are fewer or more of them."""
    path = local_copy(folder.path(name))
    if not os.path.exists(path):
        raise InputError("the shard's tokens are missing", where=folder.path(name), remedy=TRUNCATED)
    if len(ends) and (ends[0] < 0 or (np.diff(ends) < 0).any()):
        raise InputError("the documents' ends do not rise", where=folder.path(name), remedy="this is no index of token shards")
    size, wanted = os.path.getsize(path), int(ends[-1]) * dtype.itemsize if len(ends) else 0
    if size != wanted:
        how = "truncated" if size < wanted else "longer than its index says"
        raise InputError(f"the shard is {how}: {size} bytes", where=folder.path(name), expected=f"{wanted} bytes", remedy=TRUNCATED)
    tokens = np.memmap(path, dtype, mode="r").view(np.ndarray) if size else np.zeros(0, dtype)
    return Shard(folder.path(name), tokens, ends)
