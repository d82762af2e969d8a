"""Bits per byte on held-out documents: a measure that does not depend on the tokenizer's granularity.

Documents are cut into windows of seq_len tokens; every window starts fresh and is kept apart from its neighbours in the row. The first
token of a window has no context and no prediction, so the figure is slightly low, by the same amount for every model with the same
tokenizer. The end-of-text token is predicted like any other. bits per byte = sum of nats / ln 2 / UTF-8 bytes of the documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from store.errors import InputError
from store.plan import PackPlan
from store.tokens import TokenStore
from training.order import Permutation
from training.parallel import Gang
from training.rows import RowReader, Rows

SAMPLE_KEY = 0x68656C64  # the documents evaluated do not change with the training seed


@dataclass(frozen=True)
class Score:
    """Bits per byte over ``n_docs`` documents, with the standard error of a ratio estimator over documents (None below two)."""

    bits_per_byte: float
    stderr: float | None
    n_docs: int
    n_targets: int

    def as_json(self) -> dict[str, int | float | None]:
        return {"bits_per_byte": self.bits_per_byte, "stderr": self.stderr, "n_docs": self.n_docs, "n_targets": self.n_targets}


class HeldOut:
    """A fixed sample of whole documents of a store that fits ``max_rows`` rows, ready to be evaluated again and again."""

    def __init__(self, name: str, store: TokenStore, *, seq_len: int, max_rows: int, vocab_size: int) -> None:
        self.name = name
        docs = sample_documents(store, seq_len, max_rows)
        if not len(docs):
            raise InputError(f"no document of the held-out set {name} fits {max_rows} rows of {seq_len} tokens",
                             where=store.artifact.folder.url, remedy="raise train.eval_rows")  # fmt: skip
        plan, self.doc_of_piece = window_plan(store, docs, seq_len)
        self.n_bytes = store.n_bytes[docs]
        if int(self.n_bytes.sum()) == 0:
            raise InputError(f"the documents of the held-out set {name} are empty", where=store.artifact.folder.url)
        self.reader = RowReader(plan, [store], vocab_size)

    def score(self, wrapped: nn.Module, gang: Gang, micro_batch_rows: int) -> Score:
        """Evaluate; the same Score on every process."""
        plan = self.reader.plan
        nats_per_doc = np.zeros(len(self.n_bytes))
        wrapped.eval()
        for first in range(0, plan.n_rows, micro_batch_rows * gang.size):
            begin = first + gang.rank * micro_batch_rows
            chosen = np.arange(begin, max(begin, min(begin + micro_batch_rows, plan.n_rows)))
            rows = self.reader.read(chosen, pad_to=micro_batch_rows if gang.size > 1 else None)
            with torch.no_grad():
                nats_BT = wrapped(*tensors(rows, gang.device), each=True).double().cpu().numpy()
            self._add(nats_per_doc, nats_BT, rows, chosen)
        wrapped.train()
        return _score(gang.sum(nats_per_doc), self.n_bytes, self.reader.n_targets(np.arange(plan.n_rows)))

    def _add(
        self, nats_per_doc: npt.NDArray[np.float64], nats_BT: npt.NDArray[np.float64], rows: Rows, chosen: npt.NDArray[np.int64]
    ) -> None:
        real = rows.piece[: len(chosen)] >= 0
        piece = (self.reader.plan.row_offsets[chosen][:, None] + rows.piece[: len(chosen)])[real]
        nats_per_doc += np.bincount(self.doc_of_piece[piece], weights=nats_BT[: len(chosen)][real], minlength=len(nats_per_doc))


def tensors(rows: Rows, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The four arrays of a micro-batch on the device, in the order PackedLM takes them."""
    arrays = (rows.input_ids, rows.position_ids, rows.piece, rows.labels)
    return tuple(torch.from_numpy(a).to(device, non_blocking=True) for a in arrays)


def sample_documents(store: TokenStore, seq_len: int, max_rows: int) -> npt.NDArray[np.int64]:
    """Ascending documents, the first of a keyed order that fit ``max_rows`` rows (within 2 %)."""
    if store.n_docs == 0:
        return np.zeros(0, np.int64)
    docs = Permutation(store.n_docs, (SAMPLE_KEY,))(np.arange(store.n_docs))
    taken = np.cumsum(store.lengths[docs])
    # Their tokens would fill the rows; next-fit leaves gaps, so documents are given up until it fits.
    n = int(np.searchsorted(taken, max_rows * seq_len, side="right"))
    while n and _rows_needed(store.lengths[np.sort(docs[:n])], seq_len) > max_rows:
        n -= max(1, n // 50)
    return np.sort(docs[:n])


def _windows(lengths: npt.NDArray[np.int64], seq_len: int) -> tuple[npt.NDArray[np.int64], ...]:
    """(document, start, length) of every window."""
    counts = -(-lengths // seq_len)
    doc = np.repeat(np.arange(len(lengths)), counts)
    start = (np.arange(len(doc)) - np.repeat(np.cumsum(counts) - counts, counts)) * seq_len
    return doc, start, np.minimum(seq_len, lengths[doc] - start)


def _row_starts(window_lengths: npt.NDArray[np.int64], seq_len: int) -> list[int]:
    """Next-fit: indices of the windows that open a row. O(rows log windows)."""
    ends, starts, at = np.cumsum(window_lengths), [], 0
    while at < len(window_lengths):
        starts.append(at)
        before = int(ends[at - 1]) if at else 0
        at = int(np.searchsorted(ends, before + seq_len, side="right"))
    return starts


def _rows_needed(lengths: npt.NDArray[np.int64], seq_len: int) -> int:
    return len(_row_starts(_windows(lengths, seq_len)[2], seq_len))


def window_plan(store: TokenStore, docs: npt.NDArray[np.int64], seq_len: int) -> tuple[PackPlan, npt.NDArray[np.int64]]:
    """(plan of the documents' windows in order, index into ``docs`` of each piece)."""
    doc, start, length = _windows(store.lengths[docs], seq_len)
    offsets = np.array([*_row_starts(length, seq_len), len(doc)], np.int64)
    plan = PackPlan(seq_len, offsets, np.zeros(len(doc), np.uint16), docs[doc], start, length.astype(np.int32))
    return plan, doc


def _score(nats: npt.NDArray[np.float64], n_bytes: npt.NDArray[np.int64], n_targets: int) -> Score:
    total, n = float(n_bytes.sum()), len(nats)
    ratio = float(nats.sum()) / total
    spread = float(((nats - ratio * n_bytes) ** 2).sum())
    stderr = math.sqrt(n / (n - 1) * spread) / total / math.log(2) if n > 1 else None
    return Score(ratio / math.log(2), stderr, n, n_targets)
