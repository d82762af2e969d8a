"""The chapter on documents: where each one went, by which rule, how the scores lie, what was masked, how many were duplicates."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.report.blocks import Block, Cell, Columns, Details, Figure, Grid, Paragraph, Section, Table, n_cell, right, table
from evaluation.report.files import RunFiles, StepFiles, integer, mapping, number, sequence
from evaluation.report.ledger import Ledger, read_ledger
from evaluation.report.plots import Bar, bars, histogram, waterfall
from evaluation.report.typography import count, plural, share, words
from store.params import Json

THRESHOLD_KEYS = ("threshold", "min_score", "minimum", "min", "at_least")
DUPLICATE_FACTS = {
    "n_docs": "documents compared",
    "n_clusters": "clusters of two or more",
    "n_duplicates": "duplicates beside a survivor",
    "largest_cluster": "largest cluster",
}


def documents_section(files: RunFiles) -> Section | None:
    """The chapter, or None if no pass over documents has finished."""
    ledger, source = read_ledger(files), _source(files)
    duplicates = [b for s in files.of_kind("dedup") for b in _duplicates(s)]
    if ledger is None:
        blocks = [*source, *duplicates]
        return Section("documents", "Documents", tuple(blocks)) if blocks else None
    blocks = [
        *(
            []
            if files.of_kind("select")
            else [Paragraph("Selection has not finished: the documents kept are those of the filtering pass.")]
        ),
        *_flow(ledger),
        *_reasons(ledger),
        *_histograms(files),
        *duplicates,
        *source,
    ]
    return Section("documents", "Documents", tuple(blocks))


def _flow(ledger: Ledger) -> Iterator[Block]:
    steps = ledger.steps()
    label = (
        f"Waterfall: of {plural(ledger.read, 'document')} read, {count(ledger.n_dropped)} were dropped and {count(ledger.n_kept)} kept"
    )
    caption = "Each bar starts where the one above ended: what was read, what each rule took away, and the sets that remain."
    yield Figure(waterfall(steps, ledger.read, label), caption, "From read to kept")
    yield from ledger.equations()
    yield _small_tables(ledger)


def _reasons(ledger: Ledger) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for stage in dict.fromkeys(s for s, _ in ledger.dropped):
        found = [(r, n) for (s, r), n in ledger.dropped.items() if s == stage]
        rows += [[Cell(words(stage)), Cell(words(r)), n_cell(n), right(share(n, ledger.read))] for r, n in found]
    if rows:
        yield table("Dropped, by stage and reason", ["Stage", "Reason", "Documents", "Share of read"], rows)


def _small_tables(ledger: Ledger) -> Columns:
    kept = [[Cell(name), n_cell(n), right(share(n, ledger.read))] for name, n in ledger.kept.items()]
    out = [table("Kept, by set", ["Set", "Documents", "Share of read"], kept)]
    if ledger.quarantined:
        rows = [[Cell(words(r)), n_cell(n), right(share(n, ledger.read))] for r, n in ledger.quarantined.items()]
        out.append(table("Quarantined", ["Reason", "Documents", "Share of read"], rows, "Could not be judged at all."))
    if ledger.masked:
        rows = [[Cell(words(kind)), n_cell(n)] for kind, n in ledger.masked.items()]
        out.append(table("Personal data masked", ["Kind", "Occurrences"], rows))
    return Columns(tuple(out))


def _histograms(files: RunFiles) -> Iterator[Grid]:
    figures = []
    for step in files.of_kind("documents", "select"):
        for column, value in mapping(step.summary.get("histograms")).items():
            edges = [number(e) for e in sequence(mapping(value).get("edges"))]
            counts = [number(c) for c in sequence(mapping(value).get("counts"))]
            limits, heights = [e for e in edges if e is not None], [c for c in counts if c is not None]
            if len(limits) == len(edges) == len(heights) + 1 == len(counts) + 1 and len(limits) > 1 and limits == sorted(limits):
                figures.append(_histogram(files, step, column, limits, heights, mapping(value)))
    if figures:
        yield Grid(tuple(figures), "Distribution of scores")


def _histogram(
    files: RunFiles, step: StepFiles, column: str, edges: list[float], counts: list[float], value: dict[str, Json]
) -> Figure:
    threshold = number(value.get("threshold"))
    if threshold is None:
        threshold = _threshold(files, column)
    label = f"Histogram of {words(column)} over {plural(int(sum(counts)), 'document')}"
    note = "" if threshold is None else f"; those left of {threshold:g} do not pass"
    caption = f"{plural(int(sum(counts)), 'document')} in step {step.name}{note}."
    return Figure(histogram(edges, counts, label, words(column), threshold), caption, words(column), wide=False)


def _threshold(files: RunFiles, column: str) -> float | None:
    """The limit some stage sets on a column: from the steps' parameters, the recipe, or the classifier's card."""
    steps = files.of_kind("documents", "select")
    for root in [*(s.params for s in steps), mapping(files.record.recipe.get("corpus"))]:
        for node in _objects(root):
            if column in _columns(node):
                for key in THRESHOLD_KEYS:
                    if (found := number(node.get(key))) is not None:
                        return found
    for step in files.of_kind("classifier"):
        if column.startswith("score"):
            return number(step.json("card.json").get("threshold"))
    return None


def _columns(node: dict[str, Json]) -> set[str]:
    """Columns that a stage's parameters may speak of: named outright, or by the stage's or the score's name."""
    names = {v for v in node.values() if isinstance(v, str)}
    return names | {f"score_{n}" for n in names} | {f"{n}_score" for n in names}


def _objects(value: Json) -> Iterator[dict[str, Json]]:
    if isinstance(value, dict):
        yield value
        for v in value.values():
            yield from _objects(v)
    elif isinstance(value, list):
        for v in value:
            yield from _objects(v)


def _duplicates(step: StepFiles) -> Iterator[Block]:
    summary = step.summary
    rows = [[Cell(label), n_cell(n)] for key, label in DUPLICATE_FACTS.items() if (n := integer(summary.get(key))) is not None]
    if not rows:
        return
    out: list[Table | Figure] = [table("Duplicates", ["", "Count"], rows)]
    sizes = [(k, n) for k, v in mapping(summary.get("cluster_sizes", summary.get("sizes"))).items() if (n := integer(v)) is not None]
    if sizes:
        sizes.sort(key=lambda item: (integer_prefix(item[0]), item[0]))
        total = sum(n for _, n in sizes)
        items = [Bar(f"{words(size)}".replace("-", "–"), n, count(n), share(n, total)) for size, n in sizes]
        out.append(
            Figure(
                bars(items, f"Sizes of {plural(total, 'cluster')} of duplicates"), "", "Clusters, by number of documents", wide=False
            )
        )
    yield Columns(tuple(out))


def integer_prefix(label: str) -> int:
    """The number a label such as "10-99" begins with."""
    digits = ""
    for c in label:
        if not c.isdigit():
            break
        digits += c
    return int(digits or 0)


def _source(files: RunFiles) -> Iterator[Details]:
    for step in files.of_kind("sample"):
        rows = [[Cell(words(k)), n_cell(n)] for k, n in step.counts.items()]
        if rows:
            yield Details("The built-in sample, as counted by its writer", (table("Documents written", ["", "Documents"], rows),))
