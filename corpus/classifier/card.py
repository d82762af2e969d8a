"""The card: what a classifier was trained on and how good it is, as JSON for machines and Markdown for people.

Everything is measured on test pages, which nothing was chosen by; the calibration and the chosen threshold come from validation pages.
Intervals are 95 %, of groups drawn with replacement (corpus.classifier.metrics). Scores are those that will be written: calibrated ones
with ``calibrate``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt

from corpus.calibration import NONE, Calibration, log_loss
from corpus.classifier.metrics import (
    Judged,
    Ranked,
    Reliability,
    average_precision,
    reliability,
    scores_of,
    threshold_for,
)
from corpus.classifier.params import ClassifierParams
from store.params import Json

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
GRID = np.round(np.linspace(0.05, 0.95, 19), 2)
CURVE_POINTS = 200
Card = dict[str, Json]


def rounded(value: float) -> float:
    return round(float(value), 5)


def interval(name: str, value: float, draws: Iterable[float | None]) -> Card:
    """{name, name_low, name_high}; no limits where no draw has a value."""
    found = [d for d in draws if d is not None and np.isfinite(d)]
    if not found:
        return {name: rounded(value)}
    low, high = np.percentile(found, [2.5, 97.5])
    return {name: rounded(value), f"{name}_low": rounded(low), f"{name}_high": rounded(high)}


def quality(test: Judged, threshold: float) -> Card:
    """Precision, recall and F1 at a threshold, average precision, and the curve, with intervals."""
    ranked = Ranked.of(test.scores)
    at = test.scores >= threshold
    drawn = [(scores_of(test.truth, at, w), average_precision(*ranked.curve(test.truth, w))) for w in test.draws()]
    card: Card = {"threshold": threshold, "n_test": len(test.scores), "n_positive_test": int(test.truth.sum()),
                  "n_groups_test": len(np.unique(test.groups))}  # fmt: skip
    for i, name in enumerate(("precision", "recall", "f1")):
        card |= interval(name, scores_of(test.truth, at, test.weights)[i], (d[0][i] for d in drawn))
    precision, recall = ranked.curve(test.truth, test.weights)
    card |= interval("average_precision", average_precision(precision, recall), (d[1] for d in drawn))
    curve: list[Json] = []
    for t in GRID:
        p, r, _ = scores_of(test.truth, test.scores >= t, test.weights)
        curve.append({"threshold": float(t), "precision": rounded(p), "recall": rounded(r)})
    rows = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), CURVE_POINTS)).round().astype(int))
    return card | {"curve": curve, "precision_recall": [[rounded(recall[i]), rounded(precision[i])] for i in rows]}


def target_of(validation: Judged, test: Judged, params: ClassifierParams) -> Card:
    """The threshold for the wanted precision or recall: chosen on validation pages with its interval, measured on test pages."""
    assert params.target is not None
    want = ("precision", params.target.precision) if params.target.precision is not None else ("recall", params.target.recall)
    wanted = cast(tuple[str, float], want)
    ranked = Ranked.of(validation.scores) if len(validation.scores) else None
    found = threshold_for(ranked, *ranked.curve(validation.truth, validation.weights), wanted) if ranked is not None else None
    card: Card = {"wanted": wanted[0], "value": wanted[1], "threshold": None}
    if ranked is None or found is None:
        return card | {"note": f"no threshold reaches it on {len(validation.scores)} validation pages"}
    drawn = [threshold_for(ranked, *ranked.curve(validation.truth, w), wanted) for w in validation.draws()]
    card |= interval("threshold", found, drawn)
    card["share_of_draws_without"] = rounded(sum(d is None for d in drawn) / len(drawn))
    # Rounded down, so that the page the threshold was taken from still passes.
    threshold = float(np.floor(found * 1e5) / 1e5)
    card["threshold"] = threshold
    at = test.scores >= threshold
    tested = [scores_of(test.truth, at, w) for w in test.draws()]
    for i, name in enumerate(("precision", "recall", "f1")):
        card |= interval(f"test_{name}", scores_of(test.truth, at, test.weights)[i], (d[i] for d in tested))
    return card


def calibration_of(raw: Judged, chosen: Calibration, losses: dict[str, float], applied: bool) -> Card:
    """What calibration does to test pages: log loss and calibration error before and after, and both diagrams."""
    after = Judged(chosen(raw.scores), raw.truth, raw.weights, raw.groups, raw.seed)
    card: Card = {"chosen": chosen.json(), "applied": applied, "held_out_log_loss": cast(Json, dict(losses))}
    for name, pages in (("raw", raw), ("calibrated", after)):
        if name == "calibrated" and chosen == NONE:
            continue
        found = reliability(pages)
        card[name] = {"log_loss": rounded(log_loss(pages.scores, pages.truth, pages.weights)), **diagram(found)}
    return card


def diagram(found: Reliability) -> Card:
    """A reliability diagram as rows."""
    columns = zip(found.predicted, found.observed, found.low, found.high, found.n, strict=True)
    bins: list[Json] = [
        {"predicted": rounded(p), "observed": rounded(o), "observed_low": rounded(lo), "observed_high": rounded(hi), "n": int(n)}
        for p, o, lo, hi, n in columns
    ]  # fmt: skip
    limits: Card = {"ece": rounded(found.error), "ece_low": rounded(found.error_low), "ece_high": rounded(found.error_high)}
    return limits | {"bins": bins}


def sizes_of(scores: F64, n_chars: I64, n_drawn: int, n_pages: int, thresholds: Iterable[float]) -> Card:
    """Pages and characters of the source at each threshold, counted on the sample and scaled, with Wilson intervals of the share.

    Args:
        scores, n_chars: [n] of the drawn pages that passed the filters.
        n_drawn: all drawn pages.
        n_pages: pages of the source.
        thresholds: to count at.
    """
    rows: list[Json] = []
    for t in thresholds:
        above = scores >= t
        hits, n = int(above.sum()), n_drawn
        low, high = wilson(hits, n, max(n, n_pages))
        row: Card = {"threshold": rounded(t), "n_sample": hits, "pages": round(n_pages * hits / n), "pages_low": round(n_pages * low)}
        row |= {"pages_high": round(n_pages * high), "characters": round(n_pages * float(n_chars[above].sum()) / n)}
        rows.append(row)
    edges = np.linspace(0, 1, 51)
    counts: list[Json] = [int(c) for c in np.histogram(np.clip(scores, 0, 1), edges)[0]]
    return {"n_source_pages": n_pages, "n_sample_pages": n_drawn, "n_sample_passed": len(scores), "at": rows, "histogram": counts}


def wilson(hits: int, n_drawn: int, n_all: int | None = None) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927); the whole range for n = 0.

    Drawn without replacement from ``n_all``, n pages tell as much as n (n_all - 1) / (n_all - n) with it (Cochran 1977, section 2.6).
    """
    if n_drawn == 0:
        return 0.0, 1.0
    p, z2 = hits / n_drawn, 1.959964**2
    if n_all is not None and n_drawn >= n_all:
        return p, p
    n = n_drawn * (n_all - 1) / (n_all - n_drawn) if n_all is not None else n_drawn
    centre, half = (p + z2 / (2 * n)) / (1 + z2 / n), np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def classes_of(p_NL: F64, classes: I64, groups: I64, params: ClassifierParams) -> Card:
    """Several classes: precision, recall and F1 of each and their means (macro), accuracy, and the table of confusions."""
    said, k = p_NL.argmax(axis=1), len(params.names)
    pages = Judged(p_NL.max(axis=1), said == classes, np.ones(len(said)), groups, params.seed)

    def figures(weights: F64) -> F64:
        """[4, k] precision, recall, F1 and accuracy (the same in every column)."""
        each = np.array([scores_of(classes == c, said == c, weights) for c in range(k)]).T
        return np.vstack([each, np.full(k, (weights * pages.truth).sum() / weights.sum())])

    point, drawn = figures(pages.weights), np.array([figures(w) for w in pages.draws()])
    card: Card = {"n_test": len(said), "n_groups_test": len(np.unique(groups)), "per_class": []}
    for i, name in enumerate(("precision", "recall", "f1", "accuracy")):
        card |= interval(name, float(point[i].mean()), drawn[:, i].mean(axis=1))
    for c, label in enumerate(params.names):
        one: Card = {"label": label, "n_test": int((classes == c).sum())}
        for i, name in enumerate(("precision", "recall", "f1")):
            one |= interval(name, float(point[i, c]), drawn[:, i, c])
        cast(list[Json], card["per_class"]).append(one)
    table = np.zeros((k, k), np.int64)
    np.add.at(table, (classes, said), 1)
    return card | {"confusion": cast(Json, table.tolist())}


