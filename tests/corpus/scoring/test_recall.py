"""The recall lost by a first step: counts by threshold, the estimate against planted truth, and when a recipe is warned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.scoring.recall import THRESHOLDS, Tally, at_least, estimate, row_at, verdict
from store.artifact import Receipt


@given(st.lists(st.tuples(st.integers(0, 4096), st.integers(1, 5)), max_size=60))
def test_at_least_counts_as_comparison_does(pages):
    scores, weights = np.array([p for p, _ in pages]) / 4096, np.array([w for _, w in pages], np.int64)
    expected = [int(weights[scores >= t].sum()) for t in THRESHOLDS]
    assert at_least(scores.astype(np.float32), weights).tolist() == expected


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """A first step that drops 3,000 pages of which 60 are wanted and finds 940: 6 % are lost. 500 draws of 600 pages."""
    rng, hits = np.random.default_rng(1), 0
    found = at_least(np.full(940, 0.9))
    wanted = np.arange(3000) < 60
    points = []
    for _ in range(500):
        drawn = rng.permutation(3000)[:600]
        tally = Tally(found=found, checked=at_least(np.where(wanted[drawn], 0.8, 0.1)))
        row = row_at(estimate(tally, 3000)["source"], 0.5)
        hits += row["recall_lost_low"] <= 0.06 <= row["recall_lost_high"]
        points.append(row["recall_lost"])
    assert 0.93 <= hits / 500 <= 0.985 and np.mean(points) == pytest.approx(0.06, abs=0.002)


def test_every_dropped_page_checked_is_no_estimate_and_none_is_unknown():
    tally = Tally(found=at_least(np.full(90, 0.9)), checked=at_least(np.array([0.9] * 10 + [0.1] * 40)))
    row = row_at(estimate(tally, 50)["source"], 0.5)
    assert row["recall_lost"] == row["recall_lost_low"] == row["recall_lost_high"] == 0.1 and row["lost"] == 10
    nothing = estimate(Tally(found=tally.found), 50)
    assert nothing["source"] == [] and nothing["labels"] == []
    assert estimate(tally, 0)["source"] == []


def test_labels_tell_another_recall():
    tally = Tally(test_passed=at_least(np.array([0.9] * 18 + [0.2] * 2)), test_dropped=at_least(np.array([0.9, 0.3])))
    rows = estimate(tally, 100)["labels"]
    assert (rows[0]["n_test"], rows[0]["n_dropped"]) == (22, 2) and rows[0]["recall_lost"] == pytest.approx(2 / 22, abs=1e-5)
    assert row_at(rows, 0.5)["recall_lost"] == pytest.approx(1 / 19, abs=1e-5)
    assert row_at(rows, 0.5)["recall_lost_low"] < 1 / 19 < row_at(rows, 0.5)["recall_lost_high"]


def test_tallies_add_up():
    parts = [Tally(found=at_least(np.array([s]))) for s in (0.2, 0.7)]
    merged = Tally.merged([Receipt(key=str(i), data=p.data()) for i, p in enumerate(parts)])
    assert merged.found.tolist() == at_least(np.array([0.2, 0.7])).tolist() and merged.checked.sum() == 0


def test_a_recipe_is_warned_when_the_loss_may_be_too_large_or_is_not_known():
    tally = Tally(found=at_least(np.full(900, 0.9)), checked=at_least(np.array([0.9] * 2 + [0.1] * 398)))
    summary = {"recall": estimate(tally, 4000)}
    lost = verdict(summary, 0.5, None)["source"]
    assert lost["recall_lost"] == pytest.approx(20 / 920, abs=1e-4)
    assert "warning" not in verdict(summary, 0.5, 0.2) and "may lose" in verdict(summary, 0.5, 0.03)["warning"]
    assert "is not known" in verdict({"recall": estimate(Tally(found=tally.found), 4000)}, 0.5, 0.2)["warning"]
    assert "warning" not in verdict({"recall": estimate(Tally(), 0)}, 0.5, 0.2) and verdict({}, 0.5, 0.2) == {}
    # Between two thresholds the lower one counts.
    assert verdict(summary, 0.509, None)["source"]["threshold"] == 0.5
