"""The run as a whole: it learns, gives the same bytes twice, and the same bytes after any interruption."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import ArtifactError, StepError
from training.job import TrainJob, run_job
from training.log import read_lines
from training.loop import train
from training.optimizer import build_optimizer
from training.params import ModelInit, TrainParams

INIT = ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)
PARAMS = TrainParams(
    learning_rate=2e-2, rows_per_step=8, micro_batch_rows=3, max_steps=20, eval_rows=16, cpu_threads=1, precision="fp32",
    save_every_steps=4, eval_every_steps=10, save_dtype="float32",
)  # fmt: skip


def run(world, folder: Path, params: TrainParams = PARAMS, *, state: str = "state", **more):
    return train(params, INIT, world.plan, world.stores, str(folder / "out"), str(folder / state), {"chain": world.heldout}, **more)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def straight(world, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, run(world, folder)


def test_it_learns_and_says_so(straight) -> None:
    folder, summary = straight
    assert summary["status"] == "finished" and summary["n_steps"] == 20 and summary["n_rows"] == 160
    scores = summary["heldout"]["chain"]
    assert scores["end"]["bits_per_byte"] < 0.85 * scores["start"]["bits_per_byte"]
    lines = read_lines(str(folder / "out/metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert lines[-1]["loss"] == summary["final_loss"] < lines[0]["loss"] - 0.5
    assert abs(lines[0]["loss"] - np.log(512)) < 0.2
    assert [line["step"] for line in read_lines(str(folder / "out/heldout.jsonl"))] == [0, 10, 20]
    assert sum(line["n_targets"] for line in lines) == summary["n_targets"]


def test_the_same_twice(world, straight, tmp_path) -> None:
    run(world, tmp_path)
    assert digests(tmp_path / "out") == digests(straight[0] / "out")


def test_interrupted_twice_gives_the_same_bytes(world, straight, tmp_path) -> None:
    for stop_after in (6, 13):
        asked = iter(range(100))
        already = max([0, *(int(n[5:]) for n in os.listdir(tmp_path / "state") if n.startswith("step-"))]) if stop_after == 13 else 0
        summary = run(world, tmp_path, should_stop=lambda a=asked, s=stop_after, k=already: next(a) + k >= s)
        assert summary["status"] == "stopped" and summary["n_steps"] == stop_after
        assert not (tmp_path / "out/model").exists()
    assert run(world, tmp_path) == straight[1]
    assert digests(tmp_path / "out") == digests(straight[0] / "out")


def test_a_crash_goes_back_to_the_last_checkpoint(world, straight, tmp_path, caplog) -> None:
    class PowerCutError(Exception):
        pass

    def cut(figures) -> None:
        if figures["step"] == 10:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        run(world, tmp_path, report=cut)
    assert sorted(n for n in os.listdir(tmp_path / "state") if "step" in n) == ["step-00000004", "step-00000008"]
    (tmp_path / "state/step-00000008/manifest.json").unlink()  # killed while saving
    (tmp_path / "state/step-00000009").mkdir()
    with (tmp_path / "state/timing.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 11, "elap')  # killed while writing
    assert run(world, tmp_path) == straight[1]
    assert "incomplete" in caplog.text
    assert [json.loads(line)["step"] for line in (tmp_path / "state/timing.jsonl").read_text().splitlines()] == [
        *range(1, 11),
        *range(5, 21),
    ]
    assert digests(tmp_path / "out") == digests(straight[0] / "out")
    assert sorted(n for n in os.listdir(tmp_path / "state") if "step" in n) == ["step-00000012", "step-00000016"]


def test_another_runs_checkpoint_is_refused(world, tmp_path) -> None:
    asked = iter(range(100))
    run(world, tmp_path, should_stop=lambda: next(asked) >= 2)
    with pytest.raises(ArtifactError, match="belongs to another run"):
        run(world, tmp_path, PARAMS.model_copy(update={"learning_rate": 1e-3}))


def test_micro_batches_change_rounding_only(world, straight, tmp_path) -> None:
    other = run(world, tmp_path, PARAMS.model_copy(update={"micro_batch_rows": 8, "max_steps": 20}))
    assert other["final_loss"] == pytest.approx(straight[1]["final_loss"], rel=1e-4)
    first = [read_lines(str(f / "out/metrics.jsonl"))[0] for f in (tmp_path, straight[0])]
    assert first[0]["loss"] == pytest.approx(first[1]["loss"], rel=1e-6)
    assert first[0]["grad_norm"] == pytest.approx(first[1]["grad_norm"], rel=1e-5)


def test_bf16_learns_about_as_well(world, straight, tmp_path) -> None:
    summary = run(world, tmp_path, PARAMS.model_copy(update={"precision": "bf16"}))
    assert summary["final_loss"] == pytest.approx(straight[1]["final_loss"], abs=0.05)


def test_gradient_checkpointing_changes_nothing(world, straight, tmp_path) -> None:
    params = PARAMS.model_copy(update={"gradient_checkpointing": True, "max_steps": 20})
    assert run(world, tmp_path, params)["final_loss"] == pytest.approx(straight[1]["final_loss"], rel=1e-6)


@pytest.mark.slow
def test_compiled_layers_agree_up_to_rounding(world, straight, tmp_path) -> None:
    """And with themselves: a compiled run that stopped goes on to the same bytes."""
    params = PARAMS.model_copy(update={"compile": True})
    whole = run(world, tmp_path / "whole", params)
    losses = [[line["loss"] for line in read_lines(str(f / "out/metrics.jsonl"))] for f in (tmp_path / "whole", straight[0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    asked = iter(range(100))
    run(world, tmp_path / "cut", params, should_stop=lambda: next(asked) >= 7)
    assert run(world, tmp_path / "cut", params) == whole
    assert digests(tmp_path / "cut/out") == digests(tmp_path / "whole/out")


def test_heldout_equals_transformers_document_by_document(world, straight) -> None:
    """The oracle: transformers' loss on each window alone, over the same documents."""
    from transformers import AutoModelForCausalLM

    from training.heldout import sample_documents

    folder, summary = straight
    model = AutoModelForCausalLM.from_pretrained(folder / "out/model", dtype=torch.float32)
    docs, nats, n_bytes = sample_documents(world.heldout, world.plan.seq_len, PARAMS.eval_rows), 0.0, 0
    for doc in docs:
        ids = torch.from_numpy(world.heldout.tokens(int(doc)).astype(np.int64))
        n_bytes += int(world.heldout.n_bytes[doc])
        for window in ids.split(world.plan.seq_len):
            if len(window) > 1:
                with torch.no_grad():
                    nats += float(model(input_ids=window[None], labels=window[None]).loss) * (len(window) - 1)
    end = summary["heldout"]["chain"]["end"]
    assert end["bits_per_byte"] == pytest.approx(nats / np.log(2) / n_bytes, rel=1e-5)
    assert end["n_docs"] == len(docs) > 5 and 0 < end["stderr"] < end["bits_per_byte"]