LIMITS = (
    "The figures measure agreement with the labels given, on pages like the labelled ones; they are not figures of the whole corpus.",
    "Only the head of a page is seen.",
)


def limits_of(card: Card, params: ClassifierParams) -> list[Json]:
    """What the figures do not say, in sentences."""
    out: list[Json] = list(LIMITS)
    if params.classes is None and params.prevalence is None:
        out.append(
            "Precision, calibration and thresholds hold for the share of positive pages among the labelled ones. In a corpus with "
            "fewer of them precision is lower: set prevalence."
        )
    if params.classes is None and cast(int, card["n_positive_test"]) < 100:
        out.append(f"There are only {card['n_positive_test']} positive test pages: intervals are wide, and may be too narrow.")
    if cast(int, card["n_groups_test"]) < 30:
        out.append(f"The test pages are of only {card['n_groups_test']} groups: intervals over so few are too narrow.")
    if params.transformer.model is None and params.kind != "fasttext":
        out.append("The encoder began from small random weights: good for trials only.")
    return out


def markdown(card: Card) -> str:
    """The card for people."""
    lines = [f"# Classifier: {', '.join(cast(list[str], card['classes']))}", ""]
    lines += [f"Kind: {card['kind']}. Held-out test pages: {card['n_test']}.", "", "## Quality", ""]
    names = ("precision", "recall", "f1", "average_precision", "accuracy")
    lines += [
        "| Measure | Value (95 % interval) |",
        "|---|---|",
        *(f"| {n} | {_with_limits(card, n)} |" for n in names if n in card),
        "",
    ]
    if "threshold" in card:
        lines += [f"Precision, recall and F1 are at a threshold of {card['threshold']}.", ""]
    for title, part in (("Data", "data"), ("Split", "split"), ("Model", "model"), ("Target", "target")):
        if isinstance(found := card.get(part), dict):
            rows = [f"| {k} | {v} |" for k, v in found.items() if not isinstance(v, (dict, list))]
            lines += [f"## {title}", "", "| | |", "|---|---|", *rows, ""]
    if isinstance(sizes := card.get("sizes"), dict):
        lines += ["## Pages of the source at a threshold", "", "| Threshold | Pages (95 % interval) |", "|---|---|"]
        rows_at = cast(list[dict[str, Json]], sizes["at"])
        lines += [f"| {r['threshold']} | {r['pages']} ({r['pages_low']} to {r['pages_high']}) |" for r in rows_at] + [""]
    lines += ["## Limits", "", *(f"- {text}" for text in cast(list[str], card["limits"])), ""]
    return "\n".join(lines)


def _with_limits(card: Card, name: str) -> str:
    limits = f" ({card[f'{name}_low']} to {card[f'{name}_high']})" if f"{name}_low" in card else ""
    return f"{card[name]}{limits}"
