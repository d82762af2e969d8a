"""A sharded model has the weights of the whole one, and no process ever held them all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.model import build_model
from training.params import ModelInit

SAME_WEIGHTS = """
import json, sys, torch
from training.lora import add_adapters, first_values
from training.model import PackedLM, build_model
from training.parallel import Gang
from training.params import LoraParams, ModelInit, TrainParams
from training.shards import empty_model, materialise

gang, checked = Gang.join(TrainParams(sharding="full")), []
for model_type, tied, folder in json.loads(sys.argv[1]):
    for lora in (None, LoraParams(rank=2)):
        init = ModelInit(model_type=model_type, hidden_size=64, n_heads=2, n_layers=2, tie_word_embeddings=tied)
        how = {"folder": folder, "seq_len": 16, "vocab_size": 300, "eos_id": 0, "attention": "sdpa"}
        empty, whole = empty_model(init, **how), build_model(init, **how)
        assert all(p.is_meta for p in empty.parameters())
        assert [n for n, _ in empty.named_parameters()] == [n for n, _ in whole.named_parameters()]  # a tied head counts once
        if lora:
            add_adapters(empty, lora, 0), add_adapters(whole, lora, 0)
        wrapped = gang.spread(PackedLM(empty, torch.float32))
        materialise(wrapped, gang, folder, first_values(empty, 0) if lora else {}, lambda: build_model(init, **how))
        ours, expected = dict(wrapped.model.named_parameters()), dict(whole.named_parameters())
        assert ours.keys() == expected.keys()
        assert all(torch.equal(ours[n].full_tensor(), expected[n]) for n in ours)
        ids = torch.randint(1, 300, (1, 16), generator=torch.Generator().manual_seed(0))
        batch = (ids, torch.arange(16)[None], torch.zeros_like(ids), ids.roll(-1, 1))
        losses = wrapped(*batch), PackedLM(whole, torch.float32)(*batch)
        torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
        for loss in losses:
            loss.backward()
        for name, parameter in ours.items():
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad.full_tensor(), expected[name].grad, rtol=1e-4, atol=1e-5)
        checked.append((model_type, tied, bool(folder), bool(lora)))
if gang.leads:
    print(json.dumps(checked))
"""

PEAK = """
import json, sys, threading, time, torch
from training.model import PackedLM, build_model
from training.parallel import Gang
from training.params import ModelInit, TrainParams
from training.shards import empty_model, materialise

most, done = [0], threading.Event()

def own():  # bytes that are not pages of files
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

def watch():
    while not done.is_set():
        most[0] = max(most[0], own())
        time.sleep(0.002)

gang, folder = Gang.join(TrainParams(sharding="full")), sys.argv[1]
how = {"seq_len": 16, "vocab_size": 300, "eos_id": 0, "attention": "sdpa"}
small = ModelInit(hidden_size=64, n_heads=2, n_layers=1)  # pays for what is loaded once
materialise(gang.spread(PackedLM(empty_model(small, folder=None, **how), torch.float32)), gang, None, {},
            lambda: build_model(small, folder=None, **how))
before = own()
threading.Thread(target=watch, daemon=True).start()
model = empty_model(ModelInit(), folder=folder, **how)
size = sum(p.numel() for p in model.parameters()) * 4
wrapped = gang.spread(PackedLM(model, torch.float32))
materialise(wrapped, gang, folder, {}, lambda: build_model(ModelInit(), folder=folder, **how))
done.set()
grown = gang.sum(__import__("numpy").eye(gang.size)[gang.rank] * (max(most[0], own()) - before))
if gang.leads:
    print(json.dumps({"model_bytes": size, "grown": grown.tolist()}))
"""


def save(folder, *, model_type="qwen2", tied=True, dtype=torch.bfloat16, seed=5, **sizes) -> str:
    init = ModelInit(
        model_type=model_type, **{"hidden_size": 64, "n_heads": 2, "n_layers": 2, **sizes}, tie_word_embeddings=tied, seed=seed
    )
    model = build_model(init, folder=None, seq_len=16, vocab_size=300, eos_id=0, attention="sdpa").to(dtype)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_two_processes_hold_the_whole_models_weights(torchrun, tmp_path) -> None:
    """From folders in bfloat16 (slices) and from random weights (handed out), tied or not, with adapters or without."""
    cases = [["qwen2", True, save(tmp_path / "tied")], ["llama", False, save(tmp_path / "llama", model_type="llama", tied=False)],
             ["gemma3_text", True, save(tmp_path / "gemma", model_type="gemma3_text")], ["qwen2", True, None]]  # fmt: skip
    (line,) = [x for x in torchrun(SAME_WEIGHTS, json.dumps(cases)) if x.startswith("[")]
    assert len(json.loads(line)) == 2 * len(cases)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_no_process_holds_the_whole_model(torchrun, tmp_path) -> None:
    """A model of some 100 MB in float32: each of two processes takes its half, beside pages of the file it reads."""
    folder = save(tmp_path / "big", hidden_size=512, n_heads=8, n_layers=8, intermediate_size=1536, vocab_size=8192)
    (line,) = [x for x in torchrun(PEAK, folder) if x.startswith("{")]
    found = json.loads(line)
    assert found["model_bytes"] > 90e6
    assert all(0.45 * found["model_bytes"] < grown < 0.75 * found["model_bytes"] for grown in found["grown"]), found
