"""Real processes, killed: one of a gang, all of it, a run by itself; and the bytes of an undisturbed run at the same world size."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from training.job import TrainJob, run_job
from training.log import read_lines
from training.params import ModelInit, TrainParams

ROOT = Path(__file__).parents[2]
PARAMS = TrainParams(learning_rate=1e-2, rows_per_step=8, micro_batch_rows=4, max_steps=60, cpu_threads=1, precision="fp32",
                     save_every_steps=5, eval_rows=8, save_dtype="float32")  # fmt: skip
INIT = ModelInit(hidden_size=64, n_layers=2, n_heads=2, intermediate_size=128)


def write_job(world, folder: Path, **params) -> tuple[TrainJob, str]:
    folder.mkdir(parents=True)
    job = TrainJob(
        params=PARAMS.model_copy(update=params), init=INIT, pack=world.pack_url, tokens=world.urls(),
        heldout={"chain": world.heldout.artifact.folder.url}, out_dir=str(folder / "out"), state_dir=str(folder / "state"),
    )  # fmt: skip
    (folder / "job.json").write_text(job.model_dump_json(by_alias=True))
    return job, str(folder / "job.json")


def digests(folder: str) -> dict[str, str]:
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def start(*arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen([sys.executable, *arguments], env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def gang(path: str, max_restarts: int = 0) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(max_restarts),
            "-m", "training", path]  # fmt: skip


def disturb(process: subprocess.Popen[str], job: TrainJob, act: Callable[[psutil.Process], None]) -> tuple[int, str]:
    """Do something to a run that has taken ten steps; (exit code, standard error)."""
    while len(read_lines(f"{job.out_dir}/metrics.jsonl")) < 10:
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)
    act(psutil.Process(process.pid))
    _, said = process.communicate(timeout=500)
    return process.returncode, said


def kill_one(agent: psutil.Process) -> None:
    workers = [p for p in agent.children() if "training" in p.cmdline()]
    assert len(workers) == 2
    workers[1].kill()


def kill_all(agent: psutil.Process) -> None:
    for process in [agent, *agent.children(recursive=True)]:
        process.kill()


@pytest.fixture(scope="module")
def two(world, tmp_path_factory) -> dict[str, str]:
    """What an undisturbed gang of two leaves."""
    job, path = write_job(world, tmp_path_factory.mktemp("two") / "job")
    process = start(*gang(path))
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said[-3000:]
    return digests(job.out_dir)


@pytest.mark.slow
def test_a_run_killed_and_given_again(world, tmp_path) -> None:
    job, path = write_job(world, tmp_path / "killed")
    code, _ = disturb(start("-m", "training", path), job, lambda p: p.kill())
    assert code == -signal.SIGKILL and 10 <= len(read_lines(f"{job.out_dir}/metrics.jsonl")) < 60
    run_job(job)
    straight, _ = write_job(world, tmp_path / "straight")
    run_job(straight)
    assert digests(job.out_dir) == digests(straight.out_dir)


@pytest.mark.slow
def test_one_of_two_killed_and_the_gang_goes_on_by_itself(world, two, tmp_path) -> None:
    job, path = write_job(world, tmp_path / "one")
    code, said = disturb(start(*gang(path, max_restarts=1)), job, kill_one)
    assert code == 0, said[-3000:]
    assert "resuming after step" in said
    assert digests(job.out_dir) == two


LATE = """
import os, time
from training.parallel import Gang
from training.params import TrainParams
attempt, second = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), os.environ["RANK"] == "1"
if attempt and second:
    time.sleep(2)
gang = Gang.join(TrainParams(cpu_threads=1))
gang.wait()
os.write(1, f"met {attempt}\\n".encode())  # at once, or lines of two processes may mix
gang.wait()
if attempt < 4 and second:
    os._exit(1)
gang.wait()
"""


@pytest.mark.slow
def test_a_restarted_process_waits_for_its_peer_and_not_for_the_dead(torchrun) -> None:
    """The second process dies when all have met, and is late in the next attempt, when torchrun's store still has its old address.

    The one with the lower address calls the other, so that one attempt would go well half of the time.
    """
    assert sorted(torchrun(LATE, max_restarts=4)) == sorted([f"met {n}" for n in range(5)] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("act", [kill_one, kill_all])
def test_a_gang_killed_and_the_same_command(world, two, tmp_path, act) -> None:
    job, path = write_job(world, tmp_path / "gang")
    code, _ = disturb(start(*gang(path)), job, act)
    assert code != 0 and not Path(job.out_dir, "model").exists()
    again = start(*gang(path))
    _, said = again.communicate(timeout=500)
    assert again.returncode == 0 and "resuming after step" in said, said[-3000:]
    assert digests(job.out_dir) == two


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_on_all(world, two, tmp_path) -> None:
    """No interval: only the signal can have saved. torchrun passes it on and waits."""
    job, path = write_job(world, tmp_path / "term", save_every_steps=None)
    disturb(start(*gang(path)), job, lambda p: p.send_signal(signal.SIGTERM))
    (saved,) = Path(job.state_dir).glob("step-*")
    done = len(read_lines(f"{job.out_dir}/metrics.jsonl"))
    assert saved.name == f"step-{done:08d}" and 10 <= done < 60 and (saved / "manifest.json").exists()
    again = start(*gang(path))
    _, said = again.communicate(timeout=500)
    assert again.returncode == 0 and f"resuming after step {done} of 60" in said, said[-3000:]
    assert digests(job.out_dir) == two
