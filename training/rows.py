"""Rows of a pack plan as tensors: token ids, positions that restart, document boundaries and targets.

    B rows of a micro-batch, T the plan's seq_len, P pieces in them, N tokens in them

A piece is one attention segment, also when it continues a document cut by the plan. The target of a token is the next token of the
same piece; the last token of a piece and padding have none (IGNORE). Padding is a segment of its own: no attention row is empty.
Everything is computed by array operations over pieces and tokens; memory is O(B T).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.errors import ArtifactError, InputError
from store.plan import PackPlan
from store.tokens import TokenStore

IGNORE = -100
PADDING = -1
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Located:
    """Where the tokens of rows lie, before any is read; int64 [P].

    Attributes:
        row: which of the asked rows a piece belongs to, from 0.
        in_row: number of the piece in its row, from 0.
        piece: number of the piece in the plan.
        length: its tokens.
        source, shard, offset: token store, shard of the store, first token in the shard.
    """

    row: I64
    in_row: I64
    piece: I64
    length: I64
    source: I64
    shard: I64
    offset: I64


@dataclass(frozen=True)
class Rows:
    """A micro-batch; all int64 [B, T].

    Attributes:
        input_ids: token ids, 0 in padding.
        position_ids: position in the piece, from 0; in padding from 0 too.
        piece: number of the piece in its row, PADDING where there is none.
        labels: next token of the same piece or IGNORE.
    """

    input_ids: I64
    position_ids: I64
    piece: I64
    labels: I64

    @property
    def n_targets(self) -> int:
        return int((self.labels != IGNORE).sum())


class RowReader:
    """Builds rows of ``plan`` from its token stores, given in the plan's source order. ``vocab_size`` is the model's.

    ArtifactError if plan and stores do not belong together; InputError at the first token id the model has no embedding for.
    """

    def __init__(self, plan: PackPlan, stores: Sequence[TokenStore], vocab_size: int) -> None:
        self.plan, self.stores, self.vocab_size = plan, tuple(stores), vocab_size
        _check_plan(plan, self.stores)
        # One number per row, so that every process knows the size of a global batch without asking the others.
        self._targets_before = np.concatenate([[0], np.cumsum(np.maximum(plan.length.astype(np.int64) - 1, 0))])

    def n_targets(self, rows: I64) -> int:
        """Targets in the given rows, from the plan alone."""
        ends = self.plan.row_offsets
        return int((self._targets_before[ends[rows + 1]] - self._targets_before[ends[rows]]).sum())

    def locate(self, rows: I64) -> Located:
        """The pieces of the given rows, in order: all the work of the loader but the tokens themselves."""
        begin, end = self.plan.row_offsets[rows], self.plan.row_offsets[rows + 1]
        in_row_P = _ranges(end - begin)
        at_P = np.repeat(begin, end - begin) + in_row_P
        source_P, doc_P = self.plan.source[at_P].astype(np.int64), self.plan.doc[at_P]
        shard_P, offset_P = np.empty_like(at_P), self.plan.start[at_P]
        for s in np.flatnonzero(np.bincount(source_P)):
            mine, store = source_P == s, self.stores[s]
            shard_P[mine] = np.searchsorted(store.first_doc, doc_P[mine], side="right") - 1
            offset_P[mine] += store.offsets[doc_P[mine]]
        row_P = np.repeat(np.arange(len(rows)), end - begin)
        return Located(row_P, in_row_P, at_P, self.plan.length[at_P].astype(np.int64), source_P, shard_P, offset_P)

    def read(self, rows: I64, pad_to: int | None = None) -> Rows:
        """The given rows, and empty ones after them up to ``pad_to``."""
        n, T = max(len(rows), pad_to or 0), self.plan.seq_len
        found = self.locate(rows)
        length_P, position_N = found.length, _ranges(found.length)
        n_pieces_B = self.plan.row_offsets[rows + 1] - self.plan.row_offsets[rows]
        place_N = np.repeat(found.row * T + _starts(length_P, n_pieces_B), length_P) + position_N
        ids_N = self._gather(found)

        filled = np.bincount(np.repeat(found.row, length_P), minlength=n)
        position = np.broadcast_to(np.arange(T), (n, T)) - filled[:, None]  # right for padding; pieces overwrite the rest
        out = Rows(np.zeros((n, T), np.int64), position, np.full((n, T), PADDING, np.int64), np.full((n, T), IGNORE, np.int64))
        out.input_ids.reshape(-1)[place_N] = ids_N
        out.position_ids.reshape(-1)[place_N] = position_N
        out.piece.reshape(-1)[place_N] = np.repeat(found.in_row, length_P)
        follows = np.flatnonzero(position_N[1:] > 0)
        out.labels.reshape(-1)[place_N[follows]] = ids_N[follows + 1]
        return out

    def _gather(self, found: Located) -> I64:
        """Token ids of the pieces, end to end: one copy a piece, out of the mapped shards."""
        ends_P = np.cumsum(found.length)
        ids_N = np.empty(int(ends_P[-1]) if len(ends_P) else 0, np.int64)
        columns = (ends_P, found.length, found.source, found.shard, found.offset)
        for end, length, source, shard, offset in zip(*(c.tolist() for c in columns), strict=True):
            ids_N[end - length : end] = self.stores[source].shards[shard][offset : offset + length]
        if len(ids_N) and int(ids_N.max()) >= self.vocab_size:
            self._refuse_token(int(np.argmax(ids_N)), ids_N, found.piece, found.length)
        return ids_N

    def _refuse_token(self, n: int, ids_N: I64, at_P: I64, length_P: I64) -> None:
        piece = at_P[np.searchsorted(np.cumsum(length_P), n, side="right")]
        store = self.stores[int(self.plan.source[piece])]
        raise InputError(
            f"token id {int(ids_N[n])} in document {int(self.plan.doc[piece])} is outside the model's vocabulary",
            where=store.artifact.folder.url,
            expected=f"ids below {self.vocab_size}",
            remedy="tokenise with the tokenizer of the model you train",
        )


def _starts(length_P: I64, n_pieces_B: I64) -> I64:
    """Where each piece begins in its row."""
    ends = np.cumsum(length_P)
    before_row = np.concatenate([[0], ends])[np.cumsum(n_pieces_B) - n_pieces_B]
    return ends - length_P - np.repeat(before_row, n_pieces_B)


def _ranges(counts: I64) -> I64:
    """0..counts[0]-1, 0..counts[1]-1, ... end to end."""
    counts = np.asarray(counts, np.int64)
    return np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)


def _check_plan(plan: PackPlan, stores: tuple[TokenStore, ...]) -> None:
    remedy = "remove the pack artifact's folder and run the recipe again"
    if plan.n_rows == 0:
        raise InputError("the pack plan has no rows", where="pack plan", remedy="select more documents")
    if int(plan.source.max()) >= len(stores):
        raise ArtifactError(f"the plan names {int(plan.source.max()) + 1} token stores, {len(stores)} are given", where="pack plan")
    for number, store in enumerate(stores):
        mine = plan.source == number
        doc, end = plan.doc[mine], plan.start[mine] + plan.length[mine]
        if not len(doc):
            continue
        if doc.min() < 0 or doc.max() >= store.n_docs or plan.start[mine].min() < 0 or (end > store.lengths[doc]).any():
            raise ArtifactError("the pack plan does not belong to this token store", where=store.artifact.folder.url, remedy=remedy)
    if (np.diff(np.concatenate([[0], np.cumsum(plan.length, dtype=np.int64)])[plan.row_offsets]) > plan.seq_len).any():
        raise ArtifactError("a row of the pack plan is longer than seq_len", where="pack plan", remedy=remedy)
