"""Standard errors against scipy and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation import statistics as ours

RNG = np.random.default_rng(7)


def test_mean_and_paired_difference_are_scipys():
    a, b = RNG.normal(1, 2, 50), RNG.normal(1.5, 1, 50)
    found = ours.mean(a)
    assert (found.value, found.stderr, found.n) == (pytest.approx(a.mean()), pytest.approx(stats.sem(a)), 50)
    difference = ours.paired_difference(a, b)
    test = stats.ttest_rel(a, b)
    assert difference.value / difference.stderr == pytest.approx(test.statistic)


def test_mean_stderr_is_the_harness():
    from lm_eval.api.metrics import mean_stderr

    a = (RNG.random(40) < 0.3).astype(float)
    assert ours.mean(a).stderr == pytest.approx(mean_stderr(a.tolist()))


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    k, n = counts
    wanted = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert ours.wilson(k, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def documents(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes of n documents and the bits two models need for them: both find the same documents hard."""
    size = np.exp(rng.normal(6, 1, n))
    hard = rng.normal(1.0, 0.2, n)
    return size, size * (hard + rng.normal(0, 0.05, n)), size * (hard - 0.03 + rng.normal(0, 0.05, n))


def test_ratio_stderr_is_the_spread_over_repeated_samples():
    draws = [documents(np.random.default_rng(i), 200) for i in range(2000)]
    found = [ours.ratio(y, x) for x, y, _ in draws]
    assert np.mean([f.stderr for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.06)


def test_paired_ratio_stderr_is_the_spread_and_far_below_the_unpaired():
    draws = [documents(np.random.default_rng(i), 200) for i in range(2000)]
    found = [ours.paired_ratio_difference(a, b, x, x) for x, a, b in draws]
    spread = np.std([f.value for f in found])
    assert np.mean([f.stderr for f in found]) == pytest.approx(spread, rel=0.06)
    assert np.mean([f.value for f in found]) == pytest.approx(0.03, abs=3 * spread / 2000**0.5 + 1e-3)
    x, a, b = draws[0]
    assert found[0].stderr < 0.5 * (ours.ratio(a, x).stderr ** 2 + ours.ratio(b, x).stderr ** 2) ** 0.5


def test_ratio_of_equal_denominators_is_the_mean():
    y = RNG.normal(3, 1, 30)
    found, wanted = ours.ratio(y, np.full(30, 2.0)), ours.mean(y / 2)
    assert (found.value, found.stderr) == (pytest.approx(wanted.value), pytest.approx(wanted.stderr))


def test_median_stderr_is_the_spread_over_repeated_samples():
    found = [ours.median(np.random.default_rng(i).normal(0, 1, 101)) for i in range(300)]
    assert np.mean([f.stderr for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.25)
    a = RNG.normal(0, 1, 99)
    assert ours.median_difference(a, a) == ours.Estimate(0.0, 0.0, 99)
    assert ours.median_difference(a + 2, a).value == pytest.approx(2)


def test_one_item_has_no_stderr_and_none_is_an_error():
    one = np.array([2.0])
    for found in (ours.mean(one), ours.ratio(one, one), ours.median(one), ours.median_difference(one, one)):
        assert found.stderr is None
    with pytest.raises(ValueError, match="at least one"):
        ours.mean(np.array([]))
    with pytest.raises(ValueError, match="zero"):
        ours.ratio(one, np.zeros(1))
    with pytest.raises(ValueError, match="3 successes of 2"):
        ours.wilson(3, 2)
