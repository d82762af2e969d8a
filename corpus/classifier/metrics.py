"""How good scores are: precision, recall, F1, average precision, calibration error, thresholds, with bootstrap intervals over groups.

A group is what the split keeps together (host, article, near-duplicates): its pages depend on each other, so whole groups are drawn
with replacement (cluster bootstrap; Cameron, Gelbach and Miller 2008). Pages may be weighed, e.g. to the corpus's share of positives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
N_DRAWS = 1000
N_BINS = 10


@dataclass(frozen=True)
class Judged:
    """Held-out pages with two classes.

    Attributes:
        scores: [n] probability of the positive class.
        truth: [n] whether a page is of it.
        weights: [n] positive.
        groups: [n] any numbers.
        seed: of the bootstrap.
    """

    scores: F64
    truth: Bools
    weights: F64
    groups: I64
    seed: int = 1

    def draws(self) -> Iterator[F64]:
        """N_DRAWS times [n] weights, each of groups drawn with replacement; the same for every figure."""
        names, numbers = np.unique(self.groups, return_inverse=True)
        rng = np.random.default_rng(self.seed)
        for _ in range(N_DRAWS):
            times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
            yield self.weights * times[numbers]


def weights_for(truth: Bools, prevalence: float | None) -> F64:
    """[n] weights under which the share of positive pages is ``prevalence``; None: ones. They sum to n."""
    share = float(truth.mean()) if len(truth) else 0.0
    if prevalence is None or share in (0.0, 1.0):
        return np.ones(len(truth))
    return np.where(truth, prevalence / share, (1 - prevalence) / (1 - share))


def scores_of(truth: Bools, predicted: Bools, weights: F64 | None = None) -> tuple[float, float, float]:
    """(precision, recall, F1); 0 where a denominator is 0."""
    w = np.ones(len(truth)) if weights is None else weights
    hit, said, there = float(w[truth & predicted].sum()), float(w[predicted].sum()), float(w[truth].sum())
    return (hit / said if said else 0.0), (hit / there if there else 0.0), (2 * hit / (said + there) if said + there else 0.0)


@dataclass(frozen=True)
class Ranked:
    """Pages by falling score, equal scores as one step: what curves are made of.

    Attributes:
        order: [n] pages by falling score.
        ends: [k] index in ``order`` of the last page of each distinct score.
        thresholds: [k] the distinct scores, falling.
    """

    order: I64
    ends: I64
    thresholds: F64

    @classmethod
    def of(cls, scores: F64) -> Ranked:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.append(np.flatnonzero(np.diff(falling) < 0), len(falling) - 1).astype(np.int64)
        return cls(order, ends, falling[ends])

    def curve(self, truth: Bools, weights: F64) -> tuple[F64, F64]:
        """(precision [k], recall [k]) of taking all pages from each threshold on."""
        w = weights[self.order]
        said = np.cumsum(w)[self.ends]
        hits = np.cumsum(w * truth[self.order])[self.ends]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(said > 0, hits / said, 1.0)
            recall = hits / hits[-1] if hits[-1] > 0 else np.zeros(len(hits))
        return precision, recall


def average_precision(precision: F64, recall: F64) -> float:
    """The area under the steps of the curve, without interpolation."""
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def threshold_for(ranked: Ranked, precision: F64, recall: F64, want: tuple[str, float]) -> float | None:
    """The lowest threshold of at least this precision, or the highest of at least this recall; None if there is none."""
    kind, value = want
    fits = np.flatnonzero((precision if kind == "precision" else recall) >= value - 1e-12)
    if not len(fits):
        return None
    return float(ranked.thresholds[fits[-1] if kind == "precision" else fits[0]])


@dataclass(frozen=True)
class Reliability:
    """Ten bins of equal width of pages by score; empty ones are left out.

    Attributes:
        predicted, observed: [b] mean score and share of positive pages.
        low, high: [b] 95 % interval of ``observed``.
        n: [b] pages.
        error: expected calibration error, the weighted mean of |predicted - observed|; with its interval.
    """

    predicted: F64
    observed: F64
    low: F64
    high: F64
    n: I64
    error: float
    error_low: float
    error_high: float


def reliability(pages: Judged) -> Reliability:
    """Reliability diagram and expected calibration error (Naeini et al. 2015)."""
    bins, k = np.clip((pages.scores * N_BINS).astype(np.int64), 0, N_BINS - 1), N_BINS

    def means(weights: F64) -> tuple[F64, F64, F64]:
        mass = np.asarray(np.bincount(bins, weights, k), np.float64)
        safe = np.where(mass > 0, mass, 1.0)
        return mass, np.bincount(bins, weights * pages.scores, k) / safe, np.bincount(bins, weights * pages.truth, k) / safe

    mass, predicted, observed = means(pages.weights)
    drawn = [means(w) for w in pages.draws()]
    rates = np.array([np.where(m > 0, o, np.nan) for m, _, o in drawn])
    errors = np.array([_error(*d) for d in drawn])
    there = mass > 0
    low, high = np.nanpercentile(rates[:, there], [2.5, 97.5], axis=0)
    error_low, error_high = np.percentile(errors, [2.5, 97.5])
    n = np.bincount(bins, minlength=k)[there].astype(np.int64)
    return Reliability(predicted[there], observed[there], low, high, n, _error(mass, predicted, observed), float(error_low),
                       float(error_high))  # fmt: skip


def _error(mass: F64, predicted: F64, observed: F64) -> float:
    return float((mass * np.abs(predicted - observed)).sum() / mass.sum()) if mass.sum() > 0 else 0.0
