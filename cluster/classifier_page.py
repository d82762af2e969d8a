"""The page about a classifier: quality, reliability, precision and recall, thresholds and what they keep, borderline pages.

Made from the artifact alone: the card, the scores of held-out pages and of drawn pages of the source. It shows ids; texts only where
the caller gives them, masked and shortened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cluster.labelling_report import labelling_section
from evaluation.report import blocks
from evaluation.report.blocks import Block, Cell, Figure, Note, Paragraph, Section, Tile, n_cell, right, table, x_cell
from evaluation.report.cascade import blocks_of
from evaluation.report.mask import excerpt, mask
from evaluation.report.page import Sheet, render_sheet
from evaluation.report.plots import Dot, Series, dots, histogram, lines
from evaluation.report.svg import Scale
from evaluation.report.typography import count, decimal, plural
from store.params import Json

Card = Mapping[str, Json]
NAMES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "average_precision": "Average precision", "accuracy": "Accuracy"}
SHOWN_THRESHOLDS = 9


@dataclass(frozen=True)
class Borderline:
    """A page whose score is near the threshold. ``label`` is what people or a model said, None for a page nobody labelled."""

    id: str
    score: float
    label: str | None
    text: str | None = None


@dataclass(frozen=True)
class Cascade:
    """What a run says of the first step in front of this classifier: curves by threshold, and the recipe's threshold."""

    name: str
    recall: Card
    chosen: Card


def render(
    name: str, card: Card, borderline: Sequence[Borderline], labelling: Card | None = None, cascade: Cascade | None = None
) -> str:
    """The page; the same artifacts give the same page. ``labelling``: the summary of the labels it learnt from."""
    chapters = (_quality, _classes, _reliability, _curve, _thresholds, _search)
    labels = labelling_section(labelling) if labelling else None
    parts = [*(chapter(card) for chapter in chapters), _cascade(cascade), labels, _borderline(borderline)]
    return render_sheet(Sheet(
        "classifier", name, verdict(card), _meta(card), _tiles(card), tuple(_notes(card)), tuple(p for p in parts if p is not None),
        "Made from the classifier's artifact. Intervals are 95 %, of groups of held-out pages drawn with replacement. "
        "Texts are masked and shortened.",
    ))  # fmt: skip


def number(card: Card, key: str) -> float | None:
    """A number of a card, or None."""
    value = card.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def section_of(card: Card, key: str) -> dict[str, Json]:
    """A part of a card; empty if it has none."""
    value = card.get(key)
    return value if isinstance(value, dict) else {}


def rows_of(card: Card, key: str) -> list[dict[str, Json]]:
    """Rows of a card; none if it has none."""
    value = card.get(key)
    return [r for r in value if isinstance(r, dict)] if isinstance(value, list) else []


def limits(card: Card, key: str) -> str:
    """The interval of a figure in words."""
    low, high = number(card, f"{key}_low"), number(card, f"{key}_high")
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def verdict(card: Card) -> str:
    """One sentence: what it tells apart, how well, on how many pages."""
    names = cast(list[str], card["classes"])
    f1 = number(card, "f1") or 0.0
    what = f"Tells {names[0]} pages from others" if "positive" in card else f"Tells {len(names)} classes apart"
    mean = "an F1" if "positive" in card else "a mean F1"
    between = f" ({limits(card, 'f1')})" if limits(card, "f1") else ""
    return f"{what} with {mean} of {f1:.3f}{between} on {plural(int(number(card, 'n_test') or 0), 'held-out page')}."


def _meta(card: Card) -> str:
    part = section_of(card, "split")
    kinds = {"fasttext": "fastText", "embedding": "logistic regression on a frozen encoder", "encoder": "a fine-tuned encoder"}
    applied = " · calibrated scores" if section_of(card, "calibration").get("applied") else ""
    sizes = " / ".join(count(int(number(part, f"n_{side}") or 0)) for side in ("train", "validation", "test"))
    return f"{kinds.get(str(card.get('kind')), str(card.get('kind')))} · {sizes} pages to train / validate / test{applied}"


