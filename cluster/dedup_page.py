"""The page about the clusters of a run: how alike what was dropped is, how much was found, clusters by size, pairs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from corpus.dedup.quality import BINS, DUPLICATE, UNLIKE, Cluster, Pair, Quality
from evaluation.report import blocks
from evaluation.report.blocks import Block, Cell, Comparison, Example, Figure, Paragraph, Section, Tile, n_cell, right, table, x_cell
from evaluation.report.differences import sides
from evaluation.report.mask import excerpt, host, mask
from evaluation.report.page import Sheet, render_sheet
from evaluation.report.plots import Bar, bars, histogram
from evaluation.report.typography import THIN, count, plural, share
from evaluation.statistics import wilson

N_PAIRS_SHOWN = 21
STEPS = 40
ENOUGH = 20
"""Pairs below which a share says nothing."""


def render(name: str, quality: Quality, min_jaccard: float | None) -> str:
    """The page; the same clusters give the same page."""
    sections = [_sizes(quality), _precision(quality), _recall(quality), _displaced(quality), _largest(quality),
                _pairs(quality)]  # fmt: skip
    setting = f"{quality.buckets} bands of {quality.rows} minima over {quality.grams}"
    meta = setting + (f" · pairs confirmed at a similarity of {min_jaccard:g}" if min_jaccard is not None else " · not verified")
    return render_sheet(Sheet(
        "quality of deduplication", name, verdict(quality), meta, _tiles(quality), tuple(_notes(quality)),
        tuple(s for s in sections if s is not None),
        "Made from the clusters, the signatures and a sample of the pages. Intervals are 95 %. Texts are masked and shortened.",
    ))  # fmt: skip


def verdict(quality: Quality) -> str:
    """One sentence: how many were dropped, how many of them were copies, how much was found."""
    if not quality.pairs:
        return f"Of {plural(quality.n_docs, 'document')} none is a duplicate that can be looked at."
    dropped = f"{count(quality.n_duplicates)} of {plural(quality.n_docs, 'document')} ({share(quality.n_duplicates, quality.n_docs)})"
    precise = f"{percent(quality.share(DUPLICATE))} of them are at least {DUPLICATE:g} alike to the page that stays"
    found = quality.found(DUPLICATE)
    return f"{dropped} are duplicates; {precise}" + (
        "." if found is None else f", and an estimated {percent(found)} of all such pairs share a band."
    )


def percent(value: float | None) -> str:
    """A share; one below all does not read as all."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}{THIN}%" if value == 1 or value < 0.9995 else f">{THIN}99.9{THIN}%"


def _tiles(quality: Quality) -> tuple[Tile, ...]:
    out = [
        Tile("documents compared", count(quality.n_docs)),
        Tile("duplicates beside a survivor", count(quality.n_duplicates), share(quality.n_duplicates, quality.n_docs)),
        Tile("clusters of two or more", count(quality.n_clusters)),
    ]
    if quality.pairs:
        low, high = wilson(sum(p.jaccard >= DUPLICATE for p in quality.pairs), len(quality.pairs))
        out.append(Tile(f"of what is dropped is {DUPLICATE:g} alike or more", percent(quality.share(DUPLICATE)),
                        f"{100 * low:.1f} to {100 * high:.1f}"))  # fmt: skip
        out.append(Tile(f"of pairs {DUPLICATE:g} alike or more share a band", percent(quality.found(DUPLICATE)), "estimated"))
    return tuple(out)


def _notes(quality: Quality) -> Iterator[blocks.Note]:
    if quality.n_elsewhere:
        text = f"{plural(quality.n_elsewhere, 'document')} lose to a page of an earlier corpus: counted, and not in the sample."
        yield blocks.Note("info", text)
    if quality.pairs and quality.share(0, UNLIKE) > 0.05:
        text = (
            f"{percent(quality.share(0, UNLIKE))} of what is dropped is less than {UNLIKE:g} alike to the page that stays. "
            "More minima per band (hashes_per_bucket), or comparing what the bands propose, lets go of such pairs."
        )
        yield blocks.Note("warning", text, "Unlike pages are dropped.")


