"""The scores of an evaluation as a table for the terminal."""

from __future__ import annotations

import json

from rich.table import Table

from store.artifact import Artifact

# What a terminal has room for; the report has every measure.
SHOWN = ("bits_per_byte", "acc", "correct", "expected_language", "truncated", "n_chars_median")
ARROWS = {"lower": "↓", "higher": "↑", "none": ""}


def scores_table(evaluation: Artifact) -> Table:
    """Metrics x models, value ± standard error; the arrow says which direction is better."""
    scores = json.loads(evaluation.folder.read_bytes("scores.json"))
    table = Table(title="scores (± standard error)", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("metric", overflow="fold")
    for model in scores["models"]:
        table.add_column(model, justify="right", no_wrap=True)
    for metric in scores["metrics"]:
        if metric.get("measure") not in SHOWN:
            continue
        cells = []
        for model in scores["models"]:
            found = metric["values"].get(model)
            cells.append("–" if found is None or found["value"] is None else _cell(found["value"], found.get("stderr")))
        table.add_row(f"{metric['name']} {ARROWS[metric['better']]}", *cells)
    return table


def _cell(value: float, stderr: float | None) -> str:
    digits = 1 if abs(value) >= 100 else 3
    return f"{value:.{digits}f}" + (f" ± {stderr:.{digits}f}" if stderr is not None else "")
