"""What is watched is what happened: figures against the logs, MFU against a count over masks, files where they belong."""

import gzip
import json
import os

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from training.families import block_mask
from training.job import TrainJob, run_job
from training.log import METRICS, TIMING, read_lines
from training.mfu import TERA
from training.order import RowOrder
from training.params import ModelInit, TrainParams
from training.rows import RowReader
from training.step import StepRecord
from training.watch import Watch, peak_of, timing_summary

PARAMS = TrainParams(
    learning_rate=1e-3, rows_per_step=4, micro_batch_rows=4, max_steps=6, precision="fp32", cpu_threads=1, save_every_steps=2,
    eval_every_steps=3, eval_rows=4, peak_tflops=0.5, tensorboard=True, profile_steps=(2, 3),
)  # fmt: skip
INIT = ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)


@pytest.fixture(scope="module")
def watched(world, tmp_path_factory):
    """A run stopped after four steps and gone on with; (folder, what was observed)."""
    pytest.importorskip("tensorboard")
    out = tmp_path_factory.mktemp("watched")
    job = TrainJob(params=PARAMS, init=INIT, pack=world.pack_url, tokens=world.urls(), out_dir=f"{out}/out", state_dir=f"{out}/state",
                   heldout={"held": world.heldout.artifact.folder.url}, watch_dir=f"{out}/watch")  # fmt: skip
    seen = []
    calls = iter(range(100))
    for stop in (lambda: next(calls) >= 4, None):
        run_job(job, should_stop=stop, observe=lambda step, figures: seen.append((step, dict(figures))))
    return out, seen


def test_figures_are_those_of_the_logs(watched):
    out, seen = watched
    steps = [(s, f) for s, f in seen if "loss" in f]
    metrics, timing = read_lines(f"{out}/out/{METRICS}"), read_lines(f"{out}/state/{TIMING}")
    assert [s for s, _ in steps] == [line["step"] for line in metrics] == [line["step"] for line in timing] == list(range(1, 7))
    for (_, figures), line, times in zip(steps, metrics, timing, strict=True):
        assert all(figures[k] == line[k] for k in ("loss", "lr", "grad_norm"))
        assert all(figures[k] == times[k] for k in ("elapsed_s", "tokens_per_s", "mfu", "read_s"))
        assert 0 <= figures["data_wait"] < 1 and figures["memory_bytes"] > 50e6 and figures["skipped"] == 0
        assert figures["positions_per_s"] * figures["elapsed_s"] == pytest.approx(4 * 64)
    scores = {s: f["heldout/held"] for s, f in seen if "heldout/held" in f}
    assert scores == {line["step"]: line["bits_per_byte"] for line in read_lines(f"{out}/out/heldout.jsonl")} and set(scores) == {
        0,
        3,
        6,
    }


def test_mfu_is_the_needed_work_over_the_peak(watched, world):
    """Against a count over tensors: weights of the products times real tokens, and True entries of the mask."""
    _, seen = watched
    figures = {s: f for s, f in seen if "mfu" in f}
    order = RowOrder.plan(world.plan.n_rows, 4, epochs=1, max_steps=6, seed=PARAMS.seed)
    reader = RowReader(world.plan, world.stores, 512)
    for step in range(1, 7):
        rows = reader.read(order.rows(step - 1))
        real = torch.from_numpy(rows.piece) >= 0
        pairs = (block_mask(torch.from_numpy(rows.piece))[:, 0] & real[:, :, None]).sum()
        weights = 2 * (4 * 32 * 32 + 3 * 32 * 64) + 512 * 32
        flops = 6 * weights * int(real.sum()) + 2 * 12 * 32 * int(pairs)
        assert figures[step]["mfu"] == pytest.approx(flops / (figures[step]["elapsed_s"] * 0.5 * TERA), rel=1e-12)
        assert figures[step]["tokens_per_s"] * figures[step]["elapsed_s"] == pytest.approx(int(real.sum()))


