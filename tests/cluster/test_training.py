"""The trainer under Ray Train gives what it gives in this process, and fails with the worker's own words."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from cluster.session import open_session
from cluster.training import run_training
from store.errors import InputError, StepError
from store.fs import Folder
from store.tokens import TokenStore
from training.job import TrainJob, run_job
from training.log import read_lines
from training.params import ModelInit, TrainParams

PARAMS = TrainParams(
    learning_rate=2e-2, rows_per_step=8, micro_batch_rows=4, max_steps=12, eval_rows=8, cpu_threads=1, precision="fp32",
    save_every_steps=4, max_failures=0,
)  # fmt: skip


def _training_fixtures():
    """The small world of the training room's tests; tests are no package, so it is loaded by path."""
    path = Path(__file__).parent.parent / "training" / "conftest.py"
    spec = importlib.util.spec_from_file_location("training_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_world"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_job(tmp_path_factory):
    made, root = _training_fixtures(), Folder(str(tmp_path_factory.mktemp("world")))
    rng = np.random.default_rng(0)
    store = TokenStore.open(made.write_tokens(root, "train", made.chain_docs(rng, 80)))
    held = made.write_tokens(root, "held", made.chain_docs(rng, 20)).folder.url
    pack = made.write_pack(root, made.pack([store])).folder.url

    def job(folder: Path, tokens: str = store.artifact.folder.url, **params) -> TrainJob:
        return TrainJob(
            params=PARAMS.model_copy(update=params), init=ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64),
            pack=pack, tokens=[tokens], heldout={"chain": held}, out_dir=str(folder / "out"), state_dir=str(folder / "state"),
        )  # fmt: skip

    return job


@pytest.fixture(scope="module")
def session():
    with open_session("local", n_cpus=2) as opened:
        yield opened


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_one_worker_gives_the_bytes_of_this_process(session, make_job, tmp_path) -> None:
    seen = []
    summary = run_training(make_job(tmp_path / "ray"), watch=seen.append)
    assert summary == run_job(make_job(tmp_path / "here"))
    assert digests(tmp_path / "ray/out") == digests(tmp_path / "here/out")
    assert [line["step"] for line in seen] == list(range(1, 13))


@pytest.mark.slow
def test_a_second_run_goes_on_from_the_first_ones_checkpoint(session, make_job, tmp_path) -> None:
    first = run_training(make_job(tmp_path))
    before = digests(tmp_path / "out")
    assert run_training(make_job(tmp_path)) == first and digests(tmp_path / "out") == before


@pytest.mark.slow
def test_two_workers_agree_up_to_rounding(session, make_job, tmp_path) -> None:
    two, one = run_training(make_job(tmp_path / "two"), n_workers=2), run_job(make_job(tmp_path / "one"))
    assert two["n_processes"] == 2 and two["n_targets"] == one["n_targets"]
    losses = [[line["loss"] for line in read_lines(str(tmp_path / n / "out/metrics.jsonl"))] for n in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_users_error_comes_back_as_it_is(session, make_job, tmp_path, n_workers: int) -> None:
    job = make_job(tmp_path).model_copy(update={"init": ModelInit(from_=str(tmp_path / "absent"))})
    with pytest.raises(InputError, match="no such model folder"):
        run_training(job, n_workers)


def test_a_crash_is_told_in_its_own_words(session, make_job, tmp_path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(StepError, match=r"training failed: .*(FileExistsError|NotADirectoryError)"):
        run_training(make_job(tmp_path))


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_goes_on(session, make_job, tmp_path) -> None:
    killed = []

    def kill_once(line) -> None:
        if not killed and line["step"] >= 5:
            killed.append(_kill_worker())

    summary = run_training(make_job(tmp_path / "killed", max_failures=2, max_steps=120), watch=kill_once)
    assert killed and summary == run_job(make_job(tmp_path / "here", max_steps=120))
    assert digests(tmp_path / "killed/out") == digests(tmp_path / "here/out")


def _kill_worker() -> int:
    """SIGKILL the training worker of this process's own Ray."""
    for process in psutil.Process().children(recursive=True):
        if "RayTrainWorker" in " ".join(process.cmdline()):
            os.kill(process.pid, 9)
            return process.pid
    raise AssertionError("no training worker found")
