"""Figures against scikit-learn and planted truth; intervals that know of groups."""

import json

import numpy as np
import pytest

from corpus.classifier.card import LIMITS, interval, limits_of, quality, sizes_of, target_of, wilson
from corpus.classifier.metrics import Judged, Ranked, average_precision, reliability, scores_of, threshold_for, weights_for
from corpus.classifier.params import ClassifierParams
from evaluation.statistics import wilson as reference_wilson


def judged(n=500, seed=3, ties=True, weights=None, groups=None):
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    truth = rng.random(n) < scores
    return Judged(np.round(scores, 2) if ties else scores, truth, np.ones(n) if weights is None else weights,
                  np.arange(n) if groups is None else groups)  # fmt: skip


def test_precision_recall_f1_and_curve_are_the_librarys():
    from sklearn.metrics import average_precision_score, precision_recall_curve, precision_recall_fscore_support

    weights = np.random.default_rng(1).uniform(0.2, 2, 500)
    pages = judged(weights=weights)
    expected = precision_recall_fscore_support(pages.truth, pages.scores >= 0.5, average="binary", sample_weight=weights)[:3]
    assert np.allclose(scores_of(pages.truth, pages.scores >= 0.5, weights), expected)
    ranked = Ranked.of(pages.scores)
    precision, recall = ranked.curve(pages.truth, weights)
    p, r, t = precision_recall_curve(pages.truth, pages.scores, sample_weight=weights)
    assert np.allclose(precision[::-1], p[:-1]) and np.allclose(recall[::-1], r[:-1]) and np.array_equal(ranked.thresholds[::-1], t)
    assert average_precision(precision, recall) == pytest.approx(
        average_precision_score(pages.truth, pages.scores, sample_weight=weights)
    )
    assert scores_of(np.zeros(3, bool), np.zeros(3, bool)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("want", [("precision", 0.8), ("recall", 0.8)])
def test_the_threshold_is_the_last_that_reaches_the_target(want):
    pages = judged()
    ranked = Ranked.of(pages.scores)
    found = threshold_for(ranked, *ranked.curve(pages.truth, pages.weights), want)
    at = {t: dict(zip(("precision", "recall"), scores_of(pages.truth, pages.scores >= t), strict=False)) for t in ranked.thresholds}
    fitting = [t for t, s in at.items() if s[want[0]] >= want[1] - 1e-12]
    assert found == (min(fitting) if want[0] == "precision" else max(fitting))
    assert threshold_for(ranked, *ranked.curve(np.zeros(500, bool), pages.weights), want) is None


def test_weights_give_the_wanted_share_and_change_precision_not_recall():
    truth = np.arange(100) < 50
    weights = weights_for(truth, 0.02)
    assert weights[truth].sum() / weights.sum() == pytest.approx(0.02) and weights.sum() == pytest.approx(100)
    said = np.arange(100) % 10 < 5
    plain, rare = scores_of(truth, said), scores_of(truth, said, weights)
    assert rare[1] == pytest.approx(plain[1]) and rare[0] == pytest.approx(0.02)
    assert np.array_equal(weights_for(truth, None), np.ones(100)) and np.array_equal(weights_for(truth[:50], 0.3), np.ones(50))


def test_intervals_cover_the_truth_and_groups_widen_them():
    """Scores whose calibration and F1 are known: 95 % intervals hold them about 95 times of 100."""
    inside = 0
    exact = judged(400_000, seed=1, ties=False)
    true_f1 = scores_of(exact.truth, exact.scores >= 0.5)[2]
    for seed in range(40):
        card = quality(judged(200, seed=seed + 10, ties=False), 0.5)
        inside += card["f1_low"] <= true_f1 <= card["f1_high"]
    assert inside >= 34
    base = judged(100, seed=5, ties=False)
    ten = Judged(*(np.repeat(v, 10) for v in (base.scores, base.truth, base.weights)), np.repeat(np.arange(100), 10))
    single = Judged(ten.scores, ten.truth, ten.weights, np.arange(1000))
    wide, narrow = quality(ten, 0.5), quality(single, 0.5)
    assert wide["f1"] == narrow["f1"] and wide["f1_high"] - wide["f1_low"] > 2 * (narrow["f1_high"] - narrow["f1_low"])


def test_reliability_of_honest_and_of_boastful_scores():
    honest = judged(20_000, ties=False)
    found = reliability(honest)
    assert found.error < 0.015 and found.n.sum() == 20_000 and len(found.n) == 10 and (found.n > 1800).all()
    assert ((found.low <= found.observed) & (found.observed <= found.high)).all()
    boastful = Judged(np.where(honest.scores > 0.5, 0.99, 0.01), honest.truth, honest.weights, honest.groups)
    assert reliability(boastful).error == pytest.approx(0.24, abs=0.02)
    assert reliability(boastful).error_low < 0.24 < reliability(boastful).error_high + 0.01


def test_the_target_is_chosen_on_validation_and_measured_on_test_pages():
    params = ClassifierParams(labels="x", target={"precision": 0.8})
    validation, test = judged(3000, seed=1), judged(3000, seed=2)
    card = target_of(validation, test, params)
    at = scores_of(validation.truth, validation.scores >= card["threshold"])
    assert at[0] >= 0.8 - 1e-9 and card["threshold_low"] <= card["threshold"] <= card["threshold_high"]
    assert card["test_precision"] == pytest.approx(scores_of(test.truth, test.scores >= card["threshold"])[0], abs=1e-5)
    none = target_of(Judged(validation.scores, np.zeros(3000, bool), validation.weights, validation.groups), test, params)
    assert none["threshold"] is None and "no threshold" in none["note"]
    json.dumps(card)


def test_sizes_are_counted_and_scaled():
    scores, chars = np.array([0.1, 0.4, 0.6, 0.9]), np.array([10, 20, 30, 40])
    found = sizes_of(scores, chars, 8, 8000, [0.0, 0.5, 0.95])
    assert [r["pages"] for r in found["at"]] == [4000, 2000, 0] and found["at"][1]["characters"] == 70_000
    assert found["at"][2]["pages_high"] > 0 and sum(found["histogram"]) == 4
    everything = sizes_of(scores, chars, 4, 4, [0.5])["at"][0]
    assert everything["pages_low"] == everything["pages"] == everything["pages_high"] == 2
    assert wilson(300, 1000, 1500)[1] < wilson(300, 1000, 10**9)[1] == pytest.approx(wilson(300, 1000)[1], abs=1e-6)
    for hits, n in ((0, 5), (3, 10), (10, 10)):
        assert wilson(hits, n) == pytest.approx(reference_wilson(hits, n), abs=1e-6)


def test_what_the_card_does_not_say_is_said():
    card = {"n_positive_test": 12, "n_groups_test": 7}
    found = limits_of(card, ClassifierParams(labels="x", kind="encoder"))
    assert found[: len(LIMITS)] == list(LIMITS)
    assert all(word in " ".join(found) for word in ("prevalence", "only 12", "only 7", "random"))
    assert len(limits_of({"n_positive_test": 900, "n_groups_test": 700}, ClassifierParams(labels="x", prevalence=0.02))) == len(LIMITS)
    assert interval("x", 0.5, [None, float("nan")]) == {"x": 0.5}
