"""From the items of several models to metrics: values with standard errors, and differences paired by item.

A metric is ``{"name", "set", "measure", "group": "domain" | "general" | "answers", "better": "lower" | "higher" | "none", "unit",
"values": {model: {"value", "stderr", "n"}}, "paired": {"later - earlier": {"difference", "stderr", "n"}}}``. Shares also have
``interval`` (Wilson, 95 %); multiple choice has ``chance`` and ``n_cut``, the items whose prompt was longer than the model's context.
A pair covers the items both models have a value for. ``stderr`` is null where a single item leaves none to compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evaluation.params import EvaluationParams
from evaluation.statistics import (
    Estimate,
    Values,
    mean,
    median,
    median_difference,
    paired_difference,
    paired_ratio_difference,
    ratio,
    wilson,
)
from store.errors import ArtifactError
from store.params import Json

Row = dict[str, Json]
Pick = Callable[[Row], tuple[float, float] | None]
"""A row's (value, weight) for a metric; None where the row has none. The weight is 1 except for ratios."""


@dataclass(frozen=True)
class Measure:
    """How a metric is computed from rows. ``estimate`` and ``difference`` take values and weights, [n] each."""

    key: str
    title: str
    better: str
    unit: str
    pick: Pick
    estimate: Callable[[Values, Values], Estimate]
    difference: Callable[[Values, Values, Values, Values], Estimate]
    is_share: bool = False


def _number(key: str) -> Pick:
    return lambda row: None if row[key] is None else (float(row[key]), 1.0)  # type: ignore[arg-type]


def _share(key: str, title: str, better: str, pick: Pick | None = None) -> Measure:
    return Measure(key, title, better, "share", pick or _number(key), _mean, _mean_difference, is_share=True)


def _mean(values: Values, _: Values) -> Estimate:
    return mean(values)


def _mean_difference(a: Values, b: Values, _: Values, __: Values) -> Estimate:
    return paired_difference(a, b)


def _median(values: Values, _: Values) -> Estimate:
    return median(values)


def _median_difference(a: Values, b: Values, _: Values, __: Values) -> Estimate:
    return median_difference(a, b)


def _lengths(key: str, unit: str) -> list[Measure]:
    return [
        Measure(f"{key}_median", f"median answer length in {unit}", "none", unit, _number(key), _median, _median_difference),
        Measure(f"{key}_mean", f"mean answer length in {unit}", "none", unit, _number(key), _mean, _mean_difference),
    ]


def _language(expected: str) -> Measure:
    def pick(row: Row) -> tuple[float, float] | None:
        return None if row["language"] is None else (float(row["language"] == expected), 1.0)

    return _share("expected_language", f"answers in the expected language ({expected})", "higher", pick)


def _bits(row: Row) -> tuple[float, float]:
    return float(row["nats"]) / math.log(2), float(row["n_bytes"])  # type: ignore[arg-type]


BITS_PER_BYTE = Measure("bits_per_byte", "bits per byte", "lower", "bits/byte", _bits, ratio, paired_ratio_difference)
ACCURACIES = (
    _share("acc", "accuracy", "higher"),
    _share("acc_norm", "accuracy (per character)", "higher"),
    _share("acc_bytes", "accuracy (per byte)", "higher"),
)
ANSWERS = (
    _share("correct", "answers with the reference", "higher"),
    _share("truncated", "truncated answers", "lower"),
    _share("empty", "empty answers", "lower"),
    *_lengths("n_chars", "characters"),
    *_lengths("n_tokens", "tokens"),
)


def compare(params: EvaluationParams, items: Mapping[str, Sequence[Row]]) -> list[Json]:
    """All metrics in the order held-out texts, benchmarks, answers; each over the models in the order given."""
    metrics: list[Json] = []
    sets = {(str(r["kind"]), str(r["set"])): None for rows in items.values() for r in rows}  # in order of appearance
    groups = {b.name: b.group for b in params.benchmarks}
    for kind, name in sets:
        rows = {m: {int(r["line"]): r for r in found if (r["kind"], r["set"]) == (kind, name)} for m, found in items.items()}  # type: ignore[arg-type]
        _same_items(rows, name)
        if kind == "text":
            metrics.append(_metric(BITS_PER_BYTE, name, params.heldout_groups.get(name, "domain"), rows))
        elif kind == "choice":
            chance = _rounded(float(np.mean([1 / int(r["n_choices"]) for r in next(iter(rows.values())).values()])))  # type: ignore[arg-type]
            cut: Json = {m: sum(bool(r["cut"]) for r in found.values()) for m, found in rows.items()}
            more: dict[str, Json] = {"chance": chance, "n_cut": cut}
            metrics += [_metric(a, name, groups.get(name, "domain"), rows) | more for a in ACCURACIES]
        else:
            language = [_language(params.expected_language)] if params.expected_language else []
            found = [_metric(a, name, "answers", rows) for a in (*language, *ANSWERS)]
            metrics += [m for m in found if m["values"]]
    return metrics


def _same_items(rows: Mapping[str, Mapping[int, Row]], name: str) -> None:
    """Models scored on other items cannot be compared."""
    lines = {m: r.keys() for m, r in rows.items()}
    first = next(iter(lines))
    for model, found in lines.items():
        if found != lines[first]:
            raise ArtifactError(f"{model} was scored on other items of {name} than {first}", where="step evaluate",
                                remedy="remove the folder of the evaluation and run it again")  # fmt: skip


def _metric(measure: Measure, name: str, group: str, rows: Mapping[str, Mapping[int, Row]]) -> dict[str, Json]:
    picked = {m: {line: v for line, r in found.items() if (v := measure.pick(r)) is not None} for m, found in rows.items()}
    values: dict[str, Json] = {m: _value(measure, list(v.values())) for m, v in picked.items() if v}
    paired: dict[str, Json] = {}
    for earlier, later in combinations(picked, 2):
        lines = [line for line in picked[later] if line in picked[earlier]]
        if lines:
            (a, wa), (b, wb) = (_columns([picked[m][line] for line in lines]) for m in (later, earlier))
            found = measure.difference(a, b, wa, wb)
            paired[f"{later} - {earlier}"] = {"difference": _rounded(found.value), "stderr": _rounded(found.stderr), "n": found.n}
    return {
        "name": f"{name}: {measure.title}" if group == "answers" else f"{name} {measure.title}",
        "set": name, "measure": measure.key, "group": group, "better": measure.better, "unit": measure.unit,
        "values": values, "paired": paired,
    }  # fmt: skip


def _value(measure: Measure, picked: list[tuple[float, float]]) -> Json:
    found = measure.estimate(*_columns(picked))
    out: dict[str, Json] = {"value": _rounded(found.value), "stderr": _rounded(found.stderr), "n": found.n}
    if measure.is_share:
        low, high = wilson(round(sum(v for v, _ in picked)), found.n)
        out["interval"] = [_rounded(low), _rounded(high)]
    return out


def _columns(picked: list[tuple[float, float]]) -> tuple[Values, Values]:
    table = np.array(picked, dtype=np.float64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