def _tiles(card: Card) -> tuple[Tile, ...]:
    keys = [k for k in ("precision", "recall", "f1", "average_precision", "accuracy") if number(card, k) is not None]
    at = number(card, "threshold")
    own = "" if at is None else f" at {at:g}"
    titles = {k: NAMES[k] + (own if k in ("precision", "recall", "f1") else "") for k in keys}
    out = [Tile(titles[k], f"{number(card, k) or 0:.3f}", limits(card, k)) for k in keys[:4]]
    shown = _shown_calibration(card)
    if (error := number(shown, "ece")) is not None:
        out.append(Tile("expected calibration error", f"{error:.3f}", limits(shown, "ece")))
    return tuple(out)


def _shown_calibration(card: Card) -> dict[str, Json]:
    """The diagram of the scores that are written."""
    part = section_of(card, "calibration")
    return section_of(part, "calibrated") if part.get("applied") and "calibrated" in part else section_of(part, "raw")


def _notes(card: Card) -> list[Note]:
    said = card.get("limits")
    return [Note("info", " ".join(str(s) for s in said), "What these figures do not say.")] if isinstance(said, list) else []


def _quality(card: Card) -> Section:
    found = [(k, v) for k in NAMES if (v := number(card, k)) is not None]
    rows = [[Cell(NAMES[k]), x_cell(v, decimal(v)), right(limits(card, k))] for k, v in found]
    items = [Dot(NAMES[k], v, decimal(v), i, number(card, f"{k}_low"), number(card, f"{k}_high")) for i, (k, v) in enumerate(found)]
    low = min([v for _, v in found] + [x for k, _ in found if (x := number(card, f"{k}_low")) is not None])
    plot = dots(items, "Quality on held-out pages", "", Scale(0.0 if low < 0.5 else 0.5 if low < 0.8 else 0.8, 1.0))
    both = (Figure(plot, "Whiskers are 95 % intervals.", "Quality on held-out pages", wide=False),
            table("Quality", ["Measure", "Value", "95 % interval"], rows))  # fmt: skip
    return Section("quality", "Quality", (blocks.Columns(both),))


def _classes(card: Card) -> Section | None:
    each = rows_of(card, "per_class")
    if not each:
        return None
    head = ["Class", "Pages", "Precision", "Recall", "F1", "F1, 95 % interval"]
    rows = [
        [Cell(str(c["label"])), n_cell(int(number(c, "n_test") or 0)), *(x_cell(number(c, k)) for k in ("precision", "recall", "f1")),
         right(limits(c, "f1"))]
        for c in each
    ]  # fmt: skip
    names = [str(c["label"]) for c in each]
    confusion = cast(list[list[int]], card.get("confusion") or [])
    said = [[Cell(name), *(n_cell(n) for n in row)] for name, row in zip(names, confusion, strict=False)]
    both = (table("By class", head, rows), table("Confusions", ["Labelled \\ said", *names], said))
    return Section("classes", "Classes", both)


