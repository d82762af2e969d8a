"""The chapter on speed: how much each step did per second, how long it took, with how many workers and how much memory."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.report.blocks import Block, Cell, Details, Figure, Grid, Section, n_cell, right, table, x_cell
from evaluation.report.files import RunFiles, StepFiles, integer, mapping, number
from evaluation.report.plots import Bar, bars
from evaluation.report.typography import DASH, duration, megabytes, short, words

# Rates that may be compared with one another share a figure: tokens are made and packed a hundred times faster than trained on.
FIGURES = (("Documents per second", "documents", ()), ("Tokens per second, prepared", "tokens", ("train",)),
           ("Tokens per second, trained on", "tokens", ("tokens", "pack")))  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """What a step worked through. ``amount`` counts ``unit``; None where the step counts neither documents nor tokens."""

    step: StepFiles
    unit: str
    amount: int | None
    per_s: float | None


def throughput_section(files: RunFiles) -> Section | None:
    """The chapter, or None if no step recorded its time."""
    rates = [_rate(s) for s in files.steps if s.artifact]
    if not any(r.step.elapsed_s is not None for r in rates):
        return None
    blocks: list[Block] = []
    figures = [f for title, unit, without in FIGURES if (f := _figure(rates, title, unit, without))]
    if figures:
        blocks.append(Grid(tuple(figures)))
    blocks.append(_table(rates))
    blocks += [d for r in rates if (d := _stages(r.step))]
    return Section("throughput", "Throughput", tuple(blocks))


def _rate(step: StepFiles) -> Rate:
    tokens = integer(step.summary.get("n_tokens"))
    documents = next((n for n in (step.counts.get("read"), integer(step.summary.get("n_docs"))) if n is not None), None)
    unit, amount = ("tokens", tokens) if tokens is not None else ("documents", documents)
    seconds = step.elapsed_s
    measured = number(step.provenance.get("tokens_per_s")) if unit == "tokens" else None
    per_s = measured if measured is not None else amount / seconds if amount and seconds else None
    return Rate(step, unit, amount, per_s)


def _figure(rates: list[Rate], title: str, unit: str, without: tuple[str, ...]) -> Figure | None:
    found = [(r, r.per_s) for r in rates if r.unit == unit and r.per_s is not None and r.step.record.kind not in without]
    if not found:
        return None
    items = [Bar(r.step.name, v, f"{short(v)}/s", "cached" if r.step.record.cached else "") for r, v in found]
    return Figure(bars(items, f"{title}, by step"), "", title, wide=False)


def _table(rates: list[Rate]) -> Block:
    rows = []
    for r in rates:
        p, n_workers = r.step.provenance, r.step.provenance.get("n_workers", r.step.summary.get("n_processes"))
        rows.append([
            Cell(r.step.name), n_cell(r.amount), Cell(r.unit if r.amount is not None else DASH),
            x_cell(r.per_s, None if r.per_s is None else short(r.per_s)), x_cell(r.step.elapsed_s, duration(r.step.elapsed_s)),
            n_cell(integer(n_workers)), x_cell(number(p.get("peak_rss_mb")), megabytes(number(p.get("peak_rss_mb")))),
            Cell("from cache" if r.step.record.cached else "made in this run"),
        ])  # fmt: skip
    head = ["Step", "Amount", "Unit", "Per second", "Wall time", "Workers", "Peak memory", "Origin"]
    return table("Time and memory, by step", head, rows, "For a step from cache: of the run that made it.")


def _stages(step: StepFiles) -> Details | None:
    busy = [(k, v) for k, x in mapping(step.provenance.get("busy_s")).items() if (v := number(x)) is not None and not k.endswith("_mb")]
    if len(busy) < 2:
        return None
    total = sum(v for _, v in busy)
    rows = [
        [Cell(words(k)), x_cell(v, duration(v)), right(f"{100 * v / total:.1f}\u202f%" if total else DASH)]
        for k, v in sorted(busy, key=lambda item: (-item[1], item[0]))
    ]
    return Details(
        f"Where the workers of {step.name} spent their time", (table("Busy seconds, all workers", ["Part", "Time", "Share"], rows),)
    )
