"""Calibration: a rising map from scores to probabilities, fitted on held-out pages and chosen by held-out log loss.

Candidates: none; temperature, sigmoid(a z); Platt's sigmoid(a z + b), z the score's log-odds and a > 0, both with Platt's smoothed
targets (1999), so that classes which validation pages tell apart without error do not become certain; isotonic regression by pooling
adjacent violators (Ayer et al. 1955; Zadrozny and Elkan 2002), linear between the blocks, kept off 0 and 1 likewise. Each is fitted on
four fifths of the groups of validation pages and judged on the rest, five times; of equal ones the simplest wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.errors import InputError
from store.fs import read_bytes
from store.params import Json

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
EPSILON = 1e-6
"""Scores are kept this far from 0 and 1: a page is never certain."""
FOLDS = 5
STEPS = 100
MIN_PAGES = 50
"""Validation pages below which nothing is calibrated."""


@dataclass(frozen=True)
class Calibration:
    """A rising map of [0, 1] into itself.

    Attributes:
        method: none, temperature, platt or isotonic.
        x, y: (a,) and (b,) of the sigmoid, or the corners of the isotonic line.
    """

    method: str
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __call__(self, scores: npt.NDArray[np.floating]) -> F64:
        """[n] calibrated scores, float64."""
        p = np.asarray(scores, np.float64)
        if self.method == "none":
            return p
        if self.method == "isotonic":
            return np.interp(p, self.x, self.y)
        return _sigmoid(self.x[0] * log_odds(p) + self.y[0])

    def json(self) -> dict[str, Json]:
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_json(cls, data: dict[str, Json], where: str) -> Calibration:
        """What ``json`` gave; InputError if it is something else."""
        x, y = data.get("x"), data.get("y")
        known = data.get("method") in ("none", *METHODS)
        if not known or not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise InputError("this is not a calibration", where=where, expected="method, x and y", remedy="train the classifier again")
        return cls(str(data["method"]), tuple(float(str(v)) for v in x), tuple(float(str(v)) for v in y))


NONE = Calibration("none")


def read_calibration(path: str | None) -> Calibration:
    """The calibration of a classifier's artifact (calibration.json); none without a path. InputError: it is something else."""
    if path is None:
        return NONE
    try:
        data = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError("this is not a calibration", where=path, expected="JSON", remedy="train the classifier again") from error
    return Calibration.from_json(data if isinstance(data, dict) else {}, path)


def log_odds(p: npt.NDArray[np.floating]) -> F64:
    """[n] log(p / (1 - p)) of clipped scores."""
    clipped = np.clip(np.asarray(p, np.float64), EPSILON, 1 - EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def log_loss(p: F64, truth: Bools, weights: F64) -> float:
    """Weighted mean of -log of the probability of what is true."""
    clipped = np.clip(p, EPSILON, 1 - EPSILON)
    return float(-(weights * np.where(truth, np.log(clipped), np.log1p(-clipped))).sum() / weights.sum())


def _sigmoid(z: F64) -> F64:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def platt(p: F64, truth: Bools, weights: F64, *, offset: bool = True) -> Calibration:
    """Newton's method on the log loss of sigmoid(a z + b); without ``offset`` b stays 0 (temperature). Damped, so it converges."""
    n_yes, n_no = float(weights[truth].sum()), float(weights[~truth].sum())
    target = np.where(truth, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    design = np.stack([log_odds(p), np.ones(len(p))])[: 2 if offset else 1]
    at = np.array([1.0, 0.0])[: len(design)]

    def loss(theta: F64) -> float:
        z = theta @ design
        return float((weights * (np.logaddexp(0.0, z) - target * z)).sum())

    for _ in range(STEPS):
        q = _sigmoid(at @ design)
        gradient = design @ (weights * (q - target))
        curvature = (design * (weights * q * (1 - q))) @ design.T + 1e-9 * np.eye(len(design))
        step, rate, now = np.linalg.solve(curvature, gradient), 1.0, loss(at)
        while rate > 1e-6 and loss(at - rate * step) > now:
            rate /= 2
        at = at - rate * step
        if np.abs(rate * step).max() < 1e-10:
            break
    slope = max(float(at[0]), 1e-3)  # scores that point the wrong way stay in their order
    return Calibration("platt" if offset else "temperature", (round(slope, 9),), (round(float(at[1]), 9) if offset else 0.0,))


def temperature(p: F64, truth: Bools, weights: F64) -> Calibration:
    """sigmoid(a z)."""
    return platt(p, truth, weights, offset=False)


def isotonic(p: F64, truth: Bools, weights: F64) -> Calibration:
    """Pooled adjacent violators: blocks of equal rate, a corner at each block's first and last score."""
    scores, at = np.unique(p, return_inverse=True)
    mass = np.bincount(at, weights, len(scores))
    rate = np.bincount(at, weights * truth, len(scores)) / mass
    blocks: list[tuple[float, float, int, int]] = []  # rate, weight, first, last
    for i in range(len(scores)):
        block = (float(rate[i]), float(mass[i]), i, i)
        while blocks and blocks[-1][0] >= block[0]:
            r, w, first, _ = blocks.pop()
            block = ((r * w + block[0] * block[1]) / (w + block[1]), w + block[1], first, i)
        blocks.append(block)
    corners = [(float(scores[k]), r) for r, _, first, last in blocks for k in dict.fromkeys((first, last))]
    # So many pages cannot show a rate nearer to 0 or 1 than this.
    edge = 1 / (float(weights.sum()) + 2)
    ends = [(x, min(1 - edge, max(edge, y))) for x, y in corners]
    return Calibration("isotonic", tuple(x for x, _ in ends), tuple(y for _, y in ends))


Fit = Callable[[F64, Bools, F64], Calibration]
METHODS: dict[str, Fit] = {"temperature": temperature, "platt": platt, "isotonic": isotonic}


def choose(p: F64, truth: Bools, weights: F64, groups: I64, seed: int) -> tuple[Calibration, dict[str, float]]:
    """(the best method fitted on all pages, held-out log loss by method), by cross-validation over groups.

    Fewer than MIN_PAGES pages, or pages of one class, are not calibrated.
    """
    if len(p) < MIN_PAGES or truth.all() or not truth.any():
        return NONE, {}
    names, numbers = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[numbers] % FOLDS
    held: dict[str, F64] = {"none": p.copy(), **{name: np.zeros(len(p)) for name in METHODS}}
    for k in range(FOLDS):
        out = fold == k
        if not out.any() or truth[~out].all() or not truth[~out].any():
            return NONE, {}
        for name, fit in METHODS.items():
            held[name][out] = fit(p[~out], truth[~out], weights[~out])(p[out])
    losses = {name: round(log_loss(q, truth, weights), 6) for name, q in held.items()}
    best = min(losses, key=lambda name: losses[name])  # of equal ones the first, which is the simplest
    return (NONE if best == "none" else METHODS[best](p, truth, weights)), losses
