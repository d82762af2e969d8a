"""What can be wrong with a run's inputs, and what becomes of it: an error that names the thing, and a state that stays usable."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from store.artifact import Artifact
from store.errors import ArtifactError, InputError, StepError
from store.fs import Folder
from store.tokens import TokenStore
from training.job import TrainJob, run_job
from training.log import read_lines
from training.loop import train
from training.params import ModelInit, TrainParams
from training.step import Stepper, StepRecord

INIT = ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=32)
PARAMS = TrainParams(rows_per_step=4, micro_batch_rows=4, max_steps=6, cpu_threads=1, precision="fp32", save_every_steps=2,
                     learning_rate=1e-2, save_dtype="float32")  # fmt: skip


def run(world, folder: Path, *, stores=None, init: ModelInit = INIT, params: TrainParams = PARAMS):
    return train(params, init, world.plan, stores or world.stores, str(folder / "out"), str(folder / "state"))


def copied(world, folder: Path) -> list[Path]:
    """The token artifacts in a folder of their own, to be damaged."""
    out = []
    for number, url in enumerate(world.urls()):
        shutil.copytree(url, folder / str(number) / Path(url).name)
        out.append(folder / str(number) / Path(url).name)
    return out


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_token_shard_is_named(world, tmp_path, verify: bool) -> None:
    folders = copied(world, tmp_path / "tokens")
    shard = sorted(p for p in folders[0].rglob("*") if p.is_file() and "00001" in p.name and p.stat().st_size)[0]
    shard.unlink()
    job = TrainJob(params=PARAMS.model_copy(update={"verify_tokens": verify}), init=INIT, pack=world.pack_url,
                   tokens=[str(f) for f in folders], out_dir=str(tmp_path / "out"), state_dir=str(tmp_path / "state"))  # fmt: skip
    with pytest.raises((ArtifactError, InputError)) as met:
        run_job(job)
    assert "00001" in str(met.value) and not (tmp_path / "out/model").exists()


def test_a_changed_token_shard_is_named(world, tmp_path) -> None:
    folders = copied(world, tmp_path / "tokens")
    shard = max((p for p in folders[1].rglob("*") if "00000" in p.name), key=lambda p: p.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(bytes(data))
    stores = [TokenStore.open(Artifact.open(Folder(str(f)))) for f in folders]
    with pytest.raises(ArtifactError, match=shard.name.split(".")[0]):
        run(world, tmp_path, stores=stores)


def test_a_token_the_model_has_no_embedding_for_is_named_and_leaves_the_checkpoints(world, tmp_path, monkeypatch) -> None:
    """A store that claims a smaller vocabulary than its ids: met when the row is read, at whatever step that is."""
    from training.rows import RowReader

    gather = RowReader._gather

    def wrong_in_row_of_step_five(self, found):
        ids = gather(self, found)
        calls.append(1)
        if len(calls) == 5:
            ids[7] = 99_999
            self._refuse_token(7, ids, found.piece, found.length)
        return ids

    calls: list[int] = []
    monkeypatch.setattr(RowReader, "_gather", wrong_in_row_of_step_five)
    with pytest.raises(InputError, match=r"token id 99999 in document \d+ is outside the model's vocabulary.*below 512"):
        run(world, tmp_path)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "state").glob("step-*")) == ["step-00000002", "step-00000004"]
    assert run(world, tmp_path)["status"] == "finished"


def test_a_vocabulary_smaller_than_the_ids_is_refused(world, tmp_path) -> None:
    from training.model import build_model

    small = build_model(INIT, folder=None, seq_len=world.plan.seq_len, vocab_size=100, eos_id=0, attention="sdpa")
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(InputError, match=r"token id \d+ in document \d+ is outside the model's vocabulary.*below 100"):
        run(world, tmp_path, init=ModelInit(from_=str(tmp_path / "small")))


def test_a_loss_that_is_not_a_number_names_step_and_rows_and_the_run_can_go_on(world, tmp_path, monkeypatch) -> None:
    """The weights before it are kept: the same call, with the cause gone, ends as if nothing had happened."""
    backward, calls = Stepper._backward, []

    def poisoned(self, rows, n_targets):
        nats, wait = backward(self, rows, n_targets)
        calls.append(rows)
        return (nats * float("nan") if len(calls) == 5 else nats), wait

    monkeypatch.setattr(Stepper, "_backward", poisoned)
    with pytest.raises(StepError, match=r"the loss of step 5 is nan; it had rows \d+, \d+, \d+, \d+ of the plan") as met:
        run(world, tmp_path / "met")
    assert ", ".join(map(str, calls[4].tolist())) in str(met.value)
    monkeypatch.undo()
    assert run(world, tmp_path / "met") == run(world, tmp_path / "straight")
    assert (tmp_path / "met/out/model/model.safetensors").read_bytes() == (
        tmp_path / "straight/out/model/model.safetensors"
    ).read_bytes()


def test_an_infinite_gradient_is_told(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("training.step.total_norm", lambda _: torch.tensor(float("inf")))
    with pytest.raises(StepError, match="the gradient norm of step 1 is inf; it had rows"):
        run(world, tmp_path)


def test_hooks_see_every_step_and_may_refuse_one(world, tmp_path, monkeypatch) -> None:
    """A refused step changes no weight and is marked in the log; the hook's figures are the log's."""
    seen: list[StepRecord] = []
    weights: list[torch.Tensor] = []

    class Refuse:
        def accepts(self, step: int, loss: float, grad_norm: float, rows: np.ndarray) -> bool:
            return step != 3

        def after(self, record: StepRecord) -> None:
            seen.append(record)

    run_step = Stepper.run

    def with_hook(self, step, rows, rate):
        if not any(isinstance(h, Refuse) for h in self.hooks):
            self.hooks.insert(0, Refuse())
        record = run_step(self, step, rows, rate)
        weights.append(torch.cat([p.detach().flatten() for p in self.wrapped.parameters()]).clone())
        return record

    monkeypatch.setattr(Stepper, "run", with_hook)
    run(world, tmp_path)
    assert [r.step for r in seen] == [1, 2, 3, 4, 5, 6] and [r.taken for r in seen] == [True, True, False, True, True, True]
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[2], weights[3])
    lines = read_lines(str(tmp_path / "out/metrics.jsonl"))
    assert [line.get("skipped") for line in lines] == [None, None, True, None, None, None]
    assert [line["loss"] for line in lines] == [r.loss for r in seen]
    first = seen[0]
    lengths = [n for r in first.rows for *_, n in world.plan.row(int(r))]
    assert first.n_tokens == sum(lengths) and first.n_targets == sum(n - 1 for n in lengths)
    assert first.n_positions == 4 * world.plan.seq_len and 0 < first.data_wait_s < first.seconds
