"""The trainer against a bare PyTorch loop and the Trainer of transformers, on the same packed rows and the same model.

    python benchmarks/trainer.py [--data FOLDER] [--quick] [--precision bf16|fp32] [--only SECTION]

One process, one machine. Our step and the bare loop's step alternate step by step (the bare one runs inside the hook that asks ours
whether to stop, so ours is timed from hook to hook: logging, checks and all); runs of transformers' Trainer alternate with these.
Losses are compared. Text: the built-in sample, or FOLDER/web/*.parquet; a word's id is its hash, which costs the trainer the same as a
tokenizer's. The CUDA section runs where there is a GPU and is named as skipped elsewhere. Writes benchmarks/results/trainer.json.
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

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import torch  # noqa: E402

from benchmarks.machine import write_result  # noqa: E402
from benchmarks.trainer_gpu import gpu_figures  # noqa: E402
from benchmarks.trainer_peers import BareLoop, Clock, HuggingFace, Spent, World, make_world  # noqa: E402
from store.params import Json  # noqa: E402
from training.log import METRICS, TIMING, read_lines  # noqa: E402
from training.loop import train  # noqa: E402
from training.params import ModelInit, TrainParams  # noqa: E402

SAME_LOSS = 1e-6
Figures = dict[str, Json]


@dataclass(frozen=True)
class Size:
    """What is trained: steps timed in a run, rounds, and the model."""

    n_steps: int
    n_rounds: int
    seq_len: int
    init: ModelInit


FULL = Size(24, 3, 512, ModelInit(model_type="qwen2", vocab_size=16384, hidden_size=384, n_layers=8, n_heads=6, n_kv_heads=2,
                                  intermediate_size=1152))  # fmt: skip
QUICK = Size(6, 1, 256, FULL.init.model_copy(update={"n_layers": 3, "hidden_size": 256, "n_heads": 4, "intermediate_size": 768}))


def main() -> None:
    """Build the rows, time, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/*.parquet; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="a smaller model, few steps (under a minute); writes no result file")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--only", choices=("step", "checkpoint", "gpu"), action="append", help="sections; default: all")
    options = parser.parse_args()
    size, sections = QUICK if options.quick else FULL, options.only or ["step", "checkpoint", "gpu"]
    scratch = tempfile.mkdtemp(prefix="trainer-")
    try:
        world = make_world(scratch, options.data, size.seq_len, size.init.vocab_size or 0, n_pages=600 if options.quick else 3000)
        figures: Figures = {}
        if "step" in sections:
            figures |= step_figures(world, size, options.precision, scratch)
        if "checkpoint" in sections:
            figures |= checkpoint_figures(world, size, options.precision, scratch)
        if "gpu" in sections:
            figures |= gpu_figures(scratch, options.data, quick=options.quick)
    finally:
        shutil.rmtree(scratch)
    for name, value in figures.items():
        print(f"{name:<40} {value:.5f}" if isinstance(value, float) else f"{name:<40} {value}")
    if not options.quick:
        print("written:", write_result("trainer", world.about, figures, __doc__ or ""))


def params(size: Size, precision: str, **more: object) -> TrainParams:
    """Four rows a step in one micro-batch; no evaluation, no checkpoint unless asked."""
    values: dict[str, object] = {
        "rows_per_step": 4, "micro_batch_rows": 4, "max_steps": size.n_steps + 1, "precision": precision, "learning_rate": 1e-3,
        "save_every_steps": None, "verify_tokens": False,
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


def step_figures(world: World, size: Size, precision: str, scratch: str) -> Figures:
    """Ours against the bare loop and against transformers' Trainer."""
    p, out = params(size, precision), os.path.join(scratch, "step")
    ours: list[Spent] = []
    bare: list[Spent] = []
    face: list[Spent] = []
    worst = {"bare": 0.0, "hf": 0.0}
    for number in range(size.n_rounds):
        loop = BareLoop(world, p, size.init)
        times: list[Spent] = []
        spent, losses = run_ours(world, size, p, out, lambda _, loop=loop, times=times: times.append(loop.step()))
        ours, bare = ours + spent[2:], bare + times[2 : len(spent)]  # the first steps warm up caches and allocators
        worst["bare"] = max(worst["bare"], gap(losses, loop.losses))
        timing = read_lines(f"{out}/state/{TIMING}")
        peer = HuggingFace(world, p, size.init, os.path.join(scratch, "hf"))
        face += peer.run()[2:]
        worst["hf"] = max(worst["hf"], gap(losses, peer.losses))
        print(
            f"round {number + 1}: ours {med(spent):.3f} s, bare {med(times):.3f} s, transformers {med(face):.3f} s a step", flush=True
        )
    assert worst["bare"] <= SAME_LOSS, f"the bare loop's losses differ by {worst['bare']:.2e}: it is not the same work"
    assert worst["hf"] <= 2e-2, f"losses of transformers' Trainer differ by {worst['hf']:.2e}: it is not the same work"
    n_tokens = 4 * size.seq_len
    return {
        "step.ratio_vs_bare_loop": ratio(bare, ours, "wall_s"), "step.cpu_ratio_vs_bare_loop": ratio(bare, ours, "cpu_s"),
        "step.ratio_vs_hf_trainer": med(face) / med(ours), "step.seconds": med(ours), "step.positions_per_s": n_tokens / med(ours),
        "step.data_wait": sum(float(str(t["read_s"])) for t in timing) / sum(float(str(t["elapsed_s"])) for t in timing),
        "step.n_timed": len(ours), "step.n_parameters": world.n_parameters(size.init),
        "loss.difference_vs_bare_loop": worst["bare"], "loss.difference_vs_hf_trainer": worst["hf"],
    }  # fmt: skip


def checkpoint_figures(world: World, size: Size, precision: str, scratch: str) -> Figures:
    """What saving costs: the time of steps with a checkpoint, and of those after it while it is written, above the others'."""
    every, after = 6, 2
    n_steps = 4 * every + 2 if size is FULL else 2 * every + 2
    p = params(size, precision, save_every_steps=every, max_steps=n_steps)
    spent, _ = run_ours(world, size, p, os.path.join(scratch, "save"), lambda _: None)
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


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
