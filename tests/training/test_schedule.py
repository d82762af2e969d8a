"""Schedules against their formulas, written out here a second time with numpy over all steps at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.params import TrainParams
from training.schedule import learning_rate


def rates(n: int = 100, **params) -> list[float]:
    chosen = TrainParams(**{"learning_rate": 2.0, "warmup_ratio": 0.1, **params})
    return [learning_rate(chosen, s, n) for s in range(n)]


def test_warm_up_rises_to_the_peak_and_never_starts_at_nothing() -> None:
    found = rates()
    assert found[:10] == pytest.approx([2 * (i + 1) / 11 for i in range(10)])
    assert found[10] == 2.0 and found[-1] == pytest.approx(0.2)
    assert learning_rate(TrainParams(learning_rate=2.0), 0, 1) == 2.0


@pytest.mark.parametrize(
    ("schedule", "shape"), [("cosine", lambda x: (1 + np.cos(np.pi * x)) / 2), ("linear", lambda x: 1 - x), ("constant", np.ones_like)]
)
def test_after_the_warm_up(schedule: str, shape) -> None:
    expected = 2 * (0.25 + 0.75 * shape(np.linspace(0, 1, 90)))
    np.testing.assert_allclose(rates(schedule=schedule, min_lr_ratio=0.25)[10:], expected)


@pytest.mark.parametrize(
    ("shape", "course"),
    [("linear", lambda y: 1 - y), ("sqrt", lambda y: 1 - np.sqrt(y)), ("cosine", lambda y: (1 + np.cos(np.pi * y)) / 2)],
)
def test_wsd_is_flat_then_decays(shape: str, course) -> None:
    found = rates(schedule="wsd", decay_ratio=0.2, decay_shape=shape, min_lr_ratio=0.1)
    np.testing.assert_allclose(found[10:80], 2.0)
    np.testing.assert_allclose(found[80:], 2 * (0.1 + 0.9 * course(np.arange(1, 21) / 20)))
    assert found[-1] == pytest.approx(0.2)


def test_start_lr_begins_there_and_without_warming_up_again_where_it_is_the_peak() -> None:
    found = rates(start_lr=0.5)
    np.testing.assert_allclose(found[:11], np.linspace(0.5, 2.0, 11))
    assert rates(start_lr=2.0, schedule="constant") == [2.0] * 100
    # Parmar et al.: from the rate pre-training ended with, down a cosine to a hundredth.
    parmar = rates(start_lr=2.0, min_lr_ratio=0.01, warmup_ratio=0.0)
    assert parmar[0] == 2.0 and parmar[-1] == pytest.approx(0.02) and all(a > b for a, b in pairwise(parmar))


def test_the_schedule_may_be_longer_or_shorter_than_the_run() -> None:
    long = rates(400)
    assert rates(100, schedule_steps=400) == long[:100]
    short = rates(100, schedule_steps=40)
    assert short[:40] == rates(40) and short[40:] == [short[39]] * 60


@given(
    schedule=st.sampled_from(["cosine", "wsd", "linear", "constant"]), shape=st.sampled_from(["linear", "sqrt", "cosine"]),
    n=st.integers(1, 60), warm=st.floats(0, 0.99), decay=st.floats(0.001, 1), floor=st.floats(0, 1),
)  # fmt: skip
def test_any_schedule_stays_between_floor_and_peak_and_only_falls_after_the_warm_up(schedule, shape, n, warm, decay, floor) -> None:
    found = rates(n, schedule=schedule, decay_shape=shape, warmup_ratio=warm, decay_ratio=decay, min_lr_ratio=floor)
    rest = found[round(warm * n) :]
    assert all(0 < r <= 2.0 or (r == 0 and floor == 0) for r in found)
    assert all(a >= b - 1e-12 for a, b in pairwise(rest)) and all(r >= 2 * floor - 1e-9 for r in rest)
