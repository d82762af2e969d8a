"""The ledger of a run equals counting every row of every step, at any step, for any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import ArtifactError
from store.plan import PackPlan
from training.ledger import ledger, times_seen, tokens_by_weight, tokens_seen
from training.order import RowOrder

piece = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 9))
pieces = st.lists(st.lists(piece, min_size=1, max_size=4), min_size=1, max_size=9)


def plan_of(rows: list[list[tuple[int, int, int]]]) -> PackPlan:
    source, doc, length = (np.array(c) for c in zip(*(p for row in rows for p in row), strict=True))
    offsets = np.cumsum([0, *(len(r) for r in rows)]).astype(np.int64)
    return PackPlan(64, offsets, source.astype(np.uint16), doc.astype(np.int64), np.zeros(len(doc), np.int64), length.astype(np.int32))


@settings(max_examples=150, deadline=None)
@given(pieces, st.integers(1, 7), st.floats(0.1, 3.5), st.integers(0, 5), st.integers(0, 99))
def test_the_ledger_is_what_counting_gives(rows, per_step, epochs, seed, step) -> None:
    plan = plan_of(rows)
    order = RowOrder.plan(plan.n_rows, per_step, epochs=epochs, max_steps=None, seed=seed)
    step = min(step, order.n_steps + 1)
    by_source, by_row = np.zeros(4, int), np.zeros(plan.n_rows, int)
    for s in range(min(step, order.n_steps)):
        for row in order.rows(s).tolist():
            by_row[row] += 1
            for source, _, _, n in plan.row(row):
                by_source[source] += n
    assert times_seen(order, step).tolist() == by_row.tolist()
    found = tokens_seen(plan, order, step)
    assert found.tolist() == by_source[: len(found)].tolist() and not by_source[len(found) :].any()
    sizes = [{"name": f"s{i}", "size_tokens": 10 * i} for i in range(4)]
    said = ledger(plan, order, step, sizes)
    assert [s.tokens for s in said] == by_source.tolist()
    assert [s.epochs for s in said] == [n / (10 * i) if i else 0.0 for i, n in enumerate(by_source.tolist())]
    assert sum(s.share for s in said) == pytest.approx(1.0 if by_source.any() else 0.0)


def test_the_end_of_an_epoch_is_the_plan_itself(world) -> None:
    order = RowOrder.plan(world.plan.n_rows, 4, epochs=2.0, max_steps=None, seed=3)
    expected = [s.n_tokens for s in world.stores]
    assert tokens_seen(world.plan, order, order.n_steps).tolist() == [2 * n for n in expected]
    assert tokens_seen(world.plan, order, 0).tolist() == [0, 0]


def test_classes_of_weights_add_up_to_their_source(world) -> None:
    sizes = np.random.default_rng(0).choice([1, 2, 4, 700], world.stores[1].n_docs)
    store = replace(world.stores[1], cluster_sizes=sizes)
    order = RowOrder.plan(world.plan.n_rows, 4, epochs=1.0, max_steps=None, seed=3)
    table = {1: 1, 2: 2, 3: 3, 5: 5, 1000: 1}
    for step in (0, 1, 7, order.n_steps):
        found = tokens_by_weight(world.plan, order, step, 1, store, table)
        assert found.sum() == tokens_seen(world.plan, order, step)[1]
    whole = [int(store.lengths[sizes == n].sum()) for n in (1, 2, 4, 700)]
    assert found.tolist() == [*whole, 0]


def test_a_summary_of_another_plan_is_refused(world) -> None:
    order = RowOrder.plan(world.plan.n_rows, 4, epochs=1.0, max_steps=None, seed=3)
    with pytest.raises(ArtifactError, match="2 sources, its summary 1"):
        ledger(world.plan, order, 5, [{"name": "a", "size_tokens": 3}])
