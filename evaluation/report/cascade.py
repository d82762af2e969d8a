"""What the first step of a cascade loses: one sentence, a warning where the recipe asks for one, and the loss over the threshold."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.report.blocks import Block, Figure, Note, Paragraph
from evaluation.report.files import RunFiles, integer, mapping, number, sequence, text
from evaluation.report.plots import Series, lines
from evaluation.report.typography import count, plural
from store.params import Json

Part = Mapping[str, Json]


def cascade_blocks(files: RunFiles) -> list[Block]:
    """Of every step that scored with an encoder after a stage that drops pages."""
    chosen = {k: mapping(v) for s in files.of_kind("select") for k, v in mapping(s.summary.get("recall_lost")).items()}
    out: list[Block] = []
    for step in files.of_kind("scoring"):
        name = text(step.summary.get("classifier"))
        out += blocks_of(name, mapping(step.summary.get("recall")), chosen.get(name, {}))
    return out


def blocks_of(name: str, recall: Part, chosen: Part) -> list[Block]:
    """Of one: ``recall`` has the curves of the step's summary, ``chosen`` is pass 2's row for the recipe; both may be empty."""
    found: list[Block] = [Paragraph(sentence(name, chosen))] if chosen else []
    if warning := text(chosen.get("warning")):
        found.append(Note("warning", warning[:1].upper() + warning[1:] + ".", f"Recall of the cascade before {name}."))
    curves = [(i, title, _points(recall, kind, end)) for i, (title, kind, end) in enumerate(CURVES)]
    series = [Series(title, i, points) for i, title, points in curves if len(points) > 1]
    if series:
        svg = lines(series, f"Recall lost before {name}", f"threshold of {name}", height=210)
        legend = tuple((s.index, s.name) for s in series)
        found.append(Figure(svg, CAPTION, f"What the first step loses of what {name} would take", legend, wide=False))
    return found


CURVES = (
    ("dropped pages", "source", ""), ("upper end of the interval", "source", "_high"), ("lower end", "source", "_low"),
    ("labelled test pages", "labels", ""),
)  # fmt: skip
CAPTION = "Dropped pages: those drawn by id and scored all the same, with their 95 % interval. Labelled test pages: positive ones."


def _points(recall: Part, kind: str, end: str) -> list[tuple[float, float]]:
    rows = [mapping(r) for r in sequence(recall.get(kind))]
    pairs = [(number(r.get("threshold")), number(r.get(f"recall_lost{end}"))) for r in rows]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def sentence(name: str, chosen: Part) -> str:
    """What is lost at the recipe's threshold, in words."""
    source, labels = mapping(chosen.get("source")), mapping(chosen.get("labels"))
    n_dropped, n_checked = (integer(chosen.get(k)) or 0 for k in ("n_dropped", "n_checked"))
    gone_before = f"The stage {text(chosen.get('after'))} dropped {plural(n_dropped, 'page')} before {name}"
    out = f"{gone_before}; {count(n_checked)} of them were drawn and scored all the same."
    if source:
        out += (
            f" At a threshold of {number(source.get('threshold')):g} it loses {_percent(source)} of the pages that {name} would take."
        )
    if labels:
        n, gone = integer(labels.get("n_test")) or 0, integer(labels.get("n_dropped")) or 0
        out += f" Of {plural(n, 'positive test page')} above that threshold it dropped {count(gone)}: {_percent(labels)}."
    return out


def _percent(row: Part) -> str:
    value, low, high = (100 * (number(row.get(f"recall_lost{end}")) or 0.0) for end in ("", "_low", "_high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f} %)"
