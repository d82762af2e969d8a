"""Agreement against scikit-learn, weights that restore the whole, intervals that cover."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, precision_recall_fscore_support

from corpus.labelling.agreement import Compared, figures, weights_to

LABELS = ("medical", "other", "unsure")
pages = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None]), st.floats(0.1, 50, allow_nan=False)), min_size=1, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(pages)
def test_figures_are_those_of_scikit_learn(rows):
    truth, said, weights = (list(c) for c in zip(*rows, strict=True))
    found = figures(Compared.of(LABELS, truth, said, np.array(weights)).table())
    names = [s or "-" for s in said]
    expected = precision_recall_fscore_support(truth, names, labels=LABELS, sample_weight=weights, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        np.testing.assert_allclose(found[name], np.asarray(values, float), atol=1e-9, equal_nan=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, names, sample_weight=weights))
    both = [i for i, s in enumerate(said) if s is not None]
    one, other, w = [truth[i] for i in both], [said[i] for i in both], [weights[i] for i in both]
    if len(set(one) | set(other)) > 1:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(one, other, labels=LABELS, sample_weight=w), abs=1e-9)
    else:
        assert np.isnan(found["kappa"])


def test_counts_and_rows():
    truth = ["medical"] * 6 + ["other"] * 4
    said = ["medical"] * 4 + ["other", None] + ["other"] * 3 + ["medical"]
    found = Compared.of(LABELS[:2], truth, said).json(seed=1)
    assert found["confusion"] == confusion_matrix(truth, [s or "zz" for s in said], labels=["medical", "other", "zz"])[:2].tolist()
    assert found["n_no_label"] == 1 and found["n"] == 10
    medical = found["by_label"][0]
    assert (medical["label"], medical["n_truth"], medical["n_said"], medical["precision"]) == ("medical", 6, 5, 0.8)
    assert medical["precision_low"] < 0.8 < medical["precision_high"]
    assert found == Compared.of(LABELS[:2], truth, said).json(seed=1)


def test_a_figure_without_pages_is_null():
    found = Compared.of(LABELS, ["other"] * 3, ["other"] * 3).json(seed=1)
    assert found["kappa"] is None and found["by_label"][0]["f1"] is None and found["f1_macro"] == 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["medical", "other", None]), st.floats(0.5, 20), st.booleans()), min_size=1, max_size=50))
def test_weights_restore_the_whole_label_by_label(rows):
    whole = pl.DataFrame(rows, schema={"model_label": pl.String, "weight": pl.Float64, "seen": pl.Boolean}, orient="row")
    part = whole.filter("seen")
    if not part.height:
        return
    weights = weights_to(part, whole)
    assert len(weights) == part.height
    for label in part["model_label"].unique().to_list():
        mine = np.array([v == label for v in part["model_label"].to_list()])
        total = sum(w for v, w, _ in rows if v == label)
        assert weights[mine].sum() == pytest.approx(total)


def test_a_balanced_sheet_tells_the_f1_of_the_whole_and_its_interval_covers_it():
    """The model calls 10 % of the pages medical; people see as many of those as of the others."""
    rng = np.random.default_rng(3)
    truth = rng.random(4000) < 0.1
    said = np.where(truth, rng.random(4000) < 0.85, rng.random(4000) < 0.03)
    frame = pl.DataFrame(
        {"truth": np.where(truth, "medical", "other"), "model_label": np.where(said, "medical", "other"), "weight": 1.0}
    )
    right = figures(Compared.of(LABELS[:2], frame["truth"], frame["model_label"]).table())["f1"][0]
    covered, plain = 0, []
    for seed in range(30):
        parts = [frame.filter(pl.col("model_label") == label).sample(150, seed=seed) for label in LABELS[:2]]
        sheet = pl.concat(parts)
        compared = Compared.of(LABELS[:2], sheet["truth"], sheet["model_label"], weights_to(sheet, frame))
        medical = compared.json(seed)["by_label"][0]
        covered += medical["f1_low"] <= right <= medical["f1_high"]
        plain.append(figures(Compared.of(LABELS[:2], sheet["truth"], sheet["model_label"]).table())["f1"][0])
    assert covered >= 25
    assert abs(np.mean(plain) - right) > 0.05  # what the figures would be without weights


def test_an_error_that_no_sheet_shows_is_in_the_interval():
    """The model misses 1 % of what it calls other: most sheets show no such page, and recall is not 1 for sure."""
    rng = np.random.default_rng(5)
    said = rng.random(4000) < 0.1
    truth = np.where(said, rng.random(4000) < 0.9, rng.random(4000) < 0.01)
    frame = pl.DataFrame(
        {"truth": np.where(truth, "medical", "other"), "model_label": np.where(said, "medical", "other"), "weight": 1.0}
    )
    right = figures(Compared.of(LABELS[:2], frame["truth"], frame["model_label"]).table())["recall"][0]
    covered = n_perfect = 0
    for seed in range(30):
        sheet = pl.concat([frame.filter(pl.col("model_label") == label).sample(60, seed=seed) for label in LABELS[:2]])
        compared = Compared.of(LABELS[:2], sheet["truth"], sheet["model_label"], weights_to(sheet, frame))
        found = compared.json(seed)["by_label"][0]
        covered += found["recall_low"] <= right <= found["recall_high"]
        n_perfect += found["recall"] == found["recall_high"] == 1.0
    assert covered >= 25 and n_perfect >= 10
