"""Checkpoints: written beside the training, damaged ones passed over by name, a full disk told with what it needs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from store.errors import ResourceError
from training.loop import train
from training.model import PackedLM, build_model
from training.optimizer import build_optimizer
from training.parallel import Gang
from training.params import ModelInit, TrainParams
from training.state import Checkpoints

INIT = ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=32)
PARAMS = TrainParams(rows_per_step=4, micro_batch_rows=4, max_steps=7, cpu_threads=1, precision="fp32", save_every_steps=2,
                     keep_checkpoints=3, learning_rate=1e-2, save_dtype="float32")  # fmt: skip


class Subject:
    """A model, its optimizer and the checkpoints of one process."""

    def __init__(self, folder: Path, *, background: bool = True, keep: int = 2, run: str = "a run") -> None:
        self.gang = Gang.join(PARAMS)
        model = build_model(INIT, folder=None, seq_len=8, vocab_size=64, eos_id=0, attention="sdpa")
        self.wrapped = PackedLM(model, torch.float32)
        self.optimizer = build_optimizer(PARAMS, self.wrapped)
        self.checkpoints = Checkpoints(str(folder), run, keep, self.gang, background=background)

    def fill(self, value: float) -> None:
        with torch.no_grad():
            for parameter in self.wrapped.parameters():
                parameter.fill_(value)
                self.optimizer.state[parameter]["exp_avg"].fill_(-value)

    def values(self) -> set[float]:
        moments = (self.optimizer.state[p]["exp_avg"] for p in self.wrapped.parameters())
        return {v for t in [*self.wrapped.parameters(), *moments] for v in t.unique().tolist()}

    def save(self, step: int) -> None:
        self.fill(float(step))
        self.checkpoints.save(step, self.wrapped, self.optimizer)

    def load(self) -> int:
        return self.checkpoints.load_latest(self.wrapped, self.optimizer)


def steps(folder: Path) -> list[str]:
    return sorted(n for n in os.listdir(folder) if n.startswith("step-"))


def test_what_changes_after_save_returns_is_not_in_the_checkpoint(tmp_path, monkeypatch) -> None:
    """The write is held back until the weights have changed: only a copy taken at the step can be right."""
    begun, go = threading.Event(), threading.Event()
    import training.state as state

    write = state.write_shards

    def late(*arguments) -> None:
        begun.set()
        assert go.wait(30)
        write(*arguments)

    monkeypatch.setattr(state, "write_shards", late)
    subject = Subject(tmp_path)
    subject.save(5)
    assert begun.wait(30) and not (tmp_path / "step-00000005/manifest.json").exists()
    subject.fill(9.0)
    go.set()
    subject.checkpoints.wait()
    other = Subject(tmp_path)
    assert other.load() == 5 and other.values() == {5.0, -5.0}


def test_the_newest_are_kept(tmp_path) -> None:
    subject = Subject(tmp_path)
    for step in (1, 2, 3, 4):
        subject.save(step)
    subject.checkpoints.wait()
    assert steps(tmp_path) == ["step-00000003", "step-00000004"]


def truncate(folder: Path) -> str:
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-8])
    return "its manifest lists"


def change_a_byte(folder: Path) -> str:
    shard = next(folder.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(bytes(data))
    return "sha256"


def lose_a_shard(folder: Path) -> str:
    next(folder.glob("*.safetensors")).unlink()
    return "is missing"


def tear_the_manifest(folder: Path) -> str:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:40])
    return "manifest.json cannot be read"


def lose_the_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "incomplete"


@pytest.mark.parametrize("damage", [truncate, change_a_byte, lose_a_shard, tear_the_manifest, lose_the_manifest])
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path, caplog, damage) -> None:
    subject = Subject(tmp_path)
    for step in (3, 6):
        subject.save(step)
    subject.checkpoints.wait()
    said = damage(tmp_path / "step-00000006")
    other = Subject(tmp_path)
    assert other.load() == 3 and other.values() == {3.0, -3.0}
    assert "step-00000006" in caplog.text and said in caplog.text
    other.save(8)  # the damaged one must not count as one of the two kept
    other.checkpoints.wait()
    assert steps(tmp_path) == ["step-00000003", "step-00000008"]


def test_nothing_sound_means_from_the_start(tmp_path, caplog) -> None:
    subject = Subject(tmp_path)
    subject.save(2)
    subject.checkpoints.wait()
    truncate(tmp_path / "step-00000002")
    assert Subject(tmp_path).load() == 0
    assert "damaged" in caplog.text


def test_a_full_disk_is_told_before_a_byte_is_written(tmp_path, monkeypatch) -> None:
    subject = Subject(tmp_path)
    subject.save(2)
    subject.checkpoints.wait()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("training.state.shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ResourceError, match=r"the disk is full: a checkpoint takes .* GB.*room for 3 of them.*goes on after step 2"):
        subject.save(4)
    monkeypatch.undo()
    other = Subject(tmp_path)
    assert other.load() == 2 and other.values() == {2.0, -2.0}


@pytest.mark.parametrize("background", [True, False])
def test_a_disk_that_fills_up_while_writing(tmp_path, monkeypatch, background: bool) -> None:
    """The error surfaces in the training thread; the torn checkpoint is removed, the one before is read."""
    subject = Subject(tmp_path, background=background)
    subject.save(2)
    subject.checkpoints.wait()
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    subject.save(4)
    with pytest.raises(ResourceError, match="the disk is full: a checkpoint takes"):
        subject.checkpoints.wait()
    monkeypatch.setattr(os, "fsync", real)
    assert steps(tmp_path) == ["step-00000002"]
    assert Subject(tmp_path).load() == 2
    subject.save(6)
    subject.checkpoints.wait()
    assert steps(tmp_path) == ["step-00000002", "step-00000006"]


def test_a_failed_write_ends_the_run_at_the_next_step(world, tmp_path, monkeypatch) -> None:
    import training.state as state

    write, calls = state.write_shards, []

    def second_fails(path, tensors, group) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, tensors, group)

    def go():
        return train(PARAMS, INIT, world.plan, world.stores, str(tmp_path / "out"), str(tmp_path / "state"))

    monkeypatch.setattr(state, "write_shards", second_fails)
    with pytest.raises(ResourceError, match="goes on after step 2"):
        go()
    assert steps(tmp_path / "state") == ["step-00000002"]
    assert go()["status"] == "finished"
    assert [json.loads(line)["step"] for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()] == list(range(1, 8))
