"""The trainer under Ray Train gives what it gives in this process, and fails with the worker's own words."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray

from cluster.interruption import Signals, owned
from cluster.session import open_session
from cluster.training import run_training
from store.errors import InputError, StepError
from training.job import run_job
from training.log import read_lines
from training.params import ModelInit


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


def _kill_worker(number: int = signal.SIGKILL) -> int:
    """Signal the training worker of this process's own Ray."""
    for process in psutil.Process().children(recursive=True):
        if "RayTrainWorker" in " ".join(process.cmdline()):
            os.kill(process.pid, number)
            return process.pid
    raise AssertionError("no training worker found")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["worker", "driver"])
def test_sigterm_saves_and_the_same_call_goes_on(session, make_job, tmp_path, target: str) -> None:
    """To a worker, or to this process, in whose main thread the run was started. No interval: only the signal can have saved."""
    sent = []

    def send(line) -> None:
        if not sent and line["step"] >= 5:
            sent.append(_kill_worker(signal.SIGTERM) if target == "worker" else os.kill(os.getpid(), signal.SIGTERM))

    job = make_job(tmp_path / "stopped", max_steps=1500, save_every_steps=None, eval_rows=8)
    before = signal.getsignal(signal.SIGTERM)
    first = run_training(job, watch=send)
    assert sent and first["status"] == "stopped" and 5 <= first["n_steps"] < 1500
    assert signal.getsignal(signal.SIGTERM) is before
    assert [p.name for p in (tmp_path / "stopped/state").glob("step-*")] == [f"step-{first['n_steps']:08d}"]
    again = make_job(tmp_path / "stopped", max_steps=1500, save_every_steps=None, eval_rows=8)
    asked = iter(range(10_000))
    second = run_job(again, should_stop=lambda: next(asked) >= 3)
    assert second["n_steps"] == first["n_steps"] + 3
    lines = read_lines(str(tmp_path / "stopped/out/metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, second["n_steps"] + 1))


DRIVER = """
import sys
from cluster.session import open_session
from cluster.training import run_training
from training.job import read_job
if __name__ == "__main__":
    with open_session("local", n_cpus=2):
        print(run_training(read_job(sys.argv[1]))["status"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True], ids=["driver", "all"])
def test_a_killed_driver_or_everything_killed_and_the_same_command(make_job, tmp_path, everything: bool) -> None:
    job = make_job(tmp_path / "killed", max_steps=150)
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    (tmp_path / "driver.py").write_text(DRIVER)
    root = Path(__file__).parents[2]
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "job.json")]
    env = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, env=env, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        while len(read_lines(f"{job.out_dir}/metrics.jsonl")) < 10:
            assert driver.poll() is None
            time.sleep(0.02)
        victims = [driver.pid, *(p.pid for p in psutil.Process(driver.pid).children(recursive=True) if everything)]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(read_lines(f"{job.out_dir}/metrics.jsonl")) < 150
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout.split()[-1:] == ["finished"], done.stderr[-2000:]
    run_job(make_job(tmp_path / "here", max_steps=150))
    assert digests(tmp_path / "killed/out") == digests(tmp_path / "here/out")


def test_a_gang_that_is_no_longer_the_owner_ends(tmp_path) -> None:
    with owned(str(tmp_path), "first"):
        mine = Signals(str(tmp_path), "first")
        assert not mine.stop()
        with owned(str(tmp_path), "second"):
            assert not Signals(str(tmp_path), "second").stop()
            with pytest.raises(StepError, match="another run has taken over"):
                Signals(str(tmp_path), "first").stop()


@pytest.mark.slow
def test_a_machine_about_to_be_taken_makes_the_gang_save_and_go_on(session, make_job, tmp_path) -> None:
    """Ray is told that the node will be drained; no interval, so only that can have saved."""
    from ray._raylet import GcsClient

    job, seen = make_job(tmp_path, max_steps=1200, save_every_steps=None), []

    def drain(line) -> None:
        if line["step"] >= 3 and not seen:
            seen.append(line["step"])
            client = GcsClient(address=ray.get_runtime_context().gcs_address)
            node = ray.get_runtime_context().get_node_id()
            client.drain_node(node, 2, "a test", int((time.time() + 3600) * 1000))  # 2: preemption
        if line["step"] > 3 and list((tmp_path / "state").glob("step-*/manifest.json")):
            seen.append(line["step"])

    summary = run_training(job, watch=drain)
    assert summary["status"] == "finished" and summary["n_steps"] == 1200
    assert len(seen) > 1 and seen[1] < 1200, "saved long before the end"
