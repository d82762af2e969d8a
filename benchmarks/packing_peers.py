"""What packing is compared with, on a part of the documents: concatenate and cut; best-fit and first-fit decreasing in plain Python.

Times are of the processor, for pieces ready in memory; ours is cutting and packing without reading or writing. Paddings of ours and of
plain best-fit are equal if ours is exact.
"""

from __future__ import annotations

import bisect
import math
import time

import numpy as np
import numpy.typing as npt

from store.params import Json

I64 = npt.NDArray[np.int64]


def peers(lengths: I64, seq_len: int) -> dict[str, Json]:
    """Concatenate-and-cut on order drawn at random; plain best-fit and first-fit decreasing of pieces that fit a row."""
    ends = np.cumsum(np.random.default_rng(1).permutation(lengths))
    starts, sizes = np.concatenate([[0], ends[:-1]]), np.diff(ends, prepend=0)
    split = (starts // seq_len != (ends - 1) // seq_len) & (sizes <= seq_len)
    pieces = np.concatenate([lengths[lengths <= seq_len], lengths[lengths > seq_len] % seq_len])
    pieces = np.sort(pieces[pieces > 0])[::-1]
    full = int((lengths // seq_len)[lengths > seq_len].sum())
    figures: dict[str, Json] = {"peer.concatenate_short_documents_split": float(split.sum() / (sizes <= seq_len).sum())}
    for name, fit in (("best_fit_bisect", plain_best_fit), ("first_fit_tree", plain_first_fit)):
        begin = time.process_time()
        n_rows = full + fit(pieces.tolist(), seq_len)
        figures[f"peer.{name}_us_per_piece"] = round((time.process_time() - begin) / len(pieces) * 1e6, 2)
        figures[f"peer.{name}_padding"] = 1 - int(lengths.sum()) / (n_rows * seq_len)
    from corpus.packing.rows import count_pieces, cut, pack, room_for

    for some in (lengths[:100], lengths):  # the first compiles
        begin, times = time.process_time(), np.ones(len(some), np.int32)
        out = room_for(count_pieces(some, times, seq_len))
        cut(out, 0, some, times, seq_len, 0, 1)
        plan = pack(out, seq_len)
        figures["peer.ours_us_per_piece"] = round((time.process_time() - begin) / len(plan.length) * 1e6, 3)
        figures["peer.ours_padding"] = plan.padding
    return figures


def plain_best_fit(pieces: list[int], seq_len: int) -> int:
    """Rows that best-fit decreasing needs, with a sorted list of free spaces."""
    free: list[int] = []
    n_rows = 0
    for piece in pieces:
        at = bisect.bisect_left(free, piece)
        if at < len(free):
            left = free.pop(at) - piece
        else:
            n_rows, left = n_rows + 1, seq_len - piece
        if left:
            bisect.insort(free, left)
    return n_rows


def plain_first_fit(pieces: list[int], seq_len: int) -> int:
    """Rows that first-fit decreasing needs, with a tree of the largest free space."""
    size = 1 << math.ceil(math.log2(max(2, len(pieces))))
    tree, n_rows = [seq_len] * (2 * size), 0
    for piece in pieces:
        node = 1
        while node < size:
            node = 2 * node if tree[2 * node] >= piece else 2 * node + 1
        n_rows = max(n_rows, node - size + 1)
        tree[node] -= piece
        while node > 1:
            node //= 2
            tree[node] = max(tree[2 * node], tree[2 * node + 1])
    return n_rows
