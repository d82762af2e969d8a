"""The ledger of a run: which source has given how many tokens after any number of steps, and how many epochs of it that is.

A pure function of the pack plan and the order of rows: nothing is counted while training, so it is exact at any step, also for a run
that was cut off, resumed, or has not begun. Tokens are those of the rows' pieces; padding is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.errors import ArtifactError
from store.params import Json
from store.plan import PackPlan, rehydration_classes
from store.tokens import TokenStore
from training.order import Permutation, RowOrder

I64 = npt.NDArray[np.int64]
CHUNK_ROWS = 1 << 20


@dataclass(frozen=True)
class Seen:
    """What a source has given: tokens, and these over the tokens of all its documents (``epochs``) and of the whole run (``share``)."""

    name: str
    tokens: int
    epochs: float
    share: float


def times_seen(order: RowOrder, n_steps: int) -> I64:
    """[n_rows] how often each row of the plan has been trained on after ``n_steps`` steps. Memory: 8 bytes a row."""
    places = min(max(n_steps, 0) * order.rows_per_step, order.total_rows)
    epochs, rest = divmod(places, order.n_rows)
    times = np.full(order.n_rows, epochs, np.int64)
    now = Permutation(order.n_rows, (order.seed, epochs))
    for first in range(0, rest, CHUNK_ROWS):
        times[now(np.arange(first, min(first + CHUNK_ROWS, rest)))] += 1  # a permutation names no row twice
    return times


def tokens_seen(plan: PackPlan, order: RowOrder, n_steps: int, class_of_piece: I64 | None = None) -> I64:
    """Tokens each source has given after ``n_steps`` steps, int64 [n_sources]; or each class of pieces, if given as int64 [P]."""
    times = times_seen(order, n_steps)
    out = np.zeros(0, np.int64)
    for first in range(0, plan.n_rows, CHUNK_ROWS):
        rows = np.arange(first, min(first + CHUNK_ROWS, plan.n_rows))
        begin, end = int(plan.row_offsets[rows[0]]), int(plan.row_offsets[rows[-1] + 1])
        per_piece = np.repeat(times[rows], np.diff(plan.row_offsets[rows[0] : rows[-1] + 2])) * plan.length[begin:end]
        classes = (plan.source if class_of_piece is None else class_of_piece)[begin:end].astype(np.int64)
        found = np.zeros(max(len(out), int(classes.max(initial=-1)) + 1), np.int64)
        np.add.at(found, classes, per_piece)  # integers: exact at any size
        found[: len(out)] += out
        out = found
    return out


def ledger(plan: PackPlan, order: RowOrder, n_steps: int, sources: Sequence[Mapping[str, Json]]) -> list[Seen]:
    """What every source has given after ``n_steps`` steps. ``sources`` is what the pack artifact's summary says of them.

    ArtifactError if plan and summary do not belong together.
    """
    given = tokens_seen(plan, order, n_steps)
    if len(given) > len(sources):
        raise ArtifactError(f"the plan has {len(given)} sources, its summary {len(sources)}", where="pack plan")
    given = np.concatenate([given, np.zeros(len(sources) - len(given), np.int64)])
    total = int(given.sum())
    return [
        Seen(str(s["name"]), int(n), int(n) / size if (size := int(str(s["size_tokens"]))) else 0.0, int(n) / total if total else 0.0)
        for s, n in zip(sources, given, strict=True)
    ]  # fmt: skip


def tokens_by_weight(plan: PackPlan, order: RowOrder, n_steps: int, number: int, store: TokenStore, table: Mapping[int, int]) -> I64:
    """Tokens that a rehydrated source has given, by entry of its table, int64 [n_entries]. ``number`` is the source's in the plan."""
    classes = rehydration_classes(store.cluster_sizes, table)
    mine = plan.source == number
    of_piece = np.full(len(plan.length), len(table), np.int64)  # the others go to a class of their own, which is dropped
    of_piece[mine] = classes[plan.doc[mine]]
    found = tokens_seen(plan, order, n_steps, of_piece)
    return np.concatenate([found, np.zeros(len(table) + 1, np.int64)])[: len(table)]
