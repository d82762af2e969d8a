"""The trainer against bare PyTorch loops and the Trainer of transformers, on the same packed rows and the same model.

    python benchmarks/trainer.py [--data FOLDER] [--quick] [--precision bf16|fp32] [--only SECTION]

One process, one machine, two threads. Ours, two bare loops and transformers' Trainer take turns step by step (the others run inside
the hook that asks ours whether to stop, so ours is timed from hook to hook: logging, checks and all). A ratio is the median over
steps of the peer's time over ours beside it; figures named cpu take processor time instead of wall time, for machines that others
use too. The bare loops differ in their loss, torch's cross_entropy over whole logits or our fused one; "the bare loop" is the
faster of the two. Losses are compared. step: a vocabulary of 16,384. wide: one of 151,936 (Qwen2.5's), a smaller decoder.
checkpoint: what saving costs. gpu: runs where there is a CUDA device and is named as skipped elsewhere.

Text: the built-in sample, or FOLDER/web/*.parquet; a word's id is its hash, which costs the trainer the same as a tokenizer's.
Without --precision: bf16 if the CPU has bf16 arithmetic, else fp32 (the figure "precision" says which). Writes
benchmarks/results/trainer.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the product sets it: waiting threads sleep
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import torch  # noqa: E402

from benchmarks.machine import kept_figures, write_result  # noqa: E402
from benchmarks.trainer_gpu import gpu_figures  # noqa: E402
from benchmarks.trainer_peers import BareLoop, Clock, HuggingFace, Spent, World, make_world  # noqa: E402
from store.params import Json  # noqa: E402
from training.log import METRICS, TIMING, read_lines  # noqa: E402
from training.loop import train  # noqa: E402
from training.parallel import has_bf16  # noqa: E402
from training.params import ModelInit, TrainParams  # noqa: E402

SAME_LOSS, SAME_LOSS_HF = 1e-6, 2e-2
"""Relative: the bare loop with our loss does the same sums; transformers prints four digits, and rounds bf16 elsewhere."""
WARM_UP = 2
Figures = dict[str, Json]


@dataclass(frozen=True)
class Size:
    """What is trained: steps of a run, rows of seq_len tokens a step, and the model."""

    n_steps: int
    seq_len: int
    rows: int
    init: ModelInit
    n_pages: int


@dataclass(frozen=True)
class Job:
    """What was asked for, and a folder for it."""

    scratch: str
    data: str | None
    quick: bool
    precision: str
    n_rounds: int

    def world(self, size: Size) -> World:
        return make_world(self.scratch, self.data, size.seq_len, size.init.vocab_size or 0, size.n_pages)


BASE = ModelInit(model_type="qwen2", vocab_size=16384, hidden_size=384, n_layers=8, n_heads=6, n_kv_heads=2, intermediate_size=1152)
SMALL = BASE.model_copy(update={"n_layers": 3, "hidden_size": 256, "n_heads": 4, "intermediate_size": 768})
FULL, QUICK = Size(10, 512, 4, BASE, 600), Size(6, 256, 4, SMALL, 300)
WIDE = Size(8, 512, 2, SMALL.model_copy(update={"vocab_size": 151_936}), 300)
WIDE_QUICK = Size(4, 128, 2, WIDE.init, 200)


def main() -> None:
    """Time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/*.parquet; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="a smaller model, few steps (about a minute); writes no result file")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="default: bf16 if this CPU has it, else fp32")
    parser.add_argument("--rounds", type=int, default=3, help="times that every section with peers is run; --quick has one")
    parser.add_argument("--only", choices=tuple(SECTIONS), action="append", help="sections; default: all")
    options = parser.parse_args()
    precision = options.precision or ("bf16" if has_bf16() else "fp32")
    figures: Figures = {"step.precision": precision}
    for section in options.only or SECTIONS:
        scratch = tempfile.mkdtemp(prefix="trainer-")
        try:
            figures |= SECTIONS[section](Job(scratch, options.data, options.quick, precision, 1 if options.quick else options.rounds))
        finally:
            shutil.rmtree(scratch)
    for name, value in figures.items():
        print(f"{name:<40} {value:.5f}" if isinstance(value, float) else f"{name:<40} {value}")
    if not options.quick:
        kept = kept_figures("trainer", ",".join(options.only)) if options.only else {}
        about = f"{'the built-in sample' if options.data is None else 'real pages'}, {precision} on the CPU"
        print("written:", write_result("trainer", about, kept | figures, __doc__ or ""))


def params(size: Size, precision: str, **more: object) -> TrainParams:
    """One micro-batch a step; no evaluation, no checkpoint unless asked."""
    values: dict[str, object] = {
        "rows_per_step": size.rows, "micro_batch_rows": size.rows, "max_steps": size.n_steps + 1, "precision": precision,
        "learning_rate": 1e-3, "save_every_steps": None, "verify_tokens": False,
    }  # fmt: skip
    return TrainParams.model_validate({**values, **more})


def run_ours(world: World, size: Size, p: TrainParams, out: str, between: Callable[[int], None]) -> tuple[list[Spent], list[float]]:
    """(time of each step from hook to hook, losses). ``between(i)`` runs before step i, outside the measured time.

    The last step has no hook after it and is not counted.
    """
    spent: list[Spent] = []
    clock: list[Clock] = []

    def hook() -> bool:
        if clock:
            spent.append(clock.pop().stop())
        between(len(spent))
        clock.append(Clock())
        return False

    shutil.rmtree(out, ignore_errors=True)
    train(p, size.init, world.plan, world.stores, f"{out}/out", f"{out}/state", should_stop=hook)
    return spent, [float(str(line["loss"])) for line in read_lines(f"{out}/out/{METRICS}")]


def step_section(job: Job) -> Figures:
    return step_figures("step", QUICK if job.quick else FULL, job)


def wide_section(job: Job) -> Figures:
    return step_figures("wide", WIDE_QUICK if job.quick else WIDE, job)


def step_figures(name: str, size: Size, job: Job) -> Figures:
    """Ours, the bare loops and transformers' Trainer in turns."""
    world = job.world(size)
    p, out = params(size, job.precision), os.path.join(job.scratch, "ours")
    times: dict[str, list[Spent]] = {"ours": [], "fused": [], "whole": [], "hf": []}
    gaps: dict[str, float] = {}
    for number in range(job.n_rounds):
        face = HuggingFace(world, p, size.init, os.path.join(job.scratch, "hf"))
        peers = {"fused": BareLoop(world, p, size.init, whole=False), "whole": BareLoop(world, p, size.init, whole=True), "hf": face}
        spent: dict[str, list[Spent]] = {peer: [] for peer in peers}

        def turns(_: int, peers: dict[str, BareLoop | HuggingFace] = peers, spent: dict[str, list[Spent]] = spent) -> None:
            for peer, loop in peers.items():
                spent[peer].append(loop.step())

        ours, losses = run_ours(world, size, p, out, turns)
        for peer, found in {**spent, "ours": ours}.items():
            times[peer] += found[WARM_UP : len(ours)]  # the first steps warm up caches and allocators
        gaps |= {peer: max(gaps.get(peer, 0.0), gap(losses, loop.losses)) for peer, loop in peers.items()}
        print(f"{name}, round {number + 1}: seconds a step", {k: round(med(v), 3) for k, v in times.items()}, flush=True)
    check(gaps)
    timing = read_lines(f"{out}/state/{TIMING}")
    bare = min(("fused", "whole"), key=lambda peer: med(times[peer]))
    found: Figures = {}
    for kind, what in (("", "wall_s"), ("cpu_", "cpu_s")):
        for key, peer in {"bare_loop": bare, "bare_fused": "fused", "bare_whole_logits": "whole", "hf_trainer": "hf"}.items():
            found[f"{name}.{kind}ratio_vs_{key}"] = ratio(times[peer], times["ours"], what)
    return found | {
        f"{name}.seconds": med(times["ours"]), f"{name}.positions_per_s": size.rows * size.seq_len / med(times["ours"]),
        f"{name}.data_wait": sum(float(str(t["read_s"])) for t in timing) / sum(float(str(t["elapsed_s"])) for t in timing),
        f"{name}.n_timed": len(times["ours"]), f"{name}.n_parameters": world.n_parameters(size.init),
        f"{name}.vocabulary": world.vocab_size,
        **{f"{name}.loss_difference_{peer}": value for peer, value in gaps.items()},
    }  # fmt: skip


def check(gaps: dict[str, float]) -> None:
    """Losses of all must be ours: a faster loop that does other work proves nothing."""
    for peer, found in gaps.items():
        allowed = SAME_LOSS if peer == "fused" else SAME_LOSS_HF
        assert found <= allowed, f"losses of {peer} differ by {found:.2e}: it is not the same work"


def checkpoint_section(job: Job) -> Figures:
    """What saving costs: the time of steps with a checkpoint, and of those after it while it is written, above the others'."""
    size, every, after = QUICK if job.quick else FULL, 6, 2
    world, n_steps = job.world(size), 2 * every + 2 if job.quick else 4 * every + 2
    p = params(size, job.precision, save_every_steps=every, max_steps=n_steps)
    spent, _ = run_ours(world, size, p, os.path.join(job.scratch, "save"), lambda _: None)
    busy = {i for save in range(every - 1, len(spent), every) for i in range(save, min(save + 1 + after, len(spent)))}
    calm = [s for i, s in enumerate(spent) if i not in busy and i >= 2]
    n_saves = len(range(every - 1, len(spent), every))
    stall_s = max(0.0, sum(spent[i].wall_s - med(calm) for i in busy)) / n_saves
    interval = TrainParams().save_every_steps or every
    return {
        "checkpoint.stall_s": stall_s, "checkpoint.stall_steps": stall_s / med(calm), "checkpoint.n_saves": n_saves,
        "checkpoint.stall": stall_s / (interval * med(calm)), "checkpoint.interval_steps": interval,
    }  # fmt: skip


def ratio(one: Sequence[Spent], other: Sequence[Spent], what: str) -> float:
    """Median of the ratios of neighbours: what disturbs the machine disturbs both."""
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in zip(one, other, strict=True))


def med(spent: Sequence[Spent]) -> float:
    return statistics.median(s.wall_s for s in spent)


def gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Largest relative difference of losses of the same steps."""
    return max(abs(a - b) / a for a, b in zip(ours, theirs, strict=False))


def gpu_section(job: Job) -> Figures:
    return gpu_figures(job.scratch, job.data, quick=job.quick)


SECTIONS: dict[str, Callable[[Job], Figures]] = {
    "step": step_section,
    "wide": wide_section,
    "checkpoint": checkpoint_section,
    "gpu": gpu_section,
}

if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
