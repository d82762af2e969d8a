"""The solver against scikit-learn's, and what the head folds back."""

import numpy as np
import pytest

from corpus.classifier.logistic import fit_logistic


@pytest.mark.parametrize(("n_classes", "l2"), [(2, 1e-2), (3, 1e-3), (4, 1.0)])
def test_the_answer_is_the_librarys(n_classes, l2):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, 400)
    x = rng.normal(size=(400, 20)) * rng.uniform(0.1, 9, 20) + 3 + np.eye(n_classes)[y] @ rng.normal(size=(n_classes, 20))
    found = fit_logistic(x, y, n_classes, l2)
    # Two classes: the library has one row of weights, so its penalty counts half as much.
    strength = 1 / (len(x) * l2) * (2 if n_classes == 2 else 1)
    scaled = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(scaled, y)
    assert np.allclose(np.exp(found.log_probabilities(x)), theirs.predict_proba(scaled), atol=1e-5)
    assert np.allclose(found.weight.sum(axis=0), 0, atol=1e-5) and found.n_steps < 400


def test_constant_columns_and_separable_classes_have_an_answer():
    x = np.concatenate([np.ones((50, 1)), np.linspace(-1, 1, 50)[:, None]], axis=1)
    y = (x[:, 1] > 0).astype(np.int64)
    found = fit_logistic(x, y, 2, 1e-4)
    assert np.isfinite(found.weight).all() and (found.log_probabilities(x).argmax(axis=1) == y).all()
    assert np.array_equal(found.weight, fit_logistic(x, y, 2, 1e-4).weight)
