"""Repeated text: speed of marking and of cutting from Arrow buffers, what they cut from real pages, and the memory of adding up.

    python benchmarks/repeated.py [--data FOLDER] [--quick]

Without --data: the built-in sample. With it: FOLDER/web/*.parquet. The pages are deduplicated first, with default parameters. Speeds
are MB of text per CPU second of one core, the best of three; marking is what counting does to every text, cutting is marking, looking
up and rewriting. ``share_cut`` is the share of characters cut: lines of more than 100 documents (the default) or 10, paragraphs of
more than 10, passages of more than one. ``memory`` counts synthetic records, one hash of which every document has, with task_memory_mb
256, in a process of its own. Writes benchmarks/results/repeated.json, or repeated-sample.json without --data.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.machine import write_result  # noqa: E402
from benchmarks.stages import read_pages, sample_pages  # noqa: E402
from corpus.columns import text_buffers  # noqa: E402
from corpus.dedup import DedupParams, connect  # noqa: E402
from corpus.dedup.signatures import Signatures  # noqa: E402
from corpus.passes import peak_rss_mb  # noqa: E402
from corpus.repeated.count import GroupWorker, count_repeated, group_tasks  # noqa: E402
from corpus.repeated.marks import marks  # noqa: E402
from corpus.repeated.params import RepeatedTextParams  # noqa: E402
from corpus.repeated.records import occurrences, write_run  # noqa: E402
from corpus.repeated.removal import RepeatedText  # noqa: E402
from corpus.select import Duplicates  # noqa: E402
from corpus.signature import Signature  # noqa: E402
from corpus.stage import KEEP  # noqa: E402
from store.artifact import Draft, Identity  # noqa: E402
from store.executor import SerialExecutor  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.params import Json  # noqa: E402
from store.schema import signature_schema  # noqa: E402

UNITS = {
    "line": RepeatedTextParams(), "line_10": RepeatedTextParams(max_documents=10),
    "line_10_words": RepeatedTextParams(max_documents=10, same="words"),
    "line_10_template": RepeatedTextParams(max_documents=10, same="template"),
    "paragraph_10": RepeatedTextParams(max_documents=10, unit="paragraph"),
    "window_1": RepeatedTextParams(max_documents=1, unit="window"),
}  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="few pages and records; writes no result file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        pages = read_pages(options.data) if options.data else sample_pages(work, 400 if options.quick else 6000)
        figures: dict[str, Json] = {"pages.read": pages.num_rows}
        pages = survivors(pages, Folder(work) / "dedup")
        figures["pages.survivors"] = pages.num_rows
        for name, params in UNITS.items():
            figures |= unit_figures(name, params, pages, Folder(work) / name)
        figures |= memory_figures(Folder(work) / "memory", 1_000_000 if options.quick else 30_000_000)
    for key, value in figures.items():
        print(f"{key:<40} {value:.4g}" if isinstance(value, float) else f"{key:<40} {value}")
    if not options.quick:
        source = f"{pages.num_rows:,} {'real pages' if options.data else 'pages of the built-in sample'}"
        print("written:", write_result("repeated" if options.data else "repeated-sample", source, figures, __doc__ or ""))


def survivors(pages: pa.Table, folder: Folder) -> pa.Table:
    """The pages that document deduplication leaves."""
    text, keys = pages["text"].cast(pa.large_string()), np.arange(pages.num_rows)
    found = Signature().open({})(pa.table({"text": text}).combine_chunks().to_batches()[0]).columns
    with folder.writing("signatures.parquet") as out:
        pq.write_table(pa.table([keys, *found.values()], schema=signature_schema(14)), out)
    signatures = Signatures((folder.path("signatures.parquet"),), (len(keys),))
    artifact = connect(Draft.begin(folder, Identity("dedup", 1, {}, {})), SerialExecutor(), signatures, DedupParams())
    return pages.filter(pa.array(Duplicates.read(artifact.path("clusters.parquet")).judge(keys)[0] == KEEP))


def unit_figures(name: str, params: RepeatedTextParams, pages: pa.Table, folder: Folder) -> dict[str, Json]:
    """Count, then cut; and the speed of both."""
    text = pages["text"].cast(pa.large_string())
    table = pa.table({"doc_key": np.arange(len(text)), "text": text}).combine_chunks()
    with folder.writing("kept/0.parquet") as out:
        pq.write_table(table, out, row_group_size=1000)
    draft = Draft.begin(folder, Identity("repeated_text", 1, {}, {}))
    kept = [folder.entry("kept/0.parquet", n_rows=len(text))]
    artifact = count_repeated(draft, SerialExecutor(), kept, folder, None, params)
    batches = table.to_batches(max_chunksize=1000)
    cut = RepeatedText.read(artifact.folder).open(params).apply
    gone = sum(cut(b).counts.get("repeated/characters", 0) for b in batches)
    chars = sum(pc.sum(pc.utf8_length(b["text"])).as_py() for b in batches)
    size_mb = sum(int(o[-1] - o[0]) for o, _ in (text_buffers(b["text"]) for b in batches)) / 1e6
    return {
        f"{name}.mark_mb_per_s": size_mb / best(lambda: [marks(*text_buffers(b["text"]), params) for b in batches]),
        f"{name}.cut_mb_per_s": size_mb / best(lambda: [cut(b) for b in batches]),
        f"{name}.records_per_mb": artifact.manifest.summary["n_distinct"] / size_mb,  # type: ignore[operator]
        f"{name}.repeated": artifact.manifest.summary["n_repeated"], f"{name}.share_cut": gone / chars,
    }  # fmt: skip


def best(work: Callable[[], object]) -> float:
    """CPU seconds of the best of three."""
    found = []
    for _ in range(3):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def memory_figures(folder: Folder, n: int) -> dict[str, Json]:
    """Records of n documents, two hashes each, one of them common to all: runs, parts, seconds and peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_add_up, (folder, n))


def _add_up(folder: Folder, n: int) -> dict[str, Json]:
    params, random = RepeatedTextParams(task_memory_mb=256), np.random.default_rng(0)
    small = occurrences(np.zeros(2, np.uint64), np.arange(2))  # compiled and loaded before anything is measured
    write_run(folder, "runs/small", small)
    GroupWorker(["runs/small"], params, folder).run(group_tasks(2, params)[0])
    at_rest, begin, names, step = peak_rss_mb(), time.process_time(), [], 2_500_000
    n_records = 0
    for first in range(0, n, step):
        hashes = random.integers(0, 1 << 64, 2 * step, np.uint64)
        hashes[::2] = 77
        records = occurrences(hashes, np.repeat(np.arange(first, first + step), 2))
        names.append(f"runs/{first}")
        write_run(folder, names[-1], records)
        n_records += len(records)
        del hashes, records
    tasks = group_tasks(n_records, params)
    receipts = [GroupWorker(names, params, folder).run(task) for task in tasks]
    assert sum(r.counts["repeated"] for r in receipts) == 1
    seconds = time.process_time() - begin
    return {
        "memory.documents": n, "memory.runs": len(names), "memory.parts": len(tasks), "memory.cpu_s": seconds,
        "memory.units_per_s": 2 * n / seconds, "memory.above_rest_mb": peak_rss_mb() - at_rest, "memory.task_memory_mb": 256,
    }  # fmt: skip


if __name__ == "__main__":
    main()
