"""What ten billion documents would take: two simulations, each of what the other cannot show, and formulas in between.

    python -m benchmarks.dedup_plan FOLDER N_DOCS TASK_MEMORY_MB FILE_DOCS

runs the step dedup over synthetic signatures (benchmarks/dedup_synthetic.py) with this budget in one process, checks the clusters and
prints CPU time, bytes, tasks and files of every phase as JSON. ``plan_figures`` runs it twice:

* large tasks: as many documents as the disk has room for, cut into two parts, so that tasks are nearly as large as a real cluster's and
  their CPU time per document is right (arrays beyond every cache); it has few of them.
* many tasks: few documents, with a budget so small that there are as many parts and ranges as there would be. What it costs above the
  first run's time per document is the price of cutting: opening files, reading slices, receipts.

    CPU time of n documents = n x (time per document of large tasks) + (time of many tasks above its documents)
    parts P = ceil(28 n / memory), ranges k = ceil(96 n / memory), scatter tasks S = ceil(24 n (bands + 2) / memory)
    bytes written = n x (bytes per document of the phase), for numbers of 8 instead of 4 bytes as the phase's records say
    hours = CPU time of the parallel phases / cores + of the ones that run one after the other + bytes both ways / speed of the disks

The phases one after the other are the roots, range after range, and the merge of the rows. Rounds of joining are those of many tasks.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq

from benchmarks.dedup_scale import check
from benchmarks.dedup_synthetic import BANDS, write_signatures
from benchmarks.machine import Watched
from corpus.dedup.exchange import SCATTER_BYTES_PER_HASH
from corpus.dedup.grouping import BYTES_PER_DOC
from corpus.dedup.ranges import RANGE_BYTES_PER_DOC
from store.artifact import Receipt
from store.executor import Job, SerialExecutor
from store.params import Json

LARGE_MB_PER_DOC = 1300 / 50_000_000
"""So little that there are two parts and four ranges: tasks of 650 to 1,300 MB."""
DOCS, MEMORY_MB, NODES, CORES, DISK_MB_PER_S = 10_000_000_000, 2000, 10, 16, 500
GROWTH = {"scatter": 16 / 12, "edges": 2.0, "ask": 2.0, "roots": 2.0, "partials": 48 / 44}
"""Bytes with numbers of 8 bytes over bytes with numbers of 4, by phase; of the rest, which hold keys and hashes, 1."""
ONE_BY_ONE = ("roots", "merge")

Figures = dict[str, Json]


@dataclass
class Phase:
    """What the tasks of a phase did."""

    cpu_s: float = 0.0
    tasks: int = 0
    files: int = 0
    written: int = 0
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Metered(SerialExecutor):
    """Counts by phase, which is the first word of a task's key."""

    phases: dict[str, Phase] = field(default_factory=lambda: defaultdict(Phase))
    rounds: set[str] = field(default_factory=set)

    def map(self, job: Job) -> list[Receipt]:
        begin = time.process_time()
        done = super().map(job)
        name = phase_of(job.tasks[0].key)
        phase = self.phases[name]
        phase.cpu_s += time.process_time() - begin
        for receipt in done:
            phase.tasks += 1
            phase.files += len(receipt.files)
            phase.written += sum(f.size_bytes for f in receipt.files)
            for count, n in receipt.counts.items():
                phase.counts[count] = phase.counts.get(count, 0) + n
        if name == "join":
            self.rounds.add(job.phase)
        return done


def phase_of(key: str) -> str:
    """scatter, edges, join, ask, roots, partials, choose, rows."""
    first = key.split("-")[0]
    return "edges" if first in ("exact", "band") else first


def simulate(folder: str, n_docs: int, memory_mb: float, file_docs: int) -> Figures:
    """One run, checked against the planted clusters."""
    from corpus.dedup import DedupParams, connect
    from store.artifact import Draft, Identity
    from store.fs import Folder

    signatures = write_signatures(n_docs, os.path.join(folder, f"plan-{n_docs}-{file_docs}"), file_docs)
    out = os.path.join(folder, "plan-out")
    for warm in (True, False):
        shutil.rmtree(out, ignore_errors=True)
        few = type(signatures)(signatures.files[:3], signatures.n_rows[:3]) if warm else signatures
        memory = sum(few.n_rows) * 40 / 1e6 if warm else memory_mb
        # Budgets below those a user may ask for are set past validation.
        params, metered = DedupParams().model_copy(update={"task_memory_mb": memory}), Metered()
        begin, wall = time.process_time(), time.perf_counter()
        made = connect(Draft.begin(Folder(out), Identity("dedup", 1, {})), metered, few, params)
        cpu, wall = time.process_time() - begin, time.perf_counter() - wall
    table = pq.read_table(made.path("clusters.parquet"), columns=["doc_key", "survivor_key"])
    found = np.arange(n_docs)
    found[table["doc_key"].to_numpy()] = table["survivor_key"].to_numpy()
    np.save(os.path.join(folder, "plan.npy"), found, allow_pickle=False)
    phases = dict(metered.phases)
    phases["merge"] = Phase(cpu - sum(p.cpu_s for p in phases.values()), 1, 1, made.size_bytes)
    shutil.rmtree(out)
    return {
        "docs": n_docs, "cpu_s": cpu, "wall_s": wall, "rounds": len(metered.rounds), "members": len(table),
        "phases": {name: {**vars(phase)} for name, phase in phases.items()},
    }  # fmt: skip