def _sizes(quality: Quality) -> Section | None:
    if not quality.sizes:
        return None
    names = [count(low) if low == high else f"{count(low)}–{count(high)}" for low, high, _, _ in quality.sizes]
    sizes = list(zip(names, quality.sizes, strict=True))
    figure = bars([Bar(name, n, count(n)) for name, (_, _, n, _) in sizes], f"Sizes of {plural(quality.n_clusters, 'cluster')}")
    rows = [[Cell(name), n_cell(n), n_cell(docs), right(share(docs, quality.n_docs))] for name, (_, _, n, docs) in sizes]
    head = ["Documents in the cluster", "Clusters", "Documents", "Share of all"]
    both = (table("Clusters by size", head, rows), Figure(figure, "", "Clusters, by number of documents", wide=False))
    return Section("sizes", "Clusters by size", (blocks.Columns(both),))


def _precision(quality: Quality) -> Section | None:
    pairs = quality.pairs
    if not pairs:
        return None
    heights = [0.0] * STEPS
    for pair in pairs:
        heights[min(STEPS - 1, int(pair.jaccard * STEPS))] += 1
    rows = []
    for low, high in zip(BINS, (*BINS[1:], 2.0), strict=True):
        mine = [p for p in pairs if low <= p.jaccard < high]
        numbers = sum(p.differs_in_numbers for p in mine)
        rows.append([Cell(interval(low, high)), n_cell(len(mine)), right(share(len(mine), len(pairs))), n_cell(numbers)])
    title = "Similarity of dropped documents to the page that stays"
    label = f"Histogram of the similarity of {plural(len(pairs), 'pair')}"
    return Section("precision", "How alike is what was dropped?", (
        Paragraph(
            f"{plural(len(pairs), 'document')} that deduplication drops, drawn by key, each beside the survivor of its cluster: "
            f"Jaccard similarity of the sets of {quality.grams} of both lower-case texts as they stand."
        ),
        Figure(histogram([i / STEPS for i in range(STEPS + 1)], heights, label, "Jaccard similarity", DUPLICATE), "", title),
        table(title, ["Similarity", "Documents", "Share", "Differ in numbers"], rows,
              "“Differ in numbers”: at least 0.8 alike once numbers are ignored, as bands do, and less alike as they stand."),
    ))  # fmt: skip


def interval(low: float, high: float) -> str:
    """[0.8, 0.9) in words."""
    return "1" if low == 1 else f"below {high:g}" if low == 0 else f"{low:g} to {high:g}"


def _recall(quality: Quality) -> Section | None:
    rows = [
        [Cell(interval(r.low, r.high)), n_cell(r.n), x_cell(r.shared), x_cell(r.expected),
         right(percent(r.found) if r.n >= ENOUGH else "too few pairs")]
        for r in quality.recall
    ]  # fmt: skip
    if not quality.pairs:
        return None
    b, r = quality.buckets, quality.rows
    text = (
        f"A pair of similarity J shares one of {b} bands of {r} minima with probability 1 − (1 − J^{r})^{b}. So a pair that does "
        "stands for the reciprocal of that many of its kind, and the sample tells how many were missed. Whether the formula holds "
        "for these pages is seen in the two columns in the middle: how many bands such pairs share, and how many they should."
    )
    note = (
        "Similarity is of the texts as bands see them: without case, numbers, punctuation and accents. Pages that share no band can "
        "still meet through a third, so clusters find a little more than this."
    )
    head = ["Similarity", "Pairs that share a band", "Bands shared", "Expected", "Found, estimated"]
    return Section("recall", "How much was found?", (Paragraph(text), table("Pairs by similarity", head, rows, note)))


