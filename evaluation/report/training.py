"""The chapter on training: loss, learning rate, and what a model knew of each held-out set on the way, so that forgetting shows."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.report.blocks import Block, Cell, Figure, Grid, Note, Section, n_cell, table, x_cell
from evaluation.report.files import RunFiles, StepFiles, integer, number, text
from evaluation.report.plots import Series, lines
from evaluation.report.typography import capital, count, decimal, duration, listing, plural, scientific, short, signed_percent, words

Points = list[tuple[float, float]]
COLUMNS = ("loss", "lr", "grad_norm", "tokens")
SPEED = "tokens_per_s"


@dataclass(frozen=True)
class Trained:
    """A training step's curves over optimiser steps.

    Attributes:
        columns: metric -> points (step, value); values that are not finite are left out and counted in ``n_bad``. Tokens per second
            are from the provenance: how a run went, which no two runs share.
        heldout: set -> points (step, bits per byte).
        n_skipped: steps that were not taken, because of a spike.
    """

    step: StepFiles
    index: int
    columns: dict[str, Points]
    heldout: dict[str, Points]
    n_bad: int
    n_skipped: int


def training_section(files: RunFiles, colours: dict[str, int]) -> Section | None:
    """The chapter, or None if no training has finished. ``colours`` gives each model its colour throughout the page."""
    runs = [_read(s, colours.setdefault(s.label, len(colours))) for s in files.of_kind("train")]
    if not runs:
        return None
    blocks: list[Block] = []
    bad = [r for r in runs if r.n_bad]
    if bad:
        names = listing([f"{r.step.label} ({plural(r.n_bad, 'value')})" for r in bad])
        blocks.append(Note("error", f"Some losses or gradient norms are not finite: {names}. The curves leave them out.", "Not finite"))
    blocks += _curves(runs)
    blocks += _heldout(runs)
    blocks.append(_table(runs))
    return Section("training", "Training", tuple(blocks))


def _read(step: StepFiles, index: int) -> Trained:
    columns: dict[str, Points] = {c: [] for c in COLUMNS}
    heldout: dict[str, Points] = {}
    n_bad = n_skipped = 0
    for line in step.lines("metrics.jsonl"):
        at = number(line.get("step"))
        n_skipped += line.get("skipped") is True
        for column in COLUMNS if at is not None else ():
            value = number(line.get(column))
            if at is not None and value is not None:
                columns[column].append((at, value))
            n_bad += value is None and isinstance(line.get(column), float)
    for line in step.lines("heldout.jsonl"):
        at, value, name = number(line.get("step")), number(line.get("bits_per_byte")), text(line.get("name"))
        if at is not None and value is not None:
            heldout.setdefault(name, []).append((at, value))
    columns[SPEED] = _speed(step.provenance.get("speed_curve"))
    return Trained(step, index, columns, heldout, n_bad, n_skipped)


def _speed(curve: object) -> Points:
    pairs = [p for p in curve if isinstance(p, list) and len(p) == 2] if isinstance(curve, list) else []
    return [(x, y) for a, b in pairs if (x := number(a)) is not None and (y := number(b)) is not None]


def _legend(runs: list[Trained]) -> tuple[tuple[int, str], ...]:
    return tuple((r.index, r.step.label) for r in runs)


def _plot(runs: list[Trained], column: str, title: str, height: int, wide: bool) -> Figure | None:
    series = [Series(r.step.label, r.index, r.columns[column]) for r in runs if r.columns[column]]
    if not series:
        return None
    ends = "; ".join(f"{s.name} from {_shown(column, s.points[0][1])} to {_shown(column, s.points[-1][1])}" for s in series)
    svg = lines(series, f"{title} over steps: {ends}", "step", height=height, n_points={"loss": 160, "grad_norm": 60}.get(column, 240))
    return Figure(svg, capital(ends) + ".", title, _legend(runs) if wide and len(series) > 1 else (), wide=wide)


def _shown(column: str, value: float) -> str:
    return scientific(value) if column == "lr" else count(round(value)) if column == SPEED else decimal(value)


def _curves(runs: list[Trained]) -> list[Block]:
    loss = _plot(runs, "loss", "Training loss", 250, True)
    titles = (("lr", "Learning rate"), ("grad_norm", "Gradient norm"), (SPEED, "Tokens per second"))
    small = [f for c, t in titles if (f := _plot(runs, c, t, 150, False))]
    return [*([loss] if loss else []), *([Grid(tuple(small))] if small else [])]


def _heldout(runs: list[Trained]) -> list[Block]:
    """One panel a model, one curve a set, relative to where it started: what goes below zero is learnt, what rises is forgotten."""
    names = list(dict.fromkeys(n for r in runs for n in r.heldout))
    figures = []
    for r in runs:
        series = [Series(words(n), i, relative(r.heldout[n])) for i, n in enumerate(names) if len(r.heldout.get(n, [])) > 1]
        if series:
            notes = [f"{words(n)} {decimal(p[0][1])} → {decimal(p[-1][1])} ({change(p)})" for n in names if (p := r.heldout.get(n, []))]
            label = f"Held-out bits per byte of {r.step.label}, change since the start in per cent: " + "; ".join(notes)
            svg = lines(series, label, "step", height=210, dots=True, reference=0.0, y_title="% since the start")
            figures.append(Figure(svg, "; ".join(notes) + ".", r.step.label, wide=False))
    legend = tuple((i, words(n)) for i, n in enumerate(names))
    return [Grid(tuple(figures), "Held-out bits per byte: below zero is learnt, above zero is forgotten", legend)] if figures else []


def relative(points: Points) -> Points:
    """Per cent of change since the first value."""
    first = points[0][1]
    return [(x, 100 * (y / first - 1)) for x, y in points] if first else points


def change(points: Points) -> str:
    """How far a curve has come from its first value."""
    first, last = points[0][1], points[-1][1]
    return signed_percent(last / first - 1) if first else "–"


def _table(runs: list[Trained]) -> Block:
    rows = []
    measured = any(number(r.step.provenance.get("mfu")) is not None for r in runs)
    skipped = any(r.n_skipped for r in runs)
    for r in runs:
        s, p = r.step.summary, r.step.provenance
        rate, final, used = number(p.get(SPEED)), number(s.get("final_loss")), number(p.get("mfu"))
        sizes = [n_cell(integer(s.get(k))) for k in ("n_parameters", "n_steps", "n_tokens")]
        rows.append([
            Cell(r.step.label), *sizes,
            x_cell(final, None if final is None else decimal(final)), x_cell(rate, None if rate is None else count(round(rate))),
            x_cell(r.step.elapsed_s, duration(r.step.elapsed_s)),
            *([x_cell(used, None if used is None else f"{100 * used:.1f}\u202f%")] if measured else []),
            *([n_cell(r.n_skipped)] if skipped else []),
        ])  # fmt: skip
    head = ["Model", "Parameters", "Steps", "Tokens", "Final loss", "Tokens per second", "Wall time"]
    return table("Trained models", [*head, *(["MFU"] if measured else []), *(["Spikes not taken"] if skipped else [])], rows)


def trained_words(files: RunFiles) -> str:
    """A clause for the verdict: which models were trained on how much."""
    steps = files.of_kind("train")
    tokens = sum(integer(s.summary.get("n_tokens")) or 0 for s in steps)
    what = f"trained {steps[0].label}" if len(steps) == 1 else f"trained {len(steps)} models"
    return what + (f" on {short(tokens)} tokens" if tokens else "")