def measure(folder: str, n_docs: int, memory_mb: float, file_docs: int) -> Figures:
    """``simulate`` in a process of its own, with its peak memory; checked here."""
    log = os.path.join(folder, "plan.log")
    arguments = [folder, str(n_docs), str(memory_mb), str(file_docs)]
    subprocess.run([sys.executable, "-m", "benchmarks.dedup_plan", *arguments, "sign"], check=True)
    watched = Watched([sys.executable, "-m", "benchmarks.dedup_plan", *arguments], log)
    with open(log, encoding="utf-8") as file:
        lines = file.read().splitlines()
    if watched.returncode != 0:
        raise SystemExit(f"{n_docs:,} documents: " + "\n".join(lines[-5:]))
    check(np.load(os.path.join(folder, "plan.npy"), allow_pickle=False), n_docs)
    return json.loads(lines[-1]) | {"peak_mb": watched.peak_bytes / 1e6}


def plan_figures(folder: str, quick: bool) -> Figures:
    """Both simulations, and ten billion documents."""
    n_large, n_many = (2_000_000, 200_000) if quick else (50_000_000, 2_000_000)
    # The quick run is cut as the full one is: two parts, four ranges.
    large = measure(folder, n_large, LARGE_MB_PER_DOC * n_large, n_large // 1000)
    n_ranges = 60 if quick else math.ceil(RANGE_BYTES_PER_DOC * DOCS / (MEMORY_MB * 1_000_000))
    many = measure(folder, n_many, RANGE_BYTES_PER_DOC * n_many / n_ranges / 1e6, -(-n_many // n_ranges))
    return extrapolated(large, many)


def extrapolated(large: Figures, many: Figures) -> Figures:
    """The figures of DOCS documents on NODES nodes."""
    of_large, of_many, n = large["phases"], many["phases"], {"large": large["docs"], "many": many["docs"]}
    cpu, written = {}, {}
    for name, phase in of_large.items():  # type: ignore[union-attr]
        per_doc = phase["cpu_s"] / n["large"]
        cpu[name] = DOCS * per_doc + max(0.0, of_many[name]["cpu_s"] - n["many"] * per_doc)  # type: ignore[index,call-overload]
        # Of joining, what is sent on grows from 8 to 16 bytes an edge and the sets from 8 to 12 a document.
        sent = 8 * phase["counts"].get("sent", 0)
        grown = (phase["written"] - sent) * (1.5 if name == "join" else GROWTH.get(name, 1.0)) + sent * 2
        written[name] = DOCS * grown / n["large"]
    serial_s = sum(cpu[name] for name in ONE_BY_ONE)
    parallel_s, moved = sum(cpu.values()) - serial_s, 2 * sum(written.values())
    hours = {
        "cpu": parallel_s / (NODES * CORES) / 3600,
        "one_by_one": serial_s / 3600,
        "disk": moved / NODES / DISK_MB_PER_S / 1e6 / 3600,
    }
    memory = MEMORY_MB * 1_000_000
    parts, scatter = math.ceil(BYTES_PER_DOC * DOCS / memory), math.ceil(SCATTER_BYTES_PER_HASH * DOCS * (BANDS + 2) / memory)
    return {
        "docs": DOCS, "nodes": NODES, "cores_per_node": CORES, "task_memory_mb": MEMORY_MB, "disk_mb_per_s_per_node": DISK_MB_PER_S,
        "parts": parts, "ranges": math.ceil(RANGE_BYTES_PER_DOC * DOCS / memory), "scatter_files": scatter,
        "edge_files": (BANDS + 1) * parts,
        "rounds": many["rounds"], "edges": DOCS * of_large["edges"]["counts"]["edges"] / n["large"],  # type: ignore[index,call-overload]
        **{f"bytes_per_doc.{name}": value / DOCS for name, value in written.items()},
        "written_tb": sum(written.values()) / 1e12, "cpu_hours": sum(cpu.values()) / 3600,
        **{f"hours.{name}": value for name, value in hours.items()}, "hours": sum(hours.values()),
        **{f"cpu_us_per_doc.{name}": value / DOCS * 1e6 for name, value in cpu.items()},
        "large.docs": n["large"], "large.cpu_us_per_doc": large["cpu_s"] / n["large"] * 1e6, "large.peak_mb": large["peak_mb"],  # type: ignore[operator]
        "many.docs": n["many"], "many.cpu_s": many["cpu_s"], "many.peak_mb": many["peak_mb"],
        "many.tasks": sum(p["tasks"] for p in of_many.values()), "many.rounds": many["rounds"],  # type: ignore[union-attr]
    }  # fmt: skip


if __name__ == "__main__":
    place, docs, megabytes, per_file = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    if sys.argv[5:] == ["sign"]:
        write_signatures(docs, os.path.join(place, f"plan-{docs}-{per_file}"), per_file)
    else:
        print(json.dumps(simulate(place, docs, megabytes, per_file)))
