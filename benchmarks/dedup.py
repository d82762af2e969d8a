"""Deduplication against its peers: what is found on real pages, how fast pages are signed, and what grouping costs.

    python benchmarks/dedup.py [--data FOLDER] [--quick] [--only quality,signature,cluster,plan,theory] [--work FOLDER]

Without --data: the built-in sample. With it: FOLDER/web/*.parquet, FOLDER/truth/web.parquet and web_pairs.parquet. Peers' clusters are
kept in --work and found there again (datatrove takes five minutes). text-dedup needs a Python of its own in TEXT_DEDUP_PYTHON
(benchmarks/dedup_peers/text_dedup_peer.py). Writes benchmarks/results/dedup.json; with --only, the other sections' figures stay.

Sections:

* quality: pairwise precision, recall and F1 of clusters on one truth (benchmarks/dedup_truth.py). quality.f1 is of definemed with 20
  bands of 6 and verification at 0.75 where that is offered, else of 14 x 8; quality.ours_14x8.* of the setting that peers have too;
  quality.best_peer_f1 is the best of the peers, rensa with and without the check of candidates that its deduplicator makes.
* signature: speed on one core (benchmarks/dedup_speed.py).
* cluster: from signatures to survivors, synthetic signatures with one cluster of a twentieth of all documents, two Ray workers
  (benchmarks/dedup_scale.py). cost_growth_1m_to_10m is of CPU time per document in one process: starting workers would hide it.
* plan: what ten billion documents would take, from two runs: one whose tasks are as large, one with as many (benchmarks/dedup_plan.py).
* theory: bands against the mathematics of min-wise hashing (benchmarks/dedup_theory.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks.dedup_pages import Pages, real_pages, sample_pages  # noqa: E402
from benchmarks.dedup_peers import cached, datasketch_peer, datatrove_peer, ours, rensa_peer, text_dedup_peer  # noqa: E402
from benchmarks.dedup_truth import Labels, quality  # noqa: E402
from benchmarks.machine import Figures, run_sections  # noqa: E402

SETTINGS = {
    "ours_14x8": ours.Setting(),
    "ours_40x14": ours.Setting(40, 14),
    "ours_14x8_verified": ours.Setting(min_jaccard=0.75),
    "ours_20x6_verified_065": ours.Setting(20, 6, min_jaccard=0.65),
    "ours_28x5_verified": ours.Setting(28, 5, min_jaccard=0.75),
    "ours_20x6_verified": ours.Setting(20, 6, min_jaccard=0.75),
}
HEADLINE = "ours_20x6_verified"
SEEDS = (1, 2, 3, 4, 5)
ROUNDS = 3
SHOWN = (
    "precision", "recall", "f1", "recall_j_0.5", "recall_j_0.6", "recall_j_0.7", "recall_j_0.8", "recall_j_0.9",
    "recall_edit_0.01", "recall_edit_0.02", "recall_edit_0.04", "recall_edit_0.08", "cpu_s",
)  # fmt: skip


class Job:
    """What is measured on."""

    def __init__(self, data: str | None, quick: bool, work: str) -> None:
        self.quick, self.work = quick, work
        os.makedirs(work, exist_ok=True)
        self.pages: Pages = real_pages(data, 3000 if quick else None) if data else sample_pages(work, 600 if quick else 6000)
        self.result, self.input = "dedup" if data else "dedup-sample", self.pages.name


def quality_section(job: Job) -> Figures:
    """Ours in several settings and every peer, on one truth."""
    judged: dict[str, dict[str, float | int]] = {}
    for name, setting in SETTINGS.items():
        if setting.offered():
            begin = os.times()[0]
            labels = ours.clusters(job.pages, job.work, setting)
            judged[name] = quality(labels, job.pages) | {"cpu_s": os.times()[0] - begin}
    by_seed = [quality(ours.clusters(job.pages, job.work, ours.Setting(seed=s)), job.pages)["f1"] for s in SEEDS]
    for name, run in peers(job).items():
        labels, seconds = cached(name, job.pages, job.work, run)
        judged[name] = quality(labels, job.pages) | {"cpu_s": seconds}
    show(judged)
    figures: Figures = {
        "quality.f1": judged.get(HEADLINE, judged["ours_14x8"])["f1"],
        "quality.best_peer_f1": max(v["f1"] for k, v in judged.items() if not k.startswith("ours")),
        "quality.ours_14x8.f1_mean_of_seeds": float(np.mean(by_seed)),
        "quality.ours_14x8.f1_sd_of_seeds": float(np.std(by_seed, ddof=1)),
    }  # fmt: skip
    return figures | {f"quality.{name}.{key}": value for name, found in judged.items() for key, value in found.items()}


def peers(job: Job) -> dict[str, Callable[[], Labels]]:
    """Every peer that can be run here."""
    found: dict[str, Callable[[], Labels]] = {
        "datatrove": partial(datatrove_peer.clusters, job.pages, job.work),
        "datasketch": partial(datasketch_peer.clusters, job.pages, job.work),
        "rensa": partial(rensa_peer.clusters, job.pages, job.work),
        "rensa_verified": partial(rensa_peer.clusters, job.pages, job.work, 0.75),
    }
    if text_dedup_peer.PYTHON:
        found["text_dedup"] = partial(text_dedup_peer.clusters, job.pages, job.work)
    return found


def show(judged: dict[str, dict[str, float | int]]) -> None:
    """The table."""
    print(f"{'':<20}" + "".join(f"{c.removeprefix('recall_').replace('edit_', 'e '):>10}" for c in SHOWN))
    for name, found in judged.items():
        print(f"{name:<20}" + "".join(f"{found[c]:>10.3f}" if c in found else f"{'':>10}" for c in SHOWN))


def signature_section(job: Job) -> Figures:
    """Speed of signatures on one core."""
    from benchmarks.dedup_speed import signature_figures

    step = max(1, job.pages.n // (400 if job.quick else 4000))
    some = job.pages.table.take(np.arange(0, job.pages.n, step))
    return signature_figures(some, job.work, 1 if job.quick else 5, 30 if job.quick else 300)


def cluster_section(job: Job) -> Figures:
    """From signatures to survivors at two sizes; every peer at the smaller one."""
    from benchmarks.dedup_scale import measure

    small, large = (20_000, 100_000) if job.quick else (1_000_000, 10_000_000)
    few, many = measure("ours", job.work, small), measure("ours", job.work, large)
    alone = {n: [a for _ in range(ROUNDS) if (a := measure("serial", job.work, n))] for n in (small, large)}
    assert few and many and all(alone.values())
    one = {n: min(found, key=lambda a: a["cpu_s"]) for n, found in alone.items()}
    figures: Figures = {
        "cluster.docs": large, "cluster.seconds": many["seconds"], "cluster.peak_mb": many["peak_mb"],
        "cluster.disk_bytes_per_doc": many["signature_bytes_per_doc"] + many["working_bytes_per_doc"],
        "cluster.signature_bytes_per_doc": many["signature_bytes_per_doc"],
        "cluster.working_bytes_per_doc": many["working_bytes_per_doc"],
        "cluster.cost_growth_1m_to_10m": one[large]["cpu_s"] / large / (one[small]["cpu_s"] / small) - 1,
        "cluster.largest_cluster": many["largest_cluster"],
        "cluster.one_process_cpu_s": one[large]["cpu_s"], "cluster.one_process_peak_mb": one[large]["peak_mb"],
        "cluster.1m.seconds": few["seconds"], "cluster.1m.peak_mb": few["peak_mb"],
        "cluster.1m.one_process_cpu_s": one[small]["cpu_s"],
    }  # fmt: skip
    for name in ("datatrove", "rensa", "datasketch"):
        found = kept(job, f"{name}-{small}", partial(measure, name, job.work, small))
        for key in ("seconds", "peak_mb", "docs_in_limit"):
            if found and key in found:
                figures[f"cluster.1m.{name}.{key}"] = found[key]
    return figures


def kept(job: Job, name: str, run: Callable[[], Figures | None]) -> Figures | None:
    """A peer's figures from --work if they are there, else from ``run``."""
    path = os.path.join(job.work, f"figures-{name}.json")
    if not os.path.exists(path):
        found = run()
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found, file)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def plan_section(job: Job) -> Figures:
    """Ten billion documents."""
    from benchmarks.dedup_plan import plan_figures

    return {f"plan.{k}": v for k, v in plan_figures(job.work, job.quick).items()}


def theory_section(job: Job) -> Figures:
    """Recall of bands by number of shingles and similarity, and the variance of the estimate."""
    from benchmarks.dedup_theory import meeting

    figures: Figures = {}
    for n in (30, 100) if job.quick else (30, 100, 500, 3000):
        for j in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
            found = meeting(n, j, 3_000 if job.quick else 30_000)
            name = f"theory.n_{n}.j_{j:g}"
            figures |= {f"{name}.recall": found.recall, f"{name}.expected": found.expected, f"{name}.jaccard": found.jaccard,
                        f"{name}.variance_ratio": found.variance_ratio}  # fmt: skip
    return figures | {
        "theory.largest_difference": max(
            abs(float(v) - float(figures[k.replace(".recall", ".expected")]))  # type: ignore[arg-type]
            for k, v in figures.items()
            if k.endswith(".recall")
        )
    }


SECTIONS: dict[str, Callable[[Job], Figures]] = {
    "quality": quality_section, "signature": signature_section, "cluster": cluster_section, "plan": plan_section,
    "theory": theory_section,
}  # fmt: skip

if __name__ == "__main__":
    run_sections(__doc__ or "", SECTIONS, Job)
