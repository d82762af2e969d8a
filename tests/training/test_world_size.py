"""Two processes, then one, then two: the same global batches, and losses equal up to rounding, under torchrun with gloo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.job import TrainJob, run_job
from training.log import read_lines
from training.params import LoraParams, ModelInit, TrainParams

INIT = ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)
PARAMS = TrainParams(
    learning_rate=5e-3, rows_per_step=8, micro_batch_rows=2, max_steps=12, eval_rows=16, cpu_threads=1, precision="fp32",
    save_every_steps=3, save_dtype="float32",
)  # fmt: skip
STOP_AFTER = """
import os, sys
from training.job import read_job, run_job
asked, last = iter(range(1000)), int(sys.argv[2])
summary = run_job(read_job(sys.argv[1]), should_stop=lambda: next(asked) >= last)
if os.environ["RANK"] == "0":
    print(summary["status"], summary["n_steps"], summary["n_processes"])
"""


def job(world, folder: Path, **params) -> TrainJob:
    return TrainJob(
        params=PARAMS.model_copy(update=params), init=INIT, pack=world.pack_url, tokens=world.urls(),
        heldout={"chain": world.heldout.artifact.folder.url}, out_dir=str(folder / "out"), state_dir=str(folder / "state"),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("sharding", "lora"), [("none", None), ("full", None), ("full", LoraParams(rank=4, dropout=0.0))])
def test_two_one_two(world, torchrun, tmp_path, sharding: str, lora: LoraParams | None) -> None:
    straight = job(world, tmp_path / "straight", lora=lora)
    whole = run_job(straight)
    cut = job(world, tmp_path / "cut", sharding=sharding, lora=lora)
    path = tmp_path / "job.json"
    path.write_text(cut.model_dump_json(by_alias=True))
    assert "stopped 5 2" in torchrun(STOP_AFTER, str(path), "5")
    asked = iter(range(1000))
    one = run_job(cut, should_stop=lambda: next(asked) >= 4)
    assert (one["status"], one["n_steps"], one["n_processes"]) == ("stopped", 9, 1)
    assert "finished 12 2" in torchrun(STOP_AFTER, str(path), "999")
    ours, theirs = (read_lines(f"{j.out_dir}/metrics.jsonl") for j in (cut, straight))
    same = ("step", "lr", "n_rows", "n_targets")
    assert [[x[k] for k in same] for x in ours] == [[x[k] for k in same] for x in theirs]
    assert [x["loss"] for x in ours] == pytest.approx([x["loss"] for x in theirs], rel=1e-5)
    held = [json.loads(x) for x in (tmp_path / "cut/out/heldout.jsonl").read_text().splitlines()]
    assert held[-1]["bits_per_byte"] == pytest.approx(whole["heldout"]["chain"]["end"]["bits_per_byte"], rel=1e-5)
