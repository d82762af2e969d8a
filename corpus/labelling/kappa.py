"""How far two voters agree beyond chance: Cohen's kappa (1960) with a bootstrap interval over pages.

Pages drawn with replacement change a pair of voters' table of counts only, so a draw is one multinomial sample of that table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_DRAWS = 1000
Tables = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """``n`` pages with a label of both; ``observed`` the share on which they agree; figures are None where they do not exist.

    Kappa does not exist without pages, and where both give one and the same label to every page.
    """

    n: int
    observed: float | None
    kappa: float | None
    low: float | None
    high: float | None


def table_of(a: npt.NDArray[np.int16], b: npt.NDArray[np.int16], n_labels: int) -> npt.NDArray[np.int64]:
    """[L, L] pages by label of a and of b; pages without a label of one (a negative number) are left out."""
    both = (a >= 0) & (b >= 0)
    return np.bincount(a[both].astype(np.int64) * n_labels + b[both], minlength=n_labels * n_labels).reshape(n_labels, n_labels)


def kappa_of(tables: Tables) -> Tables:
    """[...] Cohen's kappa of [..., L, L] tables of counts; NaN where it does not exist."""
    n = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(tables, axis1=-2, axis2=-1) / n
        chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / (n * n)
        return np.asarray(np.where(chance < 1.0, (observed - chance) / (1.0 - chance), np.nan))


def agreement(table: npt.NDArray[np.int64], seed: int) -> Agreement:
    """Kappa of a table with its 95 % interval; draws in which kappa does not exist are left out of the interval."""
    n = int(table.sum())
    if n == 0:
        return Agreement(0, None, None, None, None)
    observed, kappa = float(np.trace(table)) / n, float(kappa_of(table.astype(np.float64)))
    if np.isnan(kappa):
        return Agreement(n, _rounded(observed), None, None, None)
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, N_DRAWS).reshape(N_DRAWS, *table.shape)
    low, high = np.nanpercentile(kappa_of(drawn.astype(np.float64)), [2.5, 97.5])
    return Agreement(n, _rounded(observed), _rounded(kappa), _rounded(low), _rounded(high))


def _rounded(value: float) -> float:
    return round(float(value), 6)