def test_rates_are_of_tokens_and_of_positions_and_waiting_is_a_share(world):
    watch = Watch(world.plan, None, None, 1, torch.device("cpu"))
    record = StepRecord(1, 2.0, 1e-3, 0.5, np.arange(2), 90, 100, 128, taken=False, seconds=4.0, data_wait_s=1.0)
    found = watch.figures(record)
    assert (found["tokens_per_s"], found["positions_per_s"], found["data_wait"], found["read_s"]) == (25.0, 32.0, 0.25, 1.0)
    assert found["skipped"] == 1.0 and found["mfu"] is None


def test_events_after_the_checkpoint_of_a_killed_run_are_replaced(world, tmp_path):
    """Step 3 was seen, and then again by the run that went on from step 2: it is there once, as the second saw it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last, loss in ((0, 3, 1.0), (2, 4, 2.0)):
        watch = Watch(world.plan, None, None, 1, torch.device("cpu"))
        watch._write_events(str(tmp_path))
        watch.begin(first)
        for step in range(first + 1, last + 1):
            watch.after(StepRecord(step, loss, 1e-3, 0.5, np.arange(2), 90, 100, 128, taken=True, seconds=1.0, data_wait_s=0.0))
        watch.close()
    found = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in found] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_event_files_hold_every_step_once_after_a_resume(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, seen = watched
    events = EventAccumulator(f"{out}/watch/tensorboard").Reload()
    losses = {e.step: e.value for e in events.Scalars("train/loss")}
    assert losses == {s: pytest.approx(f["loss"], rel=1e-6) for s, f in seen if "loss" in f}
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 7))
    assert [e.step for e in events.Scalars("heldout/held")] == [0, 3, 6]
    names = [f for d, _, files in os.walk(f"{out}/out") for f in files]
    assert not [n for n in names if "tfevents" in n or n == TIMING]


def test_the_profile_has_the_steps_asked_for(watched):
    out, _ = watched
    assert sorted(os.listdir(f"{out}/watch/profile")) == ["steps-00000002-00000003.json.gz", "steps-00000002-00000003.txt"]
    with gzip.open(f"{out}/watch/profile/steps-00000002-00000003.json.gz") as file:
        names = [e.get("name", "") for e in json.load(file)["traceEvents"]]
    assert sum("Optimizer.step" in n for n in names) == 2
    assert "aten::mm" in (out / "watch/profile/steps-00000002-00000003.txt").read_text()


def test_a_watched_run_leaves_the_bytes_of_an_unwatched_one(watched, world, tmp_path):
    out, _ = watched
    plain = PARAMS.model_copy(update={"peak_tflops": None, "tensorboard": False, "profile_steps": None})
    assert plain.identity(str) == PARAMS.identity(str)
    seen = []
    run_job(TrainJob(params=plain, init=INIT, pack=world.pack_url, tokens=world.urls(), out_dir=str(tmp_path / "out"),
                     state_dir=str(tmp_path / "state"), heldout={"held": world.heldout.artifact.folder.url}),
            observe=lambda _, figures: seen.append(figures.get("mfu")))  # fmt: skip
    for name in ("metrics.jsonl", "heldout.jsonl", "model/model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (out / "out" / name).read_bytes()
    assert set(seen) == {None} and not os.path.exists(tmp_path / "state/watch")


def test_the_summary_of_times_is_short_and_right():
    rng = np.random.default_rng(1)
    lines = [{"step": s + 1, "elapsed_s": 2.0, "tokens_per_s": float(rng.integers(90, 110)), "read_s": 0.01, "mfu": 0.4,
              "memory_bytes": 10.0 + s} for s in range(1000)]  # fmt: skip
    found = timing_summary(lines)
    assert found["data_wait_share"] == 0.005 and found["mfu"] == 0.4 and found["peak_memory_bytes"] == 1009
    assert found["tokens_per_s"] == float(np.median([line["tokens_per_s"] for line in lines]))
    assert len(found["speed_curve"]) == 200 and found["speed_curve"][-1][0] == 1000 and found["speed_curve"][0][0] == 5
    assert timing_summary([]) == {}


def test_a_given_peak_counts_and_a_cpu_has_none_of_its_own():
    assert peak_of(torch.device("cpu"), 2.0) == 2e12 and peak_of(torch.device("cpu"), None) is None


def test_profile_steps_are_checked():
    for steps in ((1, 2), (5, 4)):
        with pytest.raises(ValidationError, match="profile_steps"):
            TrainParams(profile_steps=steps)
