"""Calibration against scikit-learn, planted distortions undone, and what may not be calibrated."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.calibration import METHODS, NONE, Calibration, choose, isotonic, log_loss, platt, read_calibration, temperature
from store.errors import InputError


def planted(n=4000, slope=2.5, offset=-1.0, seed=1):
    """(scores, truth) in which sigmoid(log-odds of the score / slope - offset) is the truth's probability."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    truth = rng.random(n) < 1 / (1 + np.exp(-z))
    return 1 / (1 + np.exp(-(slope * z + offset))), truth


def test_platt_is_logistic_regression_on_log_odds():
    from sklearn.linear_model import LogisticRegression

    p, truth = planted()
    weights = np.where(truth, 0.4, 1.3)
    found = platt(p, truth, weights)
    z = np.log(p / (1 - p))
    # The library has no smoothed targets: with thousands of pages they change the third digit.
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], truth, sample_weight=weights)
    assert found.x[0] == pytest.approx(theirs.coef_[0, 0], rel=5e-3) and found.y[0] == pytest.approx(theirs.intercept_[0], abs=5e-3)


def test_isotonic_is_the_librarys():
    from sklearn.isotonic import IsotonicRegression

    p, truth = planted(500)
    p = np.round(p, 2)  # with ties
    weights = np.random.default_rng(2).uniform(0.1, 3, 500)
    edge = 1 / (weights.sum() + 2)
    theirs = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(p, truth, sample_weight=weights)
    at = np.linspace(0, 1, 301)
    assert np.allclose(isotonic(p, truth, weights)(at), theirs.predict(at), atol=1e-9)


def test_the_planted_distortion_is_undone():
    p, truth = planted()
    groups, ones = np.arange(len(p)), np.ones(len(p))
    chosen, losses = choose(p, truth, ones, groups, 1)
    assert chosen.method == "platt" and losses["platt"] == min(losses.values()) < losses["none"]
    assert chosen.x[0] == pytest.approx(1 / 2.5, abs=0.05) and chosen.y[0] == pytest.approx(1 / 2.5, abs=0.1)
    fresh, fresh_truth = planted(seed=2)
    assert log_loss(chosen(fresh), fresh_truth, ones) < log_loss(fresh, fresh_truth, ones) - 0.05
    stretched, truth = planted(offset=0.0)
    assert temperature(stretched, truth, ones).x[0] == pytest.approx(1 / 2.5, abs=0.05)
    honest, truth = planted(slope=1.0, offset=0.0)
    assert choose(honest, truth, ones, groups, 1)[1]["none"] < 1.005 * min(choose(honest, truth, ones, groups, 1)[1].values())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=60, max_size=80), st.sampled_from(sorted(METHODS)))
def test_every_calibration_rises_stays_inside_and_survives_its_file(rows, method):
    p, truth = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    found = METHODS[method](p, truth, np.ones(len(p)))
    at = found(np.linspace(0, 1, 101))
    assert (np.diff(at) >= 0).all() and (at >= 0).all() and (at <= 1).all() and np.isfinite(at).all()
    assert Calibration.from_json(json.loads(json.dumps(found.json())), "x") == found


def test_classes_without_an_error_do_not_become_certain():
    p = np.concatenate([np.linspace(0.1, 0.4, 100), np.linspace(0.6, 0.9, 100)])
    for fit in METHODS.values():
        at = fit(p, p > 0.5, np.ones(200))(p)
        # About one page of each class is still expected on the wrong side.
        assert at[:100].sum() > 0.4 and (1 - at[100:]).sum() > 0.4 and ((at > 0.5) == (p > 0.5)).all()


def test_too_little_is_not_calibrated(tmp_path):
    p = np.linspace(0, 1, 40)
    assert choose(p, p > 0.5, np.ones(40), np.arange(40), 1)[0] == NONE
    p = np.linspace(0, 1, 100)
    assert choose(p, np.ones(100, bool), np.ones(100), np.arange(100), 1)[0] == NONE
    assert choose(p, p > 0.5, np.ones(100), np.zeros(100, int), 1)[0] == NONE  # one group: nothing to hold out
    assert read_calibration(None) == NONE
    for text in ("{", "[]", '{"method": "magic", "x": [], "y": []}', '{"method": "platt", "x": [1], "y": []}'):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(InputError, match="not a calibration"):
            read_calibration(str(tmp_path / "c.json"))
