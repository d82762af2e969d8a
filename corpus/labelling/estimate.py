"""From labelled pages of a sample to the share of the corpus that bears a label, with its interval.

Strata are weighed by their share of the pool, pages of a stratum by 1 / probability (corpus.labelling.draw). The variance is that of
pages drawn by themselves with these probabilities, plus that of the strata's shares (double sampling; Cochran 1977, section 12.2). The
interval is Wilson's for as many pages as would give that variance in a plain sample (Korn and Graubard 1998). Pages without a label are
left out: they are taken to be like the labelled pages of their stratum, and a stratum without any like the others together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from store.params import Json

F64 = npt.NDArray[np.float64]
Z2 = 1.959964**2


@dataclass(frozen=True)
class Share:
    """An estimated share with its 95 % interval, said by ``n`` pages; ``n_effective`` of a plain sample say as much (None: all)."""

    value: float
    low: float
    high: float
    n: int
    n_effective: float | None

    def json(self) -> dict[str, Json]:
        worth = None if self.n_effective is None else round(self.n_effective, 1)
        return {"share": round(self.value, 6), "share_low": round(self.low, 6), "share_high": round(self.high, 6), "n": self.n,
                "n_effective": worth}  # fmt: skip


@dataclass(frozen=True)
class _Stratum:
    """[n] whether pages are positive, and their probabilities; ``size`` pages of the pool are of the stratum."""

    size: int
    y: F64
    probability: F64

    @property
    def mean(self) -> float:
        return float((self.y / self.probability).sum() / (1.0 / self.probability).sum())

    def variance(self, p: float) -> float:
        """Of the mean: the linearised one, but at least what pages would have whose share is a little nearer to that of all, ``p``.

        So a few pages that agree do not prove that all pages of the stratum do.
        """
        w, n, mean = 1.0 / self.probability, len(self.y), self.mean
        open_ = w**2 * (1 - self.probability) / w.sum() ** 2
        shrunk = (n * mean + p) / (n + 1)
        linear = float((open_ * (self.y - mean) ** 2).sum()) * n / (n - 1) if n > 1 else 0.25 * float(open_.sum())
        return max(linear, shrunk * (1 - shrunk) * float(open_.sum()))

    def unit_variance(self) -> float:
        """Of the mean of values whose variance is 1."""
        w = 1.0 / self.probability
        return float((w**2 * (1 - self.probability)).sum() / w.sum() ** 2)


def share_of(pages: pl.DataFrame, n_pool: Mapping[str, int], pool_share: float) -> Share | None:
    """The share of positive pages, or None if no page is labelled.

    Args:
        pages: stratum, probability (> 0) and positive (bool), a row a labelled page.
        n_pool: pages of the pool by stratum.
        pool_share: of the source's pages that were drawn into the pool.
    """
    if not pages.height:
        return None
    strata = [
        _Stratum(n_pool.get(str(name), 0), part["positive"].to_numpy().astype(np.float64), part["probability"].to_numpy())
        for (name,), part in pages.sort("stratum").group_by("stratum", maintain_order=True)
    ]
    total = sum(s.size for s in strata)
    weights, means = np.array([s.size / total for s in strata]), np.array([s.mean for s in strata])
    p = float((weights * means).sum())
    between = (1.0 - pool_share) * float((weights * (means - p) ** 2).sum()) / total
    variance = between + float(sum(w**2 * s.variance(p) for w, s in zip(weights, strata, strict=True)))
    if 0 < p < 1:
        n = p * (1 - p) / variance if variance > 0 else None
    else:
        unit = float(sum(w**2 * s.unit_variance() for w, s in zip(weights, strata, strict=True)))
        n = 1 / unit if unit > 0 else None
    low, high = (p, p) if n is None else _wilson(p, n)
    return Share(p, low, high, pages.height, n)


def _wilson(p: float, n: float) -> tuple[float, float]:
    centre, half = (p + Z2 / (2 * n)) / (1 + Z2 / n), np.sqrt(Z2 * (p * (1 - p) / n + Z2 / (4 * n * n))) / (1 + Z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