def _reliability(card: Card) -> Section | None:
    part = section_of(card, "calibration")
    if not part:
        return None
    figures, series = [], [("raw", "as the model gives them"), ("calibrated", "calibrated")]
    for index, (key, words) in enumerate(series):
        bins = rows_of(section_of(part, key), "bins")
        if bins:
            drawn = (("observed", index), ("observed_low", 3), ("observed_high", 3))
            curves = [Series(k, c, [(number(b, "predicted") or 0.0, number(b, k) or 0.0) for b in bins]) for k, c in drawn]
            perfect = Series("perfect", 2, [(0.0, 0.0), (1.0, 1.0)])
            plot = lines(
                [perfect, *curves], f"Reliability of scores {words}", "mean score", height=240, y_title="share of positive pages"
            )
            found = section_of(part, key)
            error = f"Expected calibration error {number(found, 'ece') or 0:.3f} ({limits(found, 'ece')})"
            caption = f"{error}, log loss {found.get('log_loss')}."
            legend = ((index, "observed"), (3, "95 % interval"), (2, "perfect"))
            figures.append(Figure(plot, caption, f"Scores {words}", legend, wide=False))
    chosen = section_of(part, "chosen").get("method")
    tried = section_of(part, "held_out_log_loss")
    text = (
        f"Held-out log loss on validation pages chose “{chosen}”"
        + (" (" + ", ".join(f"{k} {v}" for k, v in tried.items()) + ")" if tried else "")
        + (". Scores are written calibrated." if part.get("applied") else ". Scores are written as the model gives them.")
    )
    exact = [_bins(words, rows) for key, words in series if (rows := rows_of(section_of(part, key), "bins"))]
    shown = (Paragraph(text), blocks.Grid(tuple(figures)), blocks.Details("The bins", tuple(exact)))
    return Section("reliability", "Can scores be read as probabilities?", shown)


def _bins(words: str, rows: Sequence[Card]) -> blocks.Table:
    """The bins of a reliability diagram."""
    cells = [
        [x_cell(number(r, "predicted")), x_cell(number(r, "observed")), right(limits(r, "observed")), n_cell(int(number(r, "n") or 0))]
        for r in rows
    ]  # fmt: skip
    return table(f"Scores {words}", ["Mean score", "Positive", "95 % interval", "Pages"], cells)


def _curve(card: Card) -> Section | None:
    points = cast(list[list[float]], card.get("precision_recall") or [])
    if len(points) < 2:
        return None
    curve = [(r, p) for r, p in points]
    plot = lines([Series("precision", 0, curve)], "Precision over recall", "recall", height=240, n_points=400, y_title="precision")
    over = []
    for index, key in enumerate(("precision", "recall")):
        over.append(Series(NAMES[key], index, [(number(r, "threshold") or 0, number(r, key) or 0) for r in rows_of(card, "curve")]))
    by = lines(over, "Precision and recall over the threshold", "threshold", height=240, dots=True)
    legend = tuple((s.index, s.name) for s in over)
    caption = f"Average precision {number(card, 'average_precision') or 0:.3f} ({limits(card, 'average_precision')})."
    figures = (Figure(plot, caption, "Precision over recall", wide=False),
               Figure(by, "", "Over the threshold", legend, wide=False))  # fmt: skip
    return Section("curve", "Precision and recall", (blocks.Grid(figures),))


def _thresholds(card: Card) -> Section | None:
    found: list[Block] = []
    target = section_of(card, "target")
    if target:
        found.append(Paragraph(target_sentence(target)))
    sizes = section_of(card, "sizes")
    if sizes:
        counts = cast(list[int], sizes.get("histogram") or [])
        title = f"Scores of {count(int(number(sizes, 'n_sample_pages') or 0))} pages drawn from the source"
        chosen = number(target, "threshold")
        at = number(card, "threshold") if chosen is None else chosen
        figure = histogram([i / len(counts) for i in range(len(counts) + 1)], counts, title, "score", at)
        found += [Figure(figure, "", title), _size_table(card, sizes)]
    return Section("thresholds", "Which threshold, and what it keeps", tuple(found)) if found else None


def target_sentence(target: Card) -> str:
    """What was wanted, the threshold that gives it, and what it gives on test pages."""
    wanted = f"a {target['wanted']} of {target['value']}"
    if target.get("threshold") is None:
        return f"For {wanted} there is no threshold: {target.get('note', 'none reaches it')}."
    without = number(target, "share_of_draws_without") or 0.0
    doubt = f" In {100 * without:.0f} % of the draws no threshold reaches it." if without > 0.005 else ""
    measured = ", ".join(f"{k} {number(target, f'test_{k}') or 0:.3f} ({limits(target, f'test_{k}')})" for k in ("precision", "recall"))
    return (
        f"For {wanted} take the threshold {target['threshold']} ({limits(target, 'threshold')}), chosen on validation pages. "
        f"On test pages it gives {measured}.{doubt}"
    )


