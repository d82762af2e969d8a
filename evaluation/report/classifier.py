"""The chapter on the classifier: its quality on documents held out from its training, with intervals; what a cascade loses."""

from __future__ import annotations

import math

from markupsafe import Markup

from evaluation.report.blocks import Block, Cell, Columns, Details, Figure, Paragraph, Section, code, n_cell, table, x_cell
from evaluation.report.cascade import cascade_blocks
from evaluation.report.files import RunFiles, StepFiles, integer, mapping, number, sequence
from evaluation.report.plots import Dot, Series, dots, lines
from evaluation.report.svg import Scale
from evaluation.report.typography import DASH, count, decimal, words
from store.params import Json

SCORES = ("precision", "recall", "f1")
_NAMES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


def classifier_section(files: RunFiles) -> Section | None:
    """The chapter, or None if no classifier was trained."""
    found = [(s, _card(s)) for s in files.of_kind("classifier")]
    blocks: list[Block] = []
    for step, card in found:
        # One classifier needs no name; of several each says whose figures follow.
        blocks += [Paragraph(f"Step {step.name}:"), *card] if len(found) > 1 and card else card
    blocks += cascade_blocks(files)
    return Section("classifier", "Classifier", tuple(blocks)) if blocks else None


def _card(step: StepFiles) -> list[Block]:
    card = step.json("card.json")
    found = [(k, v, interval(card, k)) for k in SCORES if (v := number(card.get(k))) is not None]
    blocks: list[Block] = []
    if found:
        n = integer(card.get("n_test"))
        on = f"{count(n)} held-out documents" if n is not None else "held-out documents"
        rows = [
            [Cell(_NAMES[k]), x_cell(v, decimal(v)), Cell(f"{low:.3f} to {high:.3f}" if limits else DASH, None, "number")]
            for k, v, limits in found
            for low, high in [limits or (v, v)]
        ]
        plot = Figure(_plot(found), "Whiskers are 95 % intervals.", f"Quality on {on}", wide=False)
        blocks.append(Columns((plot, table("Classifier card", ["Measure", "Value", "95 % interval"], rows))))
    blocks += _curve(card)
    rest = [(k, v) for k, v in card.items() if k not in SCORES and not isinstance(v, (dict, list))]
    if rest:
        blocks.append(
            Details("The whole card", (table("Classifier card", ["Key", "Value"], [[Cell(words(k)), _cell(v)] for k, v in rest]),))
        )
    return blocks


def _curve(card: dict[str, Json]) -> list[Block]:
    """Precision and recall over the threshold, where the card has them."""
    rows = [mapping(r) for r in sequence(card.get("curve"))]
    series = []
    for i, name in enumerate(SCORES[:2]):
        points = [(x, y) for r in rows if (x := number(r.get("threshold"))) is not None and (y := number(r.get(name))) is not None]
        if len(points) > 1:
            series.append(Series(_NAMES[name], i, points))
    if not series:
        return []
    chosen = number(card.get("threshold"))
    caption = "" if chosen is None else f"The card above is for a threshold of {chosen:g}."
    svg = lines(series, "Precision and recall over the threshold", "threshold", height=210, dots=True)
    return [Figure(svg, caption, "Precision and recall over the threshold", tuple((s.index, s.name) for s in series), wide=False)]


def _plot(found: list[tuple[str, float, tuple[float, float] | None]]) -> Markup:
    items = [Dot(_NAMES[k], v, decimal(v), i, *(limits or (None, None))) for i, (k, v, limits) in enumerate(found)]
    label = "Classifier: " + ", ".join(f"{_NAMES[k]} {v:.3f}" for k, v, _ in found)
    low = min([v for _, v, _ in found] + [limits[0] for _, _, limits in found if limits])
    return dots(items, label, "", Scale(0.0 if low < 0.5 else 0.5 if low < 0.8 else 0.8, 1.0))


def interval(card: dict[str, Json], name: str) -> tuple[float, float] | None:
    """A score's 95 % interval: as the card gives it, else Wilson's from the counts of hits and misses, else None."""
    low, high = number(card.get(f"{name}_low")), number(card.get(f"{name}_high"))
    if low is not None and high is not None:
        return low, high
    hits, misses = integer(card.get("tp")), integer(card.get({"precision": "fp", "recall": "fn"}.get(name, "")))
    return wilson(hits, hits + misses) if hits is not None and misses is not None and hits + misses > 0 else None


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    p, z2 = hits / n, z * z
    centre, half = (p + z2 / (2 * n)) / (1 + z2 / n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return centre - half, centre + half


def _cell(value: Json) -> Cell:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return code(DASH if value is None else str(value))
    found = number(value)
    return n_cell(int(found)) if found is not None and found == int(found) else x_cell(found)
