"""Documents of a row do not see each other; the loss is transformers' own; weights load safely."""

import pytest
import torch

from store.errors import InputError
from training.loss import linear_cross_entropy
from training.model import PackedLM, build_model, find_model
from training.params import ModelInit
from training.rows import IGNORE

SIZES = {"hidden_size": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "intermediate_size": 64}
T = 24


def tiny(model_type: str, **more) -> PackedLM:
    init = ModelInit(model_type=model_type, **SIZES, initializer_range=0.3, **more)
    model = build_model(init, folder=None, seq_len=T, vocab_size=64, eos_id=0, attention="sdpa")
    return PackedLM(model.eval(), torch.float32)


def row(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions, pieces) of one row whose pieces have these lengths, padded to T."""
    rest = T - sum(lengths)
    pos = torch.cat([torch.arange(n) for n in [*lengths, rest]])
    piece = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)] + [torch.full((rest,), -1)])
    return pos[None], piece[None]


def test_large_logits_do_not_overflow() -> None:
    h, w = torch.full((3, 4), 100.0, requires_grad=True), torch.eye(4).repeat(2, 1) * 50
    assert torch.isfinite(linear_cross_entropy(h, w, torch.tensor([0, 5, IGNORE]), torch.float32))


def test_a_head_that_is_more_than_a_matrix_is_not_fused() -> None:
    lm = tiny("llama")
    g = torch.Generator().manual_seed(0)
    ids, (pos, piece) = torch.randint(1, 64, (1, T), generator=g), row(10, 14)
    labels = ids.roll(-1, 1)
    with torch.no_grad():
        fused, each = lm(ids, pos, piece, labels), lm(ids, pos, piece, labels, each=True)
        lm.fused = False
        plain, plain_each = lm(ids, pos, piece, labels), lm(ids, pos, piece, labels, each=True)
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(each, plain_each)
    lm.model.config.model_type = "cohere"
    assert not PackedLM(lm.model, torch.float32).fused


def test_random_weights_depend_on_the_seed_only() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.rand(3)  # the caller's generator must not matter
        return next(tiny("qwen2", seed=seed).model.parameters())

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_models_that_do_not_fit_are_refused(tmp_path) -> None:
    def build(seq_len: int = T, vocab: int = 64, **more):
        return build_model(ModelInit(**SIZES, **more), folder=None, seq_len=seq_len, vocab_size=vocab, eos_id=0, attention="sdpa")

    with pytest.raises(InputError, match="context is 10 tokens, the plan's rows have 24"):
        build(max_position_embeddings=10)
    with pytest.raises(InputError, match="less than the tokenizer's 64"):
        build(vocab_size=32)
    with pytest.raises(InputError, match="not a model folder"):
        find_model(ModelInit(from_=str(tmp_path)))
    with pytest.raises(InputError, match="no such model folder"):
        find_model(ModelInit(from_=str(tmp_path / "absent")))


def test_missing_weights_are_not_drawn_at_random(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    tiny("llama").model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop("model.layers.1.mlp.up_proj.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensors are missing.*up_proj"):
        build_model(ModelInit(from_=str(tmp_path)), folder=str(tmp_path), seq_len=T, vocab_size=64, eos_id=0, attention="sdpa")


def test_pickled_weights_are_refused(tmp_path) -> None:
    lm = tiny("llama")
    lm.model.config.save_pretrained(tmp_path)
    torch.save(lm.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="no safetensors weights"):
        find_model(ModelInit(from_=str(tmp_path)))
