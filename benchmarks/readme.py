"""The README's tables, written from benchmarks/results/*.json between marker comments: python benchmarks/readme.py"""

from __future__ import annotations

import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(ROOT, "README.md")
MODELS = ("base", "instruct", "continued", "merged")
Result = dict[str, dict[str, float]]


def load(name: str) -> Result:
    """A result file."""
    with open(os.path.join(ROOT, "benchmarks", "results", f"{name}.json"), encoding="utf-8") as file:
        return dict(json.load(file))


def demo_table(result: Result) -> str:
    """Scores of the demo's models."""
    figures = result["figures"]
    rows = [
        ("medical pages, bits per byte ↓", "domain.bits_per_byte"), ("general pages, bits per byte ↓", "general.bits_per_byte"),
        ("medical multiple choice ↑", "medical.acc"), ("general multiple choice ↑", "general.acc"),
        ("general questions answered rightly in chat ↑", "open_general.correct"),
    ]  # fmt: skip
    lines = ["| | " + " | ".join(MODELS) + " |", "|---|" + "---:|" * len(MODELS)]
    for title, key in rows:
        cells = [f"{figures[f'scores.{m}.{key}']:.2f} ± {figures[f'scores.{m}.{key}.stderr']:.2f}" for m in MODELS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    first, second = figures["demo.first_run_s"], figures["demo.second_run_s"]
    lines.append("")
    times = f"First run {first:.0f} s, second {second:.1f} s, {result['machine']}."
    lines.append(f"Chance is 0.25 in multiple choice; ± is a standard error. {times}")
    return "\n".join(lines)


def road_table(result: Result) -> str:
    """Speed and quality of the corpus road over real pages."""
    f = result["figures"]
    speed = f"{f['road.wall_s']:.0f} s ({f['road.docs']:,} pages, {f['road.docs_per_s']:,.0f}/s)"
    memory = f"{f['road.peak_mb']:,.0f} MB / {f['road.largest_worker_mb']:,.0f} MB"
    language = f"{f['language.recall']:.4f} / {f['language.precision']:.4f}"
    copies = " / ".join(f"{f[f'dedup.recall_at_edit_rate_{rate}']:.3f}" for rate in ("0", "0.01", "0.02", "0.04", "0.08"))
    rows = [
        ("pages to token shards, command line and Ray included", speed),
        ("the filtering pass alone", f"{f['step.documents_s']:.0f} s"),
        ("peak memory of everything / of the largest worker", memory),
        ("pages unaccounted for", f"{f['accounting.unaccounted']}"),
        ("German pages the language stage keeps / German share of what it keeps", language),
        ("planted junk dropped", f"{f['junk.recall']:.3f} of {f['junk.n']:,}"),
        ("planted personal data masked", f"{f['privacy.recall']:.3f} of {f['privacy.n_planted']:,}"),
        ("planted copies found: 0 %, 1 %, 2 %, 4 %, 8 % of words changed", copies),
        ("pairs called duplicates whose true Jaccard is 0.6 or more", f"{f['dedup.pair_precision_at_0.6']:.3f}"),
    ]
    head = (
        f"`finemed-de` over {f['road.docs']:,} real pages, mostly German ({result['machine']}); every page goes through every stage:\n"
    )
    return "\n".join([head, "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def stages_table(result: Result) -> str:
    """The filtering stages against their peers."""
    f = result["figures"]
    quality, same = "quality.{}.ratio_vs_datatrove", "quality.{}.decision_agreement"
    rows = [
        ("the FineWeb2 chain, Parquet in and out", "datatrove", "fineweb2_chain.ratio_vs_datatrove", "fineweb2_chain.agreement"),
        ("language identification (lid.176)", "fastText", "language.ratio_vs_fasttext", "language.label_agreement"),
        (
            "GopherRepetition",
            "datatrove",
            "quality.gopher_repetition.ratio_vs_datatrove",
            "quality.gopher_repetition.decision_agreement",
        ),
        ("FineWebQuality", "datatrove", quality.format("fineweb_quality"), same.format("fineweb_quality")),
        ("GopherQuality", "datatrove", quality.format("gopher_quality"), same.format("gopher_quality")),
        ("C4", "datatrove", quality.format("c4_quality"), same.format("c4_quality")),
        ("repair of mojibake", "ftfy", "normalise.repair_ratio_vs_datatrove", "normalise.agreement"),
        ("decontamination", "datatrove", "decontamination.ratio", "decontamination.agreement"),
    ]
    head = (
        f"One core, {result['input']} ({result['machine']}): the chain takes "
        f"{f['fineweb2_chain.all_pages_docs_per_s_per_core']:,.0f} pages/s or {f['fineweb2_chain.mb_per_s_per_core']:.0f} MB/s; "
        f"{f['scaling.docs_per_s_600k_over_60k']:.2f} of that rate on 600,000 pages, "
        f"{f['scaling.two_workers_over_one']:.2f} times with two workers, at most {f['worker.peak_mb']:.0f} MB a worker. "
        f"Personal data: recall {f['privacy.recall']:.3f}, precision {f['privacy.precision']:.3f}.\n"
    )
    lines = ["| stage | peer | times as fast | same decision |", "|---|---|---:|---:|"]
    return "\n".join([head, *lines, *(f"| {a} | {b} | {f[c]:.0f} | {f[d]:.2%} |" for a, b, c, d in rows)])


def tokens_table(result: Result) -> str:
    """Packing, tokenisation and loading."""
    f = result["figures"]
    split, cut = f["pack.short_documents_split"], f["peer.concatenate_short_documents_split"]
    rows = [
        ("padding of the rows / tokens lost", f"{f['pack.padding']:.3%} / {f['pack.tokens_lost']}"),
        ("documents that fit a row and are split / by concatenating and cutting", f"{split:.1%} / {cut:.1%}"),
        ("the plan: CPU time / memory", f"{f['pack.plan_seconds']:.0f} s / {f['pack.plan_peak_mb']:,.0f} MB"),
        ("rows located by the loader", f"{f['loader.rows_per_s']:,.0f}/s"),
        ("tokenising and writing, over the tokenizers library's encode_batch", f"{f['tokenise.ratio_vs_tokenizers']:.2f}"),
    ]
    size = f"{f['pack.docs'] / 1e6:.1f} million documents, {f['pack.tokens'] / 1e9:.1f} billion tokens"
    head = f"{size}, rows of 4,096 ({result['machine']}):\n"
    return "\n".join([head, "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def render(text: str) -> str:
    """The README with its tables as the result files have them."""
    for name, table in made():
        mark, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = re.sub(rf"{mark}(?:.*?{end})?", lambda _, t=table, m=mark, e=end: f"{m}\n{t}\n{e}", text, flags=re.DOTALL)
    return text


def made() -> tuple[tuple[str, str], ...]:
    """(mark, table) of every table."""
    return (
        ("demo-table", demo_table(load("demo"))), ("road-table", road_table(load("road"))),
        ("stages-table", stages_table(load("stages"))), ("tokens-table", tokens_table(load("tokens"))),
    )  # fmt: skip


def main() -> None:
    """Write the README."""
    with open(README, encoding="utf-8") as file:
        text = file.read()
    with open(README, "w", encoding="utf-8") as file:
        file.write(render(text))


if __name__ == "__main__":
    main()
