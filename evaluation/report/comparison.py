"""Scores of models, and when a difference between two of them may be believed.

A difference is significant where it exceeds 1.96 standard errors: the paired one where the step measured it on the same examples,
else the root of the sum of squares, which is too wide for correlated errors and therefore on the safe side. Without a positive
standard error nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.report.files import RunFiles, mapping, number, sequence, text
from store.params import Json

Z = 1.96
GROUPS = ("domain", "general", "answers")
MAIN_ACCURACY, OTHER_ACCURACIES = "acc_norm", ("acc", "acc_bytes")


@dataclass(frozen=True)
class Value:
    """A score. ``stderr``, ``n`` and ``interval`` (95 %) are None if not given."""

    value: float
    stderr: float | None
    n: int | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Difference:
    """a - b on a metric. ``gain`` is positive if a is the better one, None if the metric has no better."""

    value: float
    stderr: float | None
    paired: bool
    sign: int

    @property
    def significant(self) -> bool:
        return bool(self.stderr) and abs(self.value) > Z * (self.stderr or 0.0)

    @property
    def gain(self) -> float:
        return self.sign * self.value

    @property
    def verdict(self) -> int:
        """1 significantly better, -1 significantly worse, 0 neither."""
        return 0 if not self.significant or not self.sign else 1 if self.gain > 0 else -1


@dataclass(frozen=True)
class Metric:
    """A metric over models.

    Attributes:
        sign: +1 if higher is better, -1 if lower is, 0 if neither.
        subject: what was measured on ("domain", a benchmark's name), ``measure`` how ("bits_per_byte", "acc_norm"); may be empty.
        chance: what guessing would score; None where that has no meaning.
    """

    name: str
    group: str
    unit: str
    sign: int
    values: Mapping[str, Value]
    paired: Mapping[tuple[str, str], tuple[float, float | None]]
    subject: str = ""
    measure: str = ""
    chance: float | None = None

    @property
    def is_share(self) -> bool:
        """Whether the values are shares of items, between 0 and 1."""
        return self.unit in ("share", "accuracy") or self.chance is not None

    def difference(self, a: str, b: str) -> Difference | None:
        """a - b, or None if either is missing."""
        if (a, b) in self.paired:
            value, stderr = self.paired[(a, b)]
            return Difference(value, stderr, True, self.sign)
        if (b, a) in self.paired:
            value, stderr = self.paired[(b, a)]
            return Difference(-value, stderr, True, self.sign)
        if a not in self.values or b not in self.values:
            return None
        x, y = self.values[a], self.values[b]
        both = x.stderr is not None and y.stderr is not None
        return Difference(x.value - y.value, math.hypot(x.stderr or 0, y.stderr or 0) if both else None, False, self.sign)

    def best(self, models: list[str]) -> str | None:
        """The model that is significantly better than every other one, if there is one."""
        if not self.sign:
            return None
        scored = [m for m in models if m in self.values]
        for a in scored if len(scored) > 1 else []:
            if all((d := self.difference(a, b)) is not None and d.verdict > 0 for b in scored if b != a):
                return a
        return None


@dataclass(frozen=True)
class Scores:
    """All scores of a run, metrics ordered by group."""

    models: list[str]
    metrics: list[Metric]

    @property
    def main(self) -> list[Metric]:
        """Metrics without second views of the same answers: one accuracy a benchmark (per character, the usual one), if it is there."""
        normed = {m.subject for m in self.metrics if m.measure == MAIN_ACCURACY}
        return [m for m in self.metrics if not (m.measure in OTHER_ACCURACIES and m.subject in normed)]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(m.group for m in self.metrics))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of models that were compared on the same examples."""
        return list(dict.fromkeys(p for m in self.metrics for p in m.paired))


def read_scores(files: RunFiles) -> Scores | None:
    """The scores of all evaluation steps together; None if there are none."""
    models: dict[str, None] = {}
    metrics: list[Metric] = []
    for step in files.of_kind("evaluate"):
        scores = step.json("scores.json")
        models.update(dict.fromkeys(text(m) for m in sequence(scores.get("models")) if text(m)))
        metrics += [_metric(mapping(m)) for m in sequence(scores.get("metrics")) if text(mapping(m).get("name"))]
    for metric in metrics:
        models.update(dict.fromkeys(metric.values))
    metrics = [m for m in metrics if m.values]
    rank = {g: i for i, g in enumerate(GROUPS)}
    return Scores(list(models), sorted(metrics, key=lambda m: rank.get(m.group, len(GROUPS)))) if metrics else None


def _metric(raw: dict[str, Json]) -> Metric:
    values = {}
    for model, entry in mapping(raw.get("values")).items():
        value, n = number(mapping(entry).get("value")), number(mapping(entry).get("n"))
        if value is not None:
            values[model] = Value(value, number(mapping(entry).get("stderr")), None if n is None else int(n), _interval(mapping(entry)))
    paired = {}
    for key, entry in mapping(raw.get("paired")).items():
        a, _, b = key.partition(" - ")
        difference = number(mapping(entry).get("difference"))
        if difference is not None and a and b:
            paired[(a, b)] = (difference, number(mapping(entry).get("stderr")))
    sign = {"lower": -1, "higher": 1}.get(text(raw.get("better")), 0)
    return Metric(text(raw.get("name")), text(raw.get("group")) or "other", text(raw.get("unit")), sign, values, paired,
                  text(raw.get("set")), text(raw.get("measure")), number(raw.get("chance")))  # fmt: skip


def _interval(entry: dict[str, Json]) -> tuple[float, float] | None:
    ends = [v for v in map(number, sequence(entry.get("interval"))) if v is not None]
    return (ends[0], ends[1]) if len(ends) == 2 else None
