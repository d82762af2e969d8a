"""The recall that a cheap first step loses: estimated from pages it dropped that the encoder scored all the same.

Two measures, at 99 thresholds t of the encoder's score:

* source: of all pages that the encoder would take, the share that the first step dropped. Of ``n_dropped`` dropped pages ``n`` were
  drawn by id; k of them score at least t. So n_dropped * k / n are lost, with Wilson's interval of k / n; what was found is counted,
  every survivor for its whole duplicate cluster. Truth here is the encoder's own verdict.
* labels: the same share among positive test pages of the classifier's card which reached the first step. At t = 0, of all of them.

Pages that other stages drop before or after do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import cast

import numpy as np
import numpy.typing as npt

from corpus.classifier.card import rounded, wilson
from store.artifact import Receipt
from store.params import Json

I64 = npt.NDArray[np.int64]
THRESHOLDS = np.arange(0, 100) / 100
"""0 stands for every page."""


def at_least(scores: npt.NDArray[np.floating], weights: npt.NDArray[np.integer] | None = None) -> I64:
    """[100] pages (or their weights) with a score of at least each threshold."""
    bins = np.searchsorted(THRESHOLDS, np.asarray(scores, np.float64), side="right") - 1
    counts = np.bincount(bins, weights, len(THRESHOLDS)) if len(bins) else np.zeros(len(THRESHOLDS))
    return np.asarray(np.cumsum(counts[::-1])[::-1].round(), np.int64)


def _none() -> I64:
    return np.zeros(len(THRESHOLDS), np.int64)


@dataclass
class Tally:
    """Pages by threshold: found among the survivors, among the checked ones, and positive test pages that passed or were dropped."""

    found: I64 = field(default_factory=_none)
    checked: I64 = field(default_factory=_none)
    test_passed: I64 = field(default_factory=_none)
    test_dropped: I64 = field(default_factory=_none)

    def data(self) -> dict[str, Json]:
        """As a receipt holds it."""
        return {f.name: [int(n) for n in getattr(self, f.name)] for f in fields(self)}

    @classmethod
    def merged(cls, receipts: Sequence[Receipt]) -> Tally:
        """Of all tasks."""
        total = cls()
        for receipt in receipts:
            for f in fields(cls):
                getattr(total, f.name)[:] += np.array(cast(list[int], receipt.data[f.name]), np.int64)
        return total


def estimate(tally: Tally, n_dropped: int) -> dict[str, Json]:
    """The curves, as the summary of the step has them: {"n_dropped", "n_checked", "source": rows, "labels": rows}.

    Rows are {threshold, n_found, n_checked_above, lost, recall_lost, recall_lost_low, recall_lost_high}, of labels {threshold, n_test,
    n_dropped, recall_lost, ...}. Without checked or test pages the list is empty.
    """
    n = int(tally.checked[0])
    source = [_source(tally, i, n, n_dropped) for i in range(1, len(THRESHOLDS))] if n else []
    if n_dropped == 0:
        source = []
    tested = int(tally.test_passed[0] + tally.test_dropped[0])
    labels = [_labels(tally, i) for i in range(len(THRESHOLDS))] if tested and n_dropped else []
    return {"n_dropped": n_dropped, "n_checked": n, "source": cast(Json, source), "labels": cast(Json, labels)}


def _source(tally: Tally, i: int, n: int, n_dropped: int) -> dict[str, Json]:
    found, k = int(tally.found[i]), int(tally.checked[i])
    lost = [n_dropped * share for share in (k / n, *wilson(k, n, max(n, n_dropped)))]
    shares = [x / (x + found) if x + found > 0 else 0.0 for x in lost]
    row: dict[str, Json] = {"threshold": float(THRESHOLDS[i]), "n_found": found, "n_checked_above": k, "lost": round(lost[0])}
    return row | _shares(shares)


def _labels(tally: Tally, i: int) -> dict[str, Json]:
    dropped, passed = int(tally.test_dropped[i]), int(tally.test_passed[i])
    n = dropped + passed
    shares = [dropped / n if n else 0.0, *wilson(dropped, n)]
    return {"threshold": float(THRESHOLDS[i]), "n_test": n, "n_dropped": dropped} | _shares(shares)


def _shares(values: Sequence[float]) -> dict[str, Json]:
    return {f"recall_lost{end}": rounded(v) for end, v in zip(("", "_low", "_high"), values, strict=True)}


def row_at(rows: Json, threshold: float) -> dict[str, Json] | None:
    """The row of the highest threshold that is not above ``threshold``; None without rows."""
    found = [r for r in (rows if isinstance(rows, list) else []) if isinstance(r, dict)]
    below = [r for r in found if float(str(r["threshold"])) <= threshold + 1e-9]
    return below[-1] if below else found[0] if found else None


def verdict(summary: dict[str, Json], threshold: float, max_lost: float | None) -> dict[str, Json]:
    """What a recipe's threshold loses, and a sentence of warning where that may be too much or could not be measured."""
    recall = summary.get("recall")
    if not isinstance(recall, dict):
        return {}
    out: dict[str, Json] = {"n_dropped": recall["n_dropped"], "n_checked": recall["n_checked"]}
    out |= {name: row for name in ("source", "labels") if (row := row_at(recall[name], threshold)) is not None}
    if recall["n_dropped"] == 0 or max_lost is None:
        return out
    source = out.get("source")
    if not isinstance(source, dict):
        text = "the recall lost by the first step is not known: no text of the pages it dropped is kept (corpus.dropped_text_share)"
        return out | {"warning": text}
    high = float(str(source["recall_lost_high"]))
    if high > max_lost:
        checked = f"{recall['n_checked']} of {recall['n_dropped']} dropped pages checked"
        about = 100 * float(str(source["recall_lost"]))
        text = (
            f"the first step may lose {100 * high:.1f} % of what the encoder would take (about {about:.1f} %; {checked}); "
            f"the recipe allows {100 * max_lost:.1f} %: lower the min of that stage, or check more pages"
        )
        return out | {"warning": text}
    return out