def _displaced(quality: Quality, ids: bool = True) -> Section | None:
    lost = quality.displaced
    if not lost.n:
        return None
    names = {-1: "the last of against"}
    counted = [[Cell(names.get(corpus, f"the last but {-corpus - 1}")), n_cell(n)] for corpus, n in lost.by_corpus]
    shown: list[Block] = [
        Paragraph(
            "Under this survivor rule a new page may stay for an older copy. Earlier corpora are not changed: whoever uses both takes "
            f"these {plural(lost.n, 'document')} out of them. All are listed in displaced.parquet beside the clusters."
        ),
        table("Earlier documents that lose to a new one", ["Earlier corpus", "Documents"], counted),
    ]
    if ids:
        rows = [[Cell(str(corpus)), Cell(mask(a or "–")), Cell(mask(b or "–")), Cell(level)] for corpus, a, b, level in lost.first]
        title = f"The first {count(len(rows))} of them" if len(rows) < lost.n else "All of them"
        shown.append(table(title, ["Earlier corpus", "Earlier document", "New document", "How"], rows))
    return Section("displaced", "Earlier documents that lose", tuple(shown))


def _largest(quality: Quality) -> Section | None:
    if not quality.largest:
        return None
    blocks = tuple(_cluster(number, c) for number, c in enumerate(quality.largest, 1))
    return Section("largest", "The largest clusters", blocks)


def _cluster(number: int, cluster: Cluster) -> blocks.Examples:
    exact = f", {count(cluster.n_exact)} of them exactly like the page that stays" if cluster.n_exact else ""
    items = [Example(excerpt(cluster.survivor.text), _address(cluster.survivor.url), None, "The page that stays")]
    items += [Example(excerpt(m.text), _address(m.url), None, f"Dropped, sample {i}") for i, m in enumerate(cluster.members, 1)]
    return blocks.Examples(f"{number}. {plural(cluster.size, 'document')}{exact}", tuple(items), columns=True)


def _address(url: str | None) -> str:
    return host(url) if url else ""


def _pairs(quality: Quality) -> Section | None:
    pairs = quality.spread(N_PAIRS_SHOWN)
    if not pairs:
        return None
    shown: list[Block] = [Paragraph("Pairs of every similarity, one of a cluster. Words that differ are marked.")]
    for low, high in pairwise(BINS):
        if mine := tuple(_comparison(p) for p in pairs if low <= p.jaccard < high):
            shown.append(blocks.Details(f"Similarity {interval(low, high)}: {plural(len(mine), 'pair')}", mine))
    return Section("pairs", "Pairs side by side", tuple(shown))


def _comparison(pair: Pair) -> Comparison:
    facts = [
        f"similarity {pair.jaccard:.3f}", f"{pair.signed:.3f} as bands see it", f"{plural(pair.n_shared, 'band')} shared",
        f"cluster of {count(pair.size)}",
    ]  # fmt: skip
    labels = [f"{name} {_address(row.url)}".strip() for name, row in (("Dropped", pair.member), ("Stays", pair.survivor))]
    title = mask(pair.member.id or str(pair.member.key))
    return Comparison(title, sides(pair.member.text, pair.survivor.text, labels[0], labels[1]), " · ".join(facts))


def tables(sections: Sequence[Section | None]) -> Iterator[blocks.Table]:
    """The tables of chapters, for the terminal."""
    for section in sections:
        if section is not None:
            inner = [b for block in section.blocks for b in (block.blocks if isinstance(block, blocks.Columns) else (block,))]
            yield from (b for b in inner if isinstance(b, blocks.Table))


def console_tables(quality: Quality) -> list[blocks.Table]:
    """What the terminal shows: sizes, similarity, share found, earlier documents that lose."""
    return list(tables([_sizes(quality), _precision(quality), _recall(quality), _displaced(quality, ids=False)]))
