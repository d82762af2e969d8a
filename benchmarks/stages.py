"""The corpus stages against their peers, one core, one run, ours and the peer in alternation on the same pages.

    python benchmarks/stages.py [--data FOLDER] [--quick] [--only chain,language,...] [--work FOLDER]

Without --data: the built-in sample. With it: FOLDER/web/*.parquet and FOLDER/truth/web.parquet. ``ratio`` is the peer's CPU time over
ours; agreement is the share of pages on which both say the same. Sections: chain (the FineWeb2 chain against datatrove), language
(fastText), quality (datatrove's filters one by one), normalise (ftfy), privacy (datatrove, and planted truth), guard (n-gram
decontamination and URL lists against datatrove), scaling (ten times the pages, two workers, memory). Writes
benchmarks/results/stages.json; with --only, the other sections' figures stay as they were.
"""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before numpy and Arrow count the cores; scaling binds its own workers

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.machine import Figures, run_sections  # noqa: E402

if TYPE_CHECKING:
    import polars as pl


class Job:
    """What is measured on: pages, and how many of them."""

    def __init__(self, data: str | None, quick: bool, work: str) -> None:
        self.data, self.quick, self.work = data, quick, work
        os.makedirs(work, exist_ok=True)
        self.pages = read_pages(data) if data else sample_pages(work, 400 if quick else 6000)
        self.result = "stages" if data else "stages-sample"
        self.input = f"{self.pages.num_rows:,} {'real pages' if data else 'pages of the built-in sample'}"

    def some(self, n: int) -> pa.Table:
        """About ``n`` pages, spread evenly over all."""
        step = max(1, self.pages.num_rows // n)
        return self.pages.take(pa.array(range(0, self.pages.num_rows, step)))


def read_pages(data: str) -> pa.Table:
    """id, text and URL of all pages."""
    files = sorted(glob.glob(os.path.join(data, "web", "*.parquet")))
    if not files:
        sys.exit(f"there is no web/*.parquet in {data}")
    return pa.concat_tables([pq.read_table(f, columns=["id", "text", "url"]) for f in files]).combine_chunks()


def sample_pages(work: str, n_docs: int) -> pa.Table:
    """Pages of the built-in sample; its truth goes to work/truth."""
    from corpus.sample.generate import file_plan, write_web_file
    from corpus.sample.params import SampleParams

    params = SampleParams(n_docs=n_docs)
    for folder in ("web", "truth"):
        os.makedirs(os.path.join(work, folder), exist_ok=True)
    for file in file_plan(params):
        write_web_file(params, file.index, os.path.join(work, "web", file.name), os.path.join(work, "truth", file.name))
    return read_pages(work)


def chain(job: Job) -> Figures:
    """The FineWeb2 chain: speed on all pages, and against datatrove on some."""
    from benchmarks.chain_peer import Ours, compare

    found = compare(job.some(60 if job.quick else 1200), os.path.join(job.work, "chain"), 1 if job.quick else 3, 5)
    differing = Counter(found["differing"])
    for (ours, theirs), n in differing.most_common():
        print(f"  ours {ours}, datatrove {theirs}: {n} pages")
    folder = os.path.join(job.work, "all")
    os.makedirs(folder, exist_ok=True)
    pq.write_table(job.pages, os.path.join(folder, "pages.parquet"), row_group_size=1000, compression="zstd")
    ours = Ours(folder, os.path.join(job.work, "all-out"))
    best = min((ours.run() for _ in range(1 if job.quick else 3)), key=lambda r: r["cpu_s"])
    figures: Figures = {
        "fineweb2_chain.ratio_vs_datatrove": found["ratio"], "fineweb2_chain.docs_per_s_per_core": found["docs_per_s"],
        "fineweb2_chain.datatrove_docs_per_s_per_core": found["datatrove_docs_per_s"], "fineweb2_chain.agreement": found["agreement"],
        "fineweb2_chain.agreement_n_docs": found["n_docs"], "fineweb2_chain.mb_per_s_per_core": best["bytes"] / best["cpu_s"] / 1e6,
        "fineweb2_chain.all_pages_docs_per_s_per_core": best["docs"] / best["cpu_s"],
    }  # fmt: skip
    for name, seconds in best.items():
        if name.startswith("stage/"):
            figures[f"fineweb2_chain.us_per_page.{name[6:]}"] = seconds / best["docs"] * 1e6
    in_stages = sum(v for k, v in best.items() if k.startswith("stage/"))
    return figures | {"fineweb2_chain.us_per_page.read_write": (best["total"] - in_stages) / best["docs"] * 1e6}


def scaling(job: Job) -> Figures:
    """Ten times the pages, two workers, memory."""
    from benchmarks.scaling import run_workers, write_copies

    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    few = 4_000 if job.quick else 60_000
    folder, out = write_copies(job.pages, 10 * few, os.path.join(job.work, "copies")), os.path.join(job.work, "copies-out")
    units = few // 2000
    small = min((run_workers(folder, out, 1, units) for _ in range(2)), key=lambda r: r["wall_s"])
    large = run_workers(folder, out, 1)
    # Wall time, which another process disturbs: one worker and two in alternation, the best of each.
    turns = [(run_workers(folder, out, 1, 2 * units), run_workers(folder, out, 2, 2 * units)) for _ in range(1 if job.quick else 4)]
    one, two = (max(turn[k]["docs"] / turn[k]["wall_s"] for turn in turns) for k in (0, 1))
    rate = {name: found["docs"] / found["cpu_s"] for name, found in (("small", small), ("large", large))}
    return {
        f"scaling.docs_per_s_{few // 1000}k": rate["small"], f"scaling.docs_per_s_{few // 100}k": rate["large"],
        "scaling.docs_per_s_600k_over_60k": rate["large"] / rate["small"],
        "scaling.two_workers_over_one": two / one,
        "worker.peak_mb": max(found["peak_mb"] for found in (small, large, *(f for turn in turns for f in turn))),
    }  # fmt: skip


def language(job: Job) -> Figures:
    """lid.176 and a classifier of words and word pairs, against fastText."""
    from benchmarks.fasttext_peer import compare_classifier, compare_language

    n = 2000 if job.quick else job.pages.num_rows
    columns = [c.cast(pa.large_string()) for c in job.some(n)["text"].chunks]
    warm = 500 if job.quick else 8000
    figures = under("language", compare_language(columns, warm_docs=warm))
    return figures | under("classifier", compare_classifier(columns, warm_docs=warm))


def quality(job: Job) -> Figures:
    """datatrove's filters one by one, with its own German word splitter."""
    from benchmarks.quality_peer import compare, stages_of

    some, figures = job.some(60 if job.quick else 1200), Figures()
    ids, texts = some["id"].to_pylist(), some["text"].to_pylist()
    for stage in stages_of():
        result = compare(stage, ids, texts)
        figures |= under(f"quality.{stage.name}", result.figures())
        for cause, n in result.causes().items():
            print(f"  {stage.name}: {n} pages {cause}")
    return figures


def normalise(job: Job) -> Figures:
    """Repair of mojibake against ftfy with datatrove's settings."""
    from benchmarks.normalise_peer import on_pages

    return under("normalise", on_pages(polars(job.some(1000 if job.quick else job.pages.num_rows))["text"], 200 if job.quick else 5000))


def privacy(job: Job) -> Figures:
    """Planted personal data, made-up values, and datatrove's formatter."""
    from benchmarks.privacy_peer import on_pages, on_values

    figures = under("privacy", on_values(100 if job.quick else 1000))
    if job.data is None:
        return figures
    import polars as pl

    return figures | under("privacy", on_pages(polars(job.pages), pl.read_parquet(f"{job.data}/truth/web.parquet")))


def guard(job: Job) -> Figures:
    """Decontamination and URL rules against datatrove."""
    from benchmarks.guard_peer import addresses, decontamination, url_rules

    figures = under("url_rules", url_rules(*addresses(20_000 if job.quick else 200_000)))
    items = sorted(glob.glob(f"{job.data}/bench/*.jsonl")) if job.data else []
    if items:
        pages = job.some(500 if job.quick else 7000)["text"].to_pylist()
        figures |= under("decontamination", decontamination(pages, items, 100 if job.quick else 1000))
    return figures


def under(group: str, found: Mapping[str, object]) -> Figures:
    """Numbers of a group; lists of what differs are for the eye."""
    return {f"{group}.{name}": value for name, value in found.items() if isinstance(value, (int, float))}


def polars(table: pa.Table) -> pl.DataFrame:
    """The table as a polars frame."""
    import polars as pl

    return pl.DataFrame(table)


SECTIONS: dict[str, Callable[[Job], Figures]] = {
    "chain": chain, "language": language, "quality": quality, "normalise": normalise, "privacy": privacy, "guard": guard,
    "scaling": scaling,
}  # fmt: skip

if __name__ == "__main__":
    run_sections(__doc__ or "", SECTIONS, Job)
