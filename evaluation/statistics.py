"""Standard errors. Every function is a closed formula over per-item values; nothing here draws random numbers but the median.

Sources: Cochran, Sampling Techniques (1977), sections 2.4 (mean) and 6.4 (ratio); Wilson (1927), JASA 22, 209-212;
Miller, "Adding error bars to evals" (2024, arXiv 2411.00640) for paired differences between models on the same items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
N_RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error (None where n is too small to have one) over n independent units."""

    value: float
    stderr: float | None
    n: int


def mean(values: Values) -> Estimate:
    """Mean with stderr ``s / sqrt(n)``, s the standard deviation with n - 1 (what lm-evaluation-harness prints)."""
    n = _count(values)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None, n)


def paired_difference(first: Values, second: Values) -> Estimate:
    """mean(first - second) over the same items: their common difficulty cancels, so the error is far below that of two means."""
    return mean(first - second)


def ratio(numerator: Values, denominator: Values) -> Estimate:
    """``sum(y) / sum(x)`` over n independent units, such as bits over bytes by document.

    stderr by linearisation: ``sqrt(n / (n - 1) * sum((y - r x)^2)) / sum(x)``. Tokens of one document depend on each other;
    counting documents as the units keeps the error honest.
    """
    n, total = _count(numerator), float(denominator.sum())
    if total <= 0:
        raise ValueError("the denominators sum to zero")
    r = float(numerator.sum()) / total
    return Estimate(r, _spread((numerator - r * denominator) / total), n)


def paired_ratio_difference(first: Values, second: Values, first_denominator: Values, second_denominator: Values) -> Estimate:
    """Difference of two ratios over the same units, by linearisation of both."""
    n = _count(first)
    parts = []
    for y, x in ((first, first_denominator), (second, second_denominator)):
        r = ratio(y, x).value
        parts.append((r, (y - r * x) / float(x.sum())))
    return Estimate(parts[0][0] - parts[1][0], _spread(parts[0][1] - parts[1][1]), n)


def wilson(n_success: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share. Unlike share +- 1.96 stderr it is right near 0 and 1, and for small n."""
    if not 0 <= n_success <= n or n == 0:
        raise ValueError(f"{n_success} successes of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, z2 = n_success / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def median(values: Values) -> Estimate:
    """Median; stderr is the standard deviation of 1,000 bootstrap medians (fixed seed)."""
    n = _count(values)
    if n < 2:
        return Estimate(float(np.median(values)), None, n)
    rows = np.random.default_rng(SEED).integers(0, n, size=(N_RESAMPLES, n))
    return Estimate(float(np.median(values)), float(np.median(values[rows], axis=1).std(ddof=1)), n)


def median_difference(first: Values, second: Values) -> Estimate:
    """Difference of two medians over the same items; the bootstrap draws items, so both medians see the same ones."""
    n = _count(first)
    value = float(np.median(first) - np.median(second))
    if n < 2:
        return Estimate(value, None, n)
    rows = np.random.default_rng(SEED).integers(0, n, size=(N_RESAMPLES, n))
    return Estimate(value, float((np.median(first[rows], axis=1) - np.median(second[rows], axis=1)).std(ddof=1)), n)


def _spread(residuals: Values) -> float | None:
    """Standard error of a sum of independent residuals whose sum is zero."""
    n = len(residuals)
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) if n > 1 else None


def _count(values: Values) -> int:
    if len(values) == 0:
        raise ValueError("an estimate needs at least one item")
    return len(values)
