"""A disk that is really full (a small file system of the test's own): one sentence, and the same command goes on when there is room.

The file system is mounted in a namespace of one shell, which nothing else sees and which ends with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.job import TrainJob, run_job
from training.params import ModelInit, TrainParams

ROOT = Path(__file__).parents[2]
INIT = ModelInit(hidden_size=128, n_layers=2, n_heads=2, intermediate_size=256)  # 1.6 MB in float32, a checkpoint 4.7 MB
PARAMS = TrainParams(learning_rate=1e-2, rows_per_step=4, micro_batch_rows=4, max_steps=7, cpu_threads=1, precision="fp32",
                     save_every_steps=3, save_dtype="float32")  # fmt: skip
SHELL = """
mount -t tmpfs -o size=$2 tmpfs "$1" || exit 99
"${@:4}"; echo "first $?"
mount -o remount,size=64m tmpfs "$1"
ls -d "$1"/state/step-* "$3"/state/step-* 2>/dev/null
"${@:4}"; echo "second $?"
rm -rf "$3"/kept && cp -r "$1" "$3"/kept
"""
LYING = "import shutil, sys; u = shutil.disk_usage; shutil.disk_usage = lambda p: u(p)._replace(free=1 << 40); "
MAIN = "from training.__main__ import main; sys.exit(main())"


def in_small_disk(tmp_path: Path, size: str, job: TrainJob, *, told_there_is_room: bool = False) -> tuple[list[str], str]:
    """(lines printed, standard error) of the job run twice: on a disk of this size, and again with room."""
    (tmp_path / "small").mkdir(exist_ok=True)
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    command = [sys.executable, "-c", (LYING if told_there_is_room else "import sys; ") + MAIN, str(tmp_path / "job.json")]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", SHELL, "bash", str(tmp_path / "small"), size, str(tmp_path), *command],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, text=True, capture_output=True, timeout=180,
        check=False,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    return done.stdout.splitlines(), done.stderr


def job(world, out: Path, state: Path) -> TrainJob:
    return TrainJob(params=PARAMS, init=INIT, pack=world.pack_url, tokens=world.urls(), out_dir=str(out), state_dir=str(state))


@pytest.fixture(scope="module")
def straight(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run_job(job(world, folder / "out", folder / "state"))
    return {p.name: p.read_bytes() for p in (folder / "out/model").iterdir()}


pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")]


@pytest.mark.parametrize("told_there_is_room", [False, True], ids=["before a byte is written", "while writing"])
def test_no_room_for_a_checkpoint(world, straight, tmp_path, told_there_is_room: bool) -> None:
    wanted = job(world, tmp_path / "out", tmp_path / "small/state")
    lines, said = in_small_disk(tmp_path, "3m", wanted, told_there_is_room=told_there_is_room)
    assert lines[0] == "first 2" and lines[-1] == "second 0", said
    assert "the disk is full: a checkpoint takes 0.00474 GB" in said and "goes on after step 0" in said and "Traceback" not in said
    assert {p.name: p.read_bytes() for p in (tmp_path / "out/model").iterdir()} == straight


@pytest.mark.parametrize("size", ["600k", "4k"], ids=["weights", "logs and config"])
def test_no_room_for_the_model_saves_the_last_step(world, straight, tmp_path, size: str) -> None:
    """The export fails after the last step, of which no interval was due: nothing is trained again."""
    wanted = job(world, tmp_path / "small/out", tmp_path)
    wanted = wanted.model_copy(update={"state_dir": str(tmp_path / "state")})
    lines, said = in_small_disk(tmp_path, size, wanted)
    assert lines[0] == "first 2" and lines[-1] == "second 0", said
    assert "the disk is full" in said and "Traceback" not in said
    if "the trained model takes" in said:
        assert any(line.endswith("step-00000007") for line in lines)
        assert "resuming after step 7 of 7" in said
    else:
        assert size == "4k"
    assert json.loads(lines[-2])["n_steps"] == 7
    assert {p.name: p.read_bytes() for p in (tmp_path / "kept/out/model").iterdir()} == straight
