"""How well one labeller's labels agree with another's: precision, recall, F1, Cohen's kappa, with bootstrap intervals.

Pages are weighed: people label a part of the sample, drawn evenly over the model's labels (corpus.labelling.sheet), and figures are to
be those of the whole sample, or of the corpus. Intervals are 95 %, of 1,000 draws of pages with replacement within each of the model's
labels, as they were drawn. A page to which the model gave no label counts as one that it missed; kappa leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from store.params import Json

F64 = npt.NDArray[np.float64]
N_DRAWS = 1000
SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Compared:
    """Pages that both have looked at.

    Attributes:
        labels: the set, in order.
        truth: [n] number of the label that is taken to be right.
        said: [n] number of the label that is judged; len(labels): none.
        weights: [n] positive.
    """

    labels: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    said: npt.NDArray[np.int64]
    weights: F64

    @classmethod
    def of(cls, labels: Sequence[str], truth: Sequence[str], said: Sequence[str | None], weights: F64 | None = None) -> Compared:
        """From names; every truth is in the set, and what is said outside it counts as no label."""
        number = {name: i for i, name in enumerate(labels)}
        right = np.array([number[t] for t in truth], np.int64)
        judged = np.array([number.get(s, len(number)) if s is not None else len(number) for s in said], np.int64)
        return cls(tuple(labels), right, judged, np.ones(len(right)) if weights is None else weights)

    def table(self, times: F64 | None = None) -> F64:
        """[k, k + 1] weight of pages by truth and by what is said."""
        k = len(self.labels)
        weights = self.weights if times is None else self.weights * times
        flat = np.bincount(self.truth * (k + 1) + self.said, weights, k * (k + 1))
        return np.asarray(flat, np.float64).reshape(k, k + 1)

    def drawn_tables(self, seed: int) -> F64:
        """[N_DRAWS, k, k + 1] tables of pages drawn with replacement within what is said.

        A cell without pages is drawn as if it held a k-th of a page (a gamma variate, as of a Dirichlet prior): that no page was seen
        in it is no proof that there is none, and without this a figure of 1 would have no interval.
        """
        rng, k = np.random.default_rng(seed), len(self.labels)
        groups = [(s, np.flatnonzero(self.said == s)) for s in np.unique(self.said).tolist()]
        empty = self.table() == 0
        unseen = [(s, t, float(self.weights[rows].mean())) for s, rows in groups for t in np.flatnonzero(empty[:, s]).tolist()]
        out = np.empty((N_DRAWS, k, k + 1))
        for draw in out:
            times = np.zeros(len(self.said))
            for _, rows in groups:
                times[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
            draw[:] = self.table(times)
        for s, t, weight in unseen:
            out[:, t, s] += weight * rng.gamma(1 / k, size=N_DRAWS)
        return out

    def json(self, seed: int) -> dict[str, Json]:
        """Every figure with its interval, by label and as means of the labels (macro), and the table of pages."""
        point, drawn = figures(self.table()), figures(self.drawn_tables(seed))
        out: dict[str, Json] = {"n": len(self.truth), "labels": list(self.labels)}
        for name in ("accuracy", "kappa", *(f"{s}_macro" for s in SCORES)):
            out |= with_limits(name, point[name], drawn[name])
        rows: list[Json] = []
        counts = self._counts()
        for i, label in enumerate(self.labels):
            row: dict[str, Json] = {"label": label, "n_truth": int(counts[i].sum()), "n_said": int(counts[:, i].sum())}
            for name in SCORES:
                row |= with_limits(name, point[name][i], drawn[name][:, i])
            rows.append(row)
        return out | {"by_label": rows, "confusion": [[int(n) for n in row] for row in counts], "n_no_label": int(counts[:, -1].sum())}

    def _counts(self) -> F64:
        return Compared(self.labels, self.truth, self.said, np.ones(len(self.truth))).table()


def figures(tables: F64) -> Mapping[str, F64]:
    """Figures of tables [..., k, k + 1]: precision, recall, f1 [..., k]; their means, accuracy and kappa [...].

    NaN where a figure has no pages; a mean leaves out labels that neither side has.
    """
    square = tables[..., :-1]
    hits = np.diagonal(square, axis1=-2, axis2=-1)
    said, there = square.sum(axis=-2), tables.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"precision": hits / said, "recall": hits / there, "f1": 2 * hits / (said + there)}
        n = square.sum(axis=(-2, -1))
        observed = hits.sum(axis=-1) / n
        chance = (square.sum(axis=-1) * said).sum(axis=-1) / n**2
        found["kappa"] = np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)
        found["accuracy"] = hits.sum(axis=-1) / tables.sum(axis=(-2, -1))
        seen = said + there > 0
        for name in SCORES:
            # As scikit-learn counts: a label that one side has and the other never gives scores 0.
            found[f"{name}_macro"] = np.where(seen, np.nan_to_num(found[name]), 0.0).sum(axis=-1) / seen.sum(axis=-1)
    return found


def with_limits(name: str, value: F64, draws: F64) -> dict[str, Json]:
    """{name, name_low, name_high}; null where it does not exist."""
    if np.isnan(value):
        return {name: None}
    drawn = draws[~np.isnan(draws)]
    out: dict[str, Json] = {name: round(float(value), 5)}
    if len(drawn):
        low, high = np.percentile(drawn, [2.5, 97.5])
        out |= {f"{name}_low": round(min(float(low), float(value)), 5), f"{name}_high": round(max(float(high), float(value)), 5)}
    return out


def weights_to(labelled: pl.DataFrame, whole: pl.DataFrame) -> F64:
    """[n] weights under which pages that people labelled stand for all pages, label by label of the model.

    ``labelled`` and ``whole`` have model_label (null: none) and weight (what a page of the whole stands for).
    """
    totals = whole.group_by("model_label").agg(total=pl.col("weight").sum())
    mine = labelled.with_row_index("at").join(totals, on="model_label", how="left", nulls_equal=True).sort("at")
    mine = mine.with_columns(part=pl.col("weight").sum().over("model_label"))
    return mine.select(pl.col("weight") * pl.col("total") / pl.col("part")).to_series().to_numpy()
