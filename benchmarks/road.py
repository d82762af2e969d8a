"""The corpus road end to end: pages to token shards through the command line, on Ray, judged against recorded truth.

    python benchmarks/road.py [--data FOLDER] [--quick] [--out FOLDER] [--workers N]

Without --data: the built-in sample. With it: FOLDER/web/*.parquet, FOLDER/truth/web.parquet (labels from topic_hint). Every stage
sees every page that the filters before it left: pages are selected by score at the end, so that later stages see general text too.
Writes benchmarks/results/road.json, and with real pages the rates of `definemed plan` (cluster/rates.json).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks.machine import Watched, machine_name, write_result  # noqa: E402
from benchmarks.truth import all_figures, read_truth  # noqa: E402
from cluster.recipe import load_recipe  # noqa: E402
from corpus.passes import fused  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.params import Json  # noqa: E402
from store.run import RunRecord  # noqa: E402


def main() -> None:
    """Run, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/ and truth/; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="2,000 sample pages (under a minute); writes no result file")
    parser.add_argument("--out", default=os.path.join(ROOT, "out-road"), help="output folder, emptied first")
    parser.add_argument("--workers", type=int, help="worker processes; default: one per core")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    os.makedirs(options.out)
    watched = Watched(command(options), os.path.join(options.out, "road.log"))
    if watched.returncode:
        with open(os.path.join(options.out, "road.log"), encoding="utf-8") as log:
            sys.exit(f"the run failed:\n{log.read()[-3000:]}")
    record = find_run(options.out)
    figures = measure(record, Folder(options.out), watched, options.data)
    for name, value in figures.items():
        print(f"{name:<45} {value:.4f}" if isinstance(value, float) else f"{name:<45} {value}")
    if not options.quick:
        source = "61,566 real pages" if options.data else "built-in sample, 6,000 pages"
        print("written:", write_result("road" if options.data else "road-sample", source, figures, __doc__ or ""))
        if options.data:
            write_rates(record, Folder(options.out))


def command(options: argparse.Namespace) -> list[str]:
    """The command line of the run."""
    run = [sys.executable, "-m", "cluster.cli", "run"]
    if options.data:
        sets = [
            f'corpus.source.files=["{os.path.abspath(options.data)}/web/*.parquet"]',
            f"corpus.classifier.labels={os.path.abspath(options.data)}/truth/web.parquet",
            "corpus.classifier.label_column=topic_hint", "corpus.classifier.ignore=[unsure]", "corpus.stages.score.min=null",
            "tokens.tokenizer={vocab_size: 32000}", "corpus.dropped_text_share=0.01",
        ]  # fmt: skip
        run += ["finemed-de", *[part for s in sets for part in ("--set", s)]]
    else:
        run += ["demo", "--until", "tokens/chat-general"]
        run += ["--set", "corpus.source.sample.n_docs=2000"] if options.quick else []
    if options.workers:
        run += ["--set", f"cluster.workers={options.workers}"]
    return [*run, "--out", options.out, "--address", "local"]


def find_run(out: str) -> RunRecord:
    """The only run below ``out``."""
    runs = os.path.join(out, "runs")
    return RunRecord.read(Folder(os.path.join(runs, os.listdir(runs)[0])))


def measure(record: RunRecord, out: Folder, watched: Watched, data: str | None) -> dict[str, Json]:
    """Speed, memory, accounting, and quality against truth."""
    documents, dedup, select = (record.artifact(out, n) for n in ("documents", "dedup", "select"))
    assert documents and dedup and select
    counts = documents.manifest.counts
    lost = [
        {k: n for k, n in a.manifest.counts.items() if k.split("/")[0] in ("kept", "dropped", "quarantined")}
        for a in (documents, select)
    ]
    figures: dict[str, Json] = {
        "road.wall_s": round(watched.wall_s, 2), "road.docs": counts["read"],
        "road.docs_per_s": round(counts["read"] / watched.wall_s, 1),
        "road.mb_per_s": round(counts["read_bytes"] / 1e6 / watched.wall_s, 3), "road.peak_mb": round(watched.peak_bytes / 1e6, 1),
        "road.largest_worker_mb": round(watched.largest_worker_bytes / 1e6, 1),
        "accounting.unaccounted": counts["read"] - sum(lost[0].values()),
        "accounting.unaccounted_select": select.manifest.counts["read"] - sum(lost[1].values()),
        "accounting.kept": counts["kept"],
    }  # fmt: skip
    figures["accounting.in_sets"] = sum(n for k, n in select.manifest.counts.items() if k.startswith("kept/"))
    for step in record.steps:
        figures[f"step.{step.name}_s"] = round(step.elapsed_s, 2)
        if step.name.startswith("tokens/"):
            made = record.artifact(out, step.name)
            assert made
            figures["tokens.total"] = int(str(figures.get("tokens.total", 0))) + int(str(made.manifest.summary["n_tokens"]))
    truth, pairs = (f"{data}/truth/web.parquet", f"{data}/truth/web_pairs.parquet") if data else (sample_truth(record, out), None)
    return figures | dict(all_figures(read_truth(truth), documents, dedup, pairs))


def sample_truth(record: RunRecord, out: Folder) -> str:
    """The truth files of the built-in sample of a run."""
    sample = record.artifact(out, "sample")
    assert sample
    return sample.path("truth/*.parquet")


def write_rates(record: RunRecord, out: Folder) -> None:
    """Microseconds of a core per document each stage saw, for `definemed plan`."""
    documents = record.artifact(out, "documents")
    assert documents
    busy, counts = documents.provenance()["busy_s"], documents.manifest.counts
    assert isinstance(busy, dict)
    left, rates = counts["read"], {}
    for group in fused(load_recipe("finemed-de").corpus.stages):
        for name in (stage.name for stage in group):  # stages of a group see the same pages
            rates[name] = round(float(str(busy[f"stage/{name}"])) / max(1, left) * 1e6, 2)
        left -= sum(n for k, n in counts.items() for stage in group if k.startswith(f"dropped/{stage.name}/"))
    rest = float(str(busy["total"])) - sum(float(str(busy[f"stage/{s}"])) for s in rates)
    path = os.path.join(ROOT, "cluster", "rates.json")
    with open(path, encoding="utf-8") as file:
        kept = {k: v for k, v in json.load(file).items() if k == "encoder"}  # benchmarks/classifier.py measures it
    body = {"machine": machine_name(), "stage_us": rates, "read_write_us": round(rest / counts["read"] * 1e6, 2), **kept}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
