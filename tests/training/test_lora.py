"""Adapters: peft's own merge is the oracle; training them resumes exactly; the merged model and the adapter both load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from store.errors import InputError
from training.loop import train
from training.lora import add_adapters
from training.model import build_model
from training.params import LoraParams, ModelInit, TrainParams

peft = pytest.importorskip("peft")
INIT = ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64, initializer_range=0.1)
LORA = LoraParams(rank=4, alpha=16.0, dropout=0.1)
PARAMS = TrainParams(rows_per_step=8, micro_batch_rows=4, max_steps=10, cpu_threads=1, precision="fp32", save_every_steps=3,
                     learning_rate=2e-2, save_dtype="float32", lora=LORA)  # fmt: skip


def small(world):
    return build_model(INIT, folder=None, seq_len=world.plan.seq_len, vocab_size=512, eos_id=0, attention="sdpa")


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(world, folder: Path, **more):
    return train(PARAMS, INIT, world.plan, world.stores, str(folder / "out"), str(folder / "state"), {"chain": world.heldout}, **more)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return folder, run(world, folder)


def test_it_learns_and_only_adapters_change(world, trained) -> None:
    folder, summary = trained
    scores = summary["heldout"]["chain"]
    assert scores["end"]["bits_per_byte"] < scores["start"]["bits_per_byte"] - 0.05
    before, after = small(world).state_dict(), AutoModelForCausalLM.from_pretrained(folder / "out/model").state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == {n for n in before if n.endswith("_proj.weight")}


def test_the_merged_model_is_pefts_own_merge_of_the_adapter(world, trained) -> None:
    folder = trained[0]
    loaded = peft.PeftModel.from_pretrained(small(world), folder / "out/adapter")
    ids = torch.randint(1, 512, (2, 32), generator=torch.Generator().manual_seed(0))
    found = AutoModelForCausalLM.from_pretrained(folder / "out/model")
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(ids).logits, found(ids).logits, atol=1e-4, rtol=1e-4)
    merged = loaded.merge_and_unload().state_dict()
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, merged[name], atol=1e-6, rtol=1e-6)
    config = json.loads((folder / "out/adapter/adapter_config.json").read_text())
    assert config["target_modules"] == sorted(LORA.target_modules) and config["base_model_name_or_path"] is None


def test_interrupted_gives_the_same_bytes_with_dropout(world, trained, tmp_path) -> None:
    asked = iter(range(100))
    assert run(world, tmp_path, should_stop=lambda: next(asked) >= 5)["n_steps"] == 5
    (checkpoint,) = (tmp_path / "state").glob("step-00000005/*.safetensors")
    n_trained = sum(p.numel() for n, p in adapted(world).named_parameters() if "lora_" in n)
    assert checkpoint.stat().st_size < 3 * 4 * n_trained + 40_000, "the frozen weights are not in the checkpoint"
    assert run(world, tmp_path) == trained[1]
    assert digests(tmp_path / "out") == digests(trained[0] / "out")


def adapted(world, lora: LoraParams = LORA, seed: int = 0):
    model = small(world)
    add_adapters(model, lora, seed)
    return model


def test_adapters_depend_on_the_seed_only_and_change_nothing_at_first(world) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.rand(3)  # the caller's generator must not matter
        return next(p for n, p in adapted(world, seed=seed).named_parameters() if "lora_A" in n)

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.equal(adapted(world).eval()(ids).logits, small(world).eval()(ids).logits)


def test_unknown_modules_are_refused(world) -> None:
    with pytest.raises(InputError, match=r"train\.lora\.target_modules.*cannot take these adapters"):
        adapted(world, LoraParams(target_modules=("nonsense",)))
