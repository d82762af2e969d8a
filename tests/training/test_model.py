"""Documents of a row do not see each other; the loss is transformers' own; weights load safely."""

import numpy as np
import pytest
import torch

from store.errors import InputError
from training.loss import linear_cross_entropy, linear_nats
from training.model import PackedLM, block_mask, build_model, find_model
from training.params import ModelInit
from training.rows import IGNORE, RowReader

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


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral"])
def test_a_document_does_not_see_its_neighbours(model_type: str) -> None:
    lm, (pos, piece) = tiny(model_type), row(7, 9, 4)
    g = torch.Generator().manual_seed(0)
    a = torch.randint(1, 64, (1, T), generator=g)
    b = a.clone()
    b[:, :7] = torch.randint(1, 64, (1, 7), generator=g)
    b[:, 16:] = torch.randint(1, 64, (1, T - 16), generator=g)
    with torch.no_grad():
        la, lb = lm.logits(a, pos, piece), lm.logits(b, pos, piece)
        alone = lm.model(input_ids=a[:, 7:16], use_cache=False).logits
    assert torch.equal(la[:, 7:16], lb[:, 7:16])
    torch.testing.assert_close(la[:, 7:16], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(la[:, :7], lb[:, :7], atol=1e-2), "the changed documents must differ, or the test proves nothing"
    together = torch.zeros_like(piece)
    with torch.no_grad():
        leaky = lm.logits(a, pos, together)
    assert not torch.allclose(leaky[:, 7:16], alone, atol=1e-3), "without the mask the neighbour is seen"


def test_no_row_of_the_mask_is_empty() -> None:
    _, piece = row(5, 3)
    mask = block_mask(piece)[0, 0]
    assert mask.any(dim=1).all()
    assert not mask[5:8, :5].any() and not mask[:5, 5:].any() and not mask.triu(1).any()


@pytest.mark.parametrize("n", [5, 300])
def test_the_fused_loss_equals_torch(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loss.CHUNK_LOGITS", {"cpu": 64 * 50})
    g = torch.Generator().manual_seed(1)
    h = torch.randn(n, 16, generator=g, requires_grad=True)
    w = torch.randn(50, 16, generator=g, requires_grad=True)
    y = torch.randint(0, 50, (n,), generator=g)
    y[::3] = IGNORE
    expected = torch.nn.functional.cross_entropy(h @ w.t(), y, ignore_index=IGNORE, reduction="sum")
    (expected * 0.5).backward()
    grads, h.grad, w.grad = (h.grad.clone(), w.grad.clone()), None, None
    found = linear_cross_entropy(h, w, y, torch.float32)
    (found * 0.5).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(h.grad, grads[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(w.grad, grads[1], atol=1e-4, rtol=1e-5)
    each = torch.nn.functional.cross_entropy(h @ w.t(), y, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(linear_nats(h, w, y, torch.float32), each)


def test_large_logits_do_not_overflow() -> None:
    h, w = torch.full((3, 4), 100.0, requires_grad=True), torch.eye(4).repeat(2, 1) * 50
    assert torch.isfinite(linear_cross_entropy(h, w, torch.tensor([0, 5, IGNORE]), torch.float32))


@pytest.mark.parametrize("tied", [True, False])
def test_packed_loss_and_gradients_equal_documents_one_by_one(world, tied: bool) -> None:
    """The oracle is transformers' own loss on every piece alone."""
    init = ModelInit(model_type="llama", **SIZES, tie_word_embeddings=tied)
    model = build_model(init, folder=None, seq_len=world.plan.seq_len, vocab_size=512, eos_id=0, attention="sdpa")
    lm, rows = PackedLM(model, torch.float32), np.array([0, 5, 9])
    batch = RowReader(world.plan, world.stores, 512).read(rows)
    found = lm(*(torch.from_numpy(a) for a in (batch.input_ids, batch.position_ids, batch.piece, batch.labels)))
    found.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    expected = torch.zeros(())
    for r in rows:
        for source, doc, start, length in world.plan.row(int(r)):
            ids = torch.from_numpy(world.stores[source].tokens(doc, start, length).astype(np.int64))[None]
            if length > 1:
                expected = expected + model(input_ids=ids, labels=ids, use_cache=False).loss * (length - 1)
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-3, atol=2e-4)


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
    lm.model.config.model_type = "gemma2"
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
    with pytest.raises(InputError, match="sliding window of 8"):
        build(model_type="mistral", config={"sliding_window": 8})
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
