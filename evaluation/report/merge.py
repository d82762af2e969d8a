"""The chapter on merging: how many tensors were really interpolated on the sphere, how far apart the parents were."""

from __future__ import annotations

from evaluation.report.blocks import Block, Cell, Figure, Grid, Paragraph, Section, n_cell, table, x_cell
from evaluation.report.files import RunFiles, StepFiles, integer, mapping, number, sequence
from evaluation.report.plots import Bar, bars
from evaluation.report.typography import count, plural, share, words


def merge_section(files: RunFiles) -> Section | None:
    """The chapter, or None if nothing was merged."""
    steps = files.of_kind("merge")
    if not steps:
        return None
    blocks: list[Block] = [Paragraph(s) for step in steps if (s := _sentence(step))]
    blocks.append(_table(steps))
    for step in steps:
        blocks += _groups(step)
    return Section("merge", "Merge", tuple(blocks))


def _sentence(step: StepFiles) -> str:
    n, slerped, lerped = _tensors(step)
    if not n or slerped is None:
        return ""
    method = step.params.get("method")
    if isinstance(method, str) and method != "slerp":
        return f"{step.label} was merged by {method}: no tensor is interpolated on the sphere."
    text = f"In {step.label}, {count(slerped)} of {plural(n, 'tensor')} ({share(slerped, n)}) were really interpolated on the sphere"
    if lerped:
        text += f"; {count(lerped)} are so nearly parallel that SLERP falls back to a straight line there"
    return text + "."


def _tensors(step: StepFiles) -> list[int | None]:
    """Tensors: all, interpolated on the sphere, along a straight line."""
    s = step.summary
    return [integer(s.get("n_tensors")), integer(s.get("n_slerped")), integer(s.get("n_linear", s.get("n_lerped")))]


def _table(steps: list[StepFiles]) -> Block:
    rows = []
    for step in steps:
        median, largest = number(step.summary.get("median_angle")), number(step.summary.get("max_angle"))
        unchanged, distance = integer(step.summary.get("n_unchanged")), number(step.summary.get("relative_distance"))
        rows.append([Cell(step.label), *map(n_cell, [*_tensors(step), unchanged]), *map(_angle, (median, largest, distance))])
    head = ["Merge", "Tensors", "SLERP", "Straight line", "Unchanged", "Median angle (rad)", "Largest angle (rad)", "Distance"]
    note = "Angles are those between the parents' tensors; the distance is that between the parents relative to the first one's norm."
    return table("Merges", head, rows, note)


def _angle(value: float | None) -> Cell:
    return x_cell(value, None if value is None else f"{value:.4f}")


def _groups(step: StepFiles) -> list[Block]:
    """Every object or array of numbers in the summary (distances by group of tensors) as bars; objects of objects as a table."""
    out: list[Block] = []
    figures: list[Figure] = []
    for key, value in step.summary.items():
        entries = mapping(value) or {f"{i}": v for i, v in enumerate(sequence(value))}
        flat = [(k, x) for k, v in entries.items() if (x := number(v)) is not None]
        nested = [(k, mapping(v)) for k, v in entries.items() if mapping(v)]
        if flat and all(x >= 0 for _, x in flat):
            items = [Bar(words(k), x, f"{x:.3g}") for k, x in flat]
            figures.append(Figure(bars(items, f"{words(key)} of {step.label}"), "", f"{step.label}: {words(key)}",
                              wide=False))  # fmt: skip
        if nested:
            columns = list(dict.fromkeys(c for _, row in nested for c, v in row.items() if number(v) is not None))
            rows = [[Cell(words(k)), *(_any(number(row.get(c))) for c in columns)] for k, row in nested]
            out.append(table(f"{step.label}: {words(key)}", ["Group", *(words(c) for c in columns)], rows))
    return [*([Grid(tuple(figures))] if figures else []), *out]


def _any(value: float | None) -> Cell:
    if value is not None and value == int(value):
        return n_cell(int(value))
    return x_cell(value, None if value is None else f"{value:.4g}")
