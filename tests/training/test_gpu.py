"""What only a GPU can show: documents are kept apart, and gradients are right, by each of its kernels. `make test-gpu`.

The cases of the CPU are the same assertions without a GPU; they hold the tests themselves.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from itertools import product

import pytest
import torch

import training.flex  # noqa: F401  # registers the attention
from training.attention import FLASH, FLEX, SDPA
from training.model import PackedLM, build_model
from training.params import ModelInit
from training.rows import IGNORE

VOCAB, LENGTHS = 512, (100, 37, 290, 1, 60)
"""Pieces of a row; 24 more tokens are padding."""
FIRST, LAST = 137, 427
T = 512
SIZES = {"hidden_size": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "intermediate_size": 128}
BOTH = {"sliding_window": 50, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": ("llama", {}), "qwen2": ("qwen2", {}), "qwen3": ("qwen3", {}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, **BOTH}),
    "mistral": ("mistral", {}), "mistral-window": ("mistral", {"sliding_window": 50}), "gemma": ("gemma", {}),
    "gemma3-window": ("gemma3_text", BOTH),
}  # fmt: skip
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
WITH_FLASH = pytest.mark.skipif(find_spec("flash_attn") is None, reason="needs the package flash-attn")
KERNELS = [
    pytest.param("cpu", SDPA, torch.float32), pytest.param("cpu", SDPA, torch.bfloat16),
    *(pytest.param("cuda", a, d, marks=GPU) for a, d in product((SDPA, FLEX), (torch.float32, torch.bfloat16))),
    pytest.param("cuda", FLASH, torch.bfloat16, marks=[GPU, WITH_FLASH]),
]  # fmt: skip


def build(name: str, attention: str, device: str, dtype: torch.dtype) -> PackedLM:
    torch.manual_seed(0)
    model_type, config = FAMILIES[name]
    init = ModelInit.model_construct(None, **{**ModelInit(**SIZES).model_dump(), "model_type": model_type, "initializer_range": 0.1,
                                              "config": config})  # fmt: skip  # not all of them are offered at random
    model = build_model(init, folder=None, seq_len=T, vocab_size=VOCAB, eos_id=0, attention=attention)
    return PackedLM(model.eval().to(device), dtype)


def inputs(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, positions, pieces) [2, T]: the rows differ in all but the third document."""
    rest = T - sum(LENGTHS)
    pos = torch.cat([torch.arange(n) for n in (*LENGTHS, rest)])
    piece = torch.cat([torch.full((n,), i) for i, n in enumerate(LENGTHS)] + [torch.full((rest,), -1)])
    ids = torch.randint(1, VOCAB, (2, T), generator=torch.Generator().manual_seed(0))
    ids[1, FIRST:LAST] = ids[0, FIRST:LAST]
    return ids.to(device), pos.repeat(2, 1).to(device), piece.repeat(2, 1).to(device)


@pytest.mark.parametrize(("device", "attention", "dtype"), KERNELS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_document_does_not_see_its_neighbours(name: str, device: str, attention: str, dtype: torch.dtype) -> None:
    """Bit-equal in rows of their own calls; and what the document alone gives, on a CPU in float32."""
    lm, (ids, pos, piece) = build(name, attention, device, dtype), inputs(device)
    exact = build(name, SDPA, "cpu", torch.float32)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        a, b = (lm.logits(ids[k : k + 1], pos[k : k + 1], piece[k : k + 1])[0].float() for k in (0, 1))
    with torch.no_grad():
        document = ids[:1, FIRST:LAST].cpu()
        own = torch.zeros_like(document)
        alone = exact.logits(document, torch.arange(LAST - FIRST)[None], own)[0]
        row = exact.logits(ids[:1].cpu(), torch.arange(T)[None], torch.zeros_like(ids[:1].cpu()))[0]
    assert torch.equal(a[FIRST:LAST], b[FIRST:LAST])
    assert not torch.allclose(a[:FIRST], b[:FIRST], atol=1e-2)
    error, leak = (float((x[FIRST:LAST].cpu() - alone).norm() / alone.norm()) for x in (a, row))
    assert error < (1e-4 if dtype == torch.float32 else 0.05) < leak, (error, leak)


@pytest.mark.parametrize(("device", "attention", "dtype"), KERNELS)
@pytest.mark.parametrize("name", ["qwen2", "gemma3-window"])
def test_gradients_are_those_of_a_cpu_in_float32(name: str, device: str, attention: str, dtype: torch.dtype) -> None:
    ids, pos, piece = inputs(device)
    labels = torch.where(piece >= 0, ids.roll(-1, 1), IGNORE)
    exact, lm = build(name, SDPA, "cpu", torch.float32), build(name, attention, device, dtype)
    lm.model.load_state_dict(copy.deepcopy(exact.model.state_dict()))
    found, expected = lm(ids, pos, piece, labels), exact(*(x.cpu() for x in (ids, pos, piece, labels)))
    found.backward()
    expected.backward()
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=tolerance, atol=0)
    for (key, one), (_, other) in zip(lm.model.named_parameters(), exact.model.named_parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        error = float((one.grad.cpu() - other.grad).norm() / (other.grad.norm() + 1e-8))
        assert error < 4 * tolerance, (key, error)