def _size_table(card: Card, sizes: Card) -> blocks.Table:
    """Thresholds evenly spaced, the card's and the chosen one, with pages of the source and quality on test pages."""
    quality = {round(number(r, "threshold") or 0, 2): r for r in rows_of(card, "curve")}
    rows = rows_of(sizes, "at")
    target, whole = section_of(card, "target"), number(sizes, "n_sample_pages") == number(sizes, "n_source_pages")
    chosen = {k: number(target, f"test_{k}") for k in ("precision", "recall")} | {"threshold": number(target, "threshold")}
    wanted = {number(card, "threshold"), chosen["threshold"]}
    kept = [r for i, r in enumerate(rows) if i % max(1, len(rows) // SHOWN_THRESHOLDS) == 0 or number(r, "threshold") in wanted]
    cells = []
    for row in kept:
        at = number(row, "threshold") or 0.0
        test = chosen if at == chosen["threshold"] else quality.get(round(at, 2)) if abs(at - round(at, 2)) < 1e-9 else None
        low, high = (count(int(number(row, f"pages_{end}") or 0)) for end in ("low", "high"))
        between = "all were scored" if whole else f"{low} to {high}"
        cells.append([
            x_cell(at, f"{at:g}"), n_cell(int(number(row, "pages") or 0)), right(between), n_cell(int(number(row, "characters") or 0)),
            *(x_cell(number(test, k) if test else None) for k in ("precision", "recall")),
        ])  # fmt: skip
    share = (number(sizes, "n_sample_passed") or 0) / max(1.0, number(sizes, "n_sample_pages") or 0)
    source = f"a source of {count(int(number(sizes, 'n_source_pages') or 0))}"
    note = f"Pages of {source}, of which the language stage keeps {100 * share:.1f} %; before other filters and with duplicates."
    head = ["Threshold", "Pages", "95 % interval", "Characters", "Precision", "Recall"]
    return table("What each threshold keeps", head, cells, note)


def _search(card: Card) -> Section | None:
    trials = rows_of(section_of(card, "search"), "trials")
    if not trials:
        return None
    keys = ["trial", "n_train", "score", *(k for k in trials[0] if k not in ("trial", "n_train", "score"))]
    order = sorted(trials, key=lambda r: (-(number(r, "n_train") or 0), -(number(r, "score") or 0)))
    rows = [[right(str(r.get(k))) for k in keys] for r in order]
    text = "Settings judged on validation pages: all on a third of the training pages, the best third of them on all."
    return Section("search", "The search", (Paragraph(text), table("Trials", [k.replace("_", " ") for k in keys], rows)))


def _cascade(cascade: Cascade | None) -> Section | None:
    found = blocks_of(cascade.name, cascade.recall, cascade.chosen) if cascade is not None else []
    return Section("cascade", "What the first step loses", tuple(found)) if found else None


def _borderline(pages: Sequence[Borderline]) -> Section | None:
    if not pages:
        return None
    lead = Paragraph("Pages whose scores are nearest to the threshold: the ones to read, and to label next.")
    if any(p.text is not None for p in pages):
        items = [blocks.Example(excerpt(p.text or ""), _facts(p), None, mask(p.id)) for p in pages]
        return Section("borderline", "Borderline pages", (lead, blocks.Examples("Nearest to the threshold", tuple(items))))
    rows = [[blocks.code(mask(p.id)), x_cell(p.score, f"{p.score:.3f}"), Cell(p.label or "not labelled")] for p in pages]
    return Section("borderline", "Borderline pages", (lead, table("Nearest to the threshold", ["Page", "Score", "Label"], rows)))


def _facts(page: Borderline) -> str:
    return f"score {page.score:.3f} · {page.label or 'not labelled'}"