def test_a_diverging_run_fails_loudly(world, tmp_path) -> None:
    wild = PARAMS.model_copy(update={"learning_rate": 1e30, "clip_norm": None, "max_steps": 6, "warmup_ratio": 0.0})
    with pytest.raises(StepError, match="the loss of step"):
        run(world, tmp_path, wild)


def test_decay_is_for_matrices_only() -> None:
    from training.model import build_model

    model = build_model(ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=16, tie_word_embeddings=False), folder=None,
                        seq_len=8, vocab_size=32, eos_id=0, attention="sdpa")  # fmt: skip
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in g["params"]} for g in build_optimizer(PARAMS, model).param_groups)
    assert "lm_head.weight" in decayed and "model.layers.0.mlp.up_proj.weight" in decayed
    assert "model.embed_tokens.weight" in plain and "model.norm.weight" in plain and "model.layers.0.self_attn.q_proj.bias" in plain


def job_file(world, folder: Path, **params) -> Path:
    job = TrainJob(
        params=PARAMS.model_copy(update=params), init=INIT, pack=world.pack_url, tokens=world.urls(),
        heldout={"chain": world.heldout.artifact.folder.url}, out_dir=str(folder / "out"), state_dir=str(folder / "state"),
    )  # fmt: skip
    path = folder / "job.json"
    path.write_text(job.model_dump_json(by_alias=True))
    return path


def start(*arguments: str) -> subprocess.Popen[str]:
    root = Path(__import__("training").__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], env=env, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_sigterm_saves_and_the_same_command_goes_on(world, straight, tmp_path) -> None:
    path = job_file(world, tmp_path, save_every_steps=None)
    process = start("-m", "training", str(path))
    while len(read_lines(str(tmp_path / "out/metrics.jsonl"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert json.loads(out)["status"] == "stopped" and json.loads(out)["n_steps"] < 20
    from training.job import read_job

    assert run_job(read_job(str(path))) == straight[1]
    assert digests(tmp_path / "out") == digests(straight[0] / "out")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_see_the_same_rows(world, straight, tmp_path, sharding: str) -> None:
    """torchrun with two processes: losses equal up to rounding, and its checkpoint resumes in one process."""
    path = job_file(world, tmp_path, sharding=sharding, keep_checkpoints=9)
    process = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training", str(path))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    summary = json.loads(out.strip().splitlines()[-1])
    assert summary["n_processes"] == 2 and summary["n_targets"] == straight[1]["n_targets"]
    ours, theirs = (read_lines(str(f / "out/metrics.jsonl")) for f in (tmp_path, straight[0]))
    assert [x["loss"] for x in ours] == pytest.approx([x["loss"] for x in theirs], rel=1e-4)
    assert [x["grad_norm"] for x in ours[:3]] == pytest.approx([x["grad_norm"] for x in theirs[:3]], rel=1e-4)
    assert summary["heldout"]["chain"]["end"]["bits_per_byte"] == pytest.approx(
        straight[1]["heldout"]["chain"]["end"]["bits_per_byte"], rel=1e-4
    )
    one = run_job(TrainJob.model_validate_json(path.read_text()))
    assert one["n_processes"] == 1 and one["final_loss"] == pytest.approx(summary["final_loss"], rel=1e-4)
