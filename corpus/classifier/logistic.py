"""Multinomial logistic regression with L2, in float64, by L-BFGS: small, deterministic, and without another dependency.

Minimises  -mean_i log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2  over W [L, D] and b [L] (b is not penalised). L-BFGS with 20 pairs and
a backtracking line search (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1). The loss is convex, so any stationary
point is the answer, unique in W for l2 > 0.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
PAIRS, STEPS, TOLERANCE = 20, 500, 1e-7


@dataclass(frozen=True)
class Logistic:
    """weight [L, D] and bias [L], for inputs that were centred and scaled as ``x`` was, folded back into them."""

    weight: F64
    bias: F64
    n_steps: int

    def log_probabilities(self, x_ND: F64) -> F64:
        """[N, L]."""
        return log_softmax(x_ND @ self.weight.T + self.bias)


def log_softmax(z: F64) -> F64:
    """Row-wise, without overflow."""
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def fit_logistic(x_ND: F64, y_N: I64, n_classes: int, l2: float) -> Logistic:
    """Fit on inputs [N, D] with classes [N]. Columns are standardised first, so that one strength suits encoders of any scale."""
    mean, scale = x_ND.mean(axis=0), x_ND.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    x = (x_ND - mean) / scale
    onehot = np.eye(n_classes)[y_N]
    n, d = x.shape

    def loss(theta: F64) -> tuple[float, F64]:
        w, b = theta[: n_classes * d].reshape(n_classes, d), theta[n_classes * d :]
        logs = log_softmax(x @ w.T + b)
        error = (np.exp(logs) - onehot) / n
        gradient = np.concatenate([(error.T @ x + l2 * w).ravel(), error.sum(axis=0)])
        return float(-(onehot * logs).sum() / n + 0.5 * l2 * (w * w).sum()), gradient

    theta, steps = minimise(loss, np.zeros(n_classes * (d + 1)))
    weight = theta[: n_classes * d].reshape(n_classes, d) / scale
    return Logistic(weight, theta[n_classes * d :] - weight @ mean, steps)


def minimise(loss, at: F64) -> tuple[F64, int]:  # type: ignore[no-untyped-def]
    """(a point where the gradient's largest entry is below TOLERANCE, steps). ``loss`` gives value and gradient."""
    pairs: deque[tuple[F64, F64]] = deque(maxlen=PAIRS)
    value, gradient = loss(at)
    for step in range(STEPS):
        if np.abs(gradient).max() < TOLERANCE:
            return at, step
        direction = -_inverse_times(pairs, gradient)
        slope, rate = float(direction @ gradient), 1.0
        if slope >= 0:  # rounding has spoilt the pairs
            pairs.clear()
            direction, slope = -gradient, -float(gradient @ gradient)
        while True:
            there, new_gradient = loss(at + rate * direction)
            if there <= value + 1e-4 * rate * slope or rate < 1e-12:
                break
            rate /= 2
        if rate < 1e-12:
            return at, step
        s, y = rate * direction, new_gradient - gradient
        if float(s @ y) > 1e-12 * float(y @ y):
            pairs.append((s, y))
        at, value, gradient = at + s, there, new_gradient
    return at, STEPS


def _inverse_times(pairs: deque[tuple[F64, F64]], gradient: F64) -> F64:
    """The two loops: an approximate inverse Hessian times the gradient."""
    q, alphas = gradient.copy(), []
    for s, y in reversed(pairs):
        alpha = float(s @ q) / float(s @ y)
        alphas.append(alpha)
        q -= alpha * y
    if pairs:
        s, y = pairs[-1]
        q *= float(s @ y) / float(y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - float(y @ q) / float(s @ y)) * s
    return q
