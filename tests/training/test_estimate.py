"""The estimate of memory against the tensors of a real step, and of hours against published planning numbers."""

from typing import get_args

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training import loss as fused
from training.estimate import CHUNK_LOGITS, LEAST_ROWS, activations, cost, memory
from training.mfu import find_gpu
from training.model import PackedLM
from training.optimizer import build_optimizer
from training.params import Attention, TrainParams
from training.shape import ModelShape

SMALL = {"hidden_size": 96, "intermediate_size": 320, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 500,
         "num_hidden_layers": 3}  # fmt: skip
FAMILIES = {
    "qwen2": {}, "llama": {}, "mistral": {"sliding_window": None}, "qwen3": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 4096},
}  # fmt: skip
ROWS, SEQ = 2, 64
TOLERANCE = 0.01


def build(family):
    config = AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family], "tie_word_embeddings": True})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    return model, ModelShape.from_config(config.to_dict())


def batch():
    ids = torch.randint(0, 500, (ROWS, SEQ))
    piece = torch.zeros(ROWS, SEQ, dtype=torch.long)
    piece[:, 40:] = 1
    return ids, torch.arange(SEQ).repeat(ROWS, 1), piece, ids


def kept_bytes(model, precision):
    """Distinct storages that autograd keeps of the decoder's forward pass, parameters not counted."""
    own, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    packed = PackedLM(model, torch.bfloat16 if precision == "bf16" else torch.float32)
    ids, positions, piece, _ = batch()
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        out = model.get_decoder()(**packed._inputs(ids, positions, piece)).last_hidden_state
    assert out.requires_grad
    return sum(t.untyped_storage().nbytes() for t in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_the_tensors_autograd_keeps(family, precision):
    model, shape = build(family)
    expected = activations(shape, TrainParams(precision=precision, micro_batch_rows=ROWS, attn_implementation="sdpa"), SEQ)
    assert expected == pytest.approx(kept_bytes(model, precision), rel=TOLERANCE)


def test_recomputed_activations_keep_the_input_of_every_layer():
    """What lives between the passes is a row of the residual stream a layer; one layer's tensors come on top while it is recomputed."""
    model, shape = build("qwen2")
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    between = kept_bytes(model, "fp32")
    p = TrainParams(precision="fp32", micro_batch_rows=ROWS, gradient_checkpointing=True, attn_implementation="sdpa")
    one = (activations(shape, p.model_copy(update={"gradient_checkpointing": False}), SEQ) - _ends(shape)) / 3
    rotary = ROWS * SEQ * 8 * shape.head_dim  # arguments of the layers: kept, but not by autograd
    assert activations(shape, p, SEQ) - one - rotary == pytest.approx(between, rel=TOLERANCE)


def _ends(shape):
    return ROWS * SEQ * (8 * shape.hidden_size + 12 + 8 * shape.head_dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_gradients_and_moments_are_exact(family):
    model, shape = build(family)
    p = TrainParams(precision="fp32", micro_batch_rows=ROWS)
    optimizer = build_optimizer(p, model)
    PackedLM(model, torch.float32)(*batch()).backward()
    optimizer.step()
    found = memory(shape, p, SEQ)
    assert found.weights == sum(t.untyped_storage().nbytes() for t in model.parameters())
    assert found.gradients == sum(t.grad.untyped_storage().nbytes() for t in model.parameters())
    moments = [s[k] for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")]
    assert found.optimizer == sum(t.untyped_storage().nbytes() for t in moments)


def test_the_chunk_of_logits_is_the_trainers():
    assert (fused.CHUNK_LOGITS["cuda"], fused.LEAST_ROWS) == (CHUNK_LOGITS, LEAST_ROWS)


QWEN_7B = ModelShape.from_config({
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
})  # fmt: skip


def test_sharding_divides_what_is_sharded_and_checkpointing_spares_activations():
    p = TrainParams(micro_batch_rows=1)
    one, many = (memory(QWEN_7B, p.model_copy(update={"sharding": s}), 4096, 8) for s in ("none", "full"))
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(one, part) == 8 * getattr(many, part)
    assert one.weights + one.gradients + one.optimizer == 16 * QWEN_7B.n_parameters
    spared = memory(QWEN_7B, p.model_copy(update={"sharding": "full", "gradient_checkpointing": True}), 4096, 8)
    assert spared.activations < many.activations / 8 and spared.total < many.total
    assert memory(QWEN_7B, p, 4096, 1).exchange == 0
    assert many.total == sum(getattr(many, n) for n in ("weights", "gradients", "optimizer", "activations", "loss", "exchange"))
    need = {a: memory(QWEN_7B, p.model_copy(update={"attn_implementation": a}), 4096).activations for a in get_args(Attention)}
    assert need["sdpa"] - need["flash_attention_2"] == 28 * 2 * 4096 * 4096
    assert need["auto"] == need["flex_attention"] == need["flash_attention_2"]


def test_planning_numbers():
    """5.1 G tokens of Qwen2.5-7B at 40 % of an H100: 8.35 k tokens/s, 170 device-hours."""
    found = cost(QWEN_7B, 5.1e9, 4096, find_gpu("h100"), 8, 0.40, price=2.5)
    assert found.tokens_per_s / 8 == pytest.approx(8350, rel=0.002)
    assert found.device_hours == pytest.approx(170, rel=0.005) and found.hours == pytest.approx(found.device_hours / 8)
    assert found.energy_kwh == pytest.approx(found.device_hours * 0.7) and found.money == pytest.approx(found.device_hours * 2.5)
    assert cost(QWEN_7B, 1e9, 4096, find_gpu("h100")).money is None
