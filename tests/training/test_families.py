"""For every family: documents of a row do not see each other, through windows too, and the fused loss is transformers' own."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import training.flex  # noqa: F401  # registers the attention
from store.errors import InputError
from training.attention import FLEX, SDPA
from training.families import block_mask, check_fits, masks
from training.loss import _chunks, linear_cross_entropy, linear_nats
from training.model import PackedLM, build_model
from training.params import ModelInit
from training.rows import IGNORE, RowReader

SIZES = {"hidden_size": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "intermediate_size": 64}
T, WINDOW = 40, 6
# Two layers, one of them windowed, where a family has both kinds.
BOTH = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": ("llama", {}), "qwen2": ("qwen2", {}), "qwen3": ("qwen3", {}), "mistral": ("mistral", {}), "gemma3": ("gemma3_text", {}),
    "mistral-window": ("mistral", {"sliding_window": WINDOW}),
    "gemma3-window-cap": ("gemma3_text", {**BOTH, "final_logit_softcapping": 3.0}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, **BOTH}),
    "qwen3-window": ("qwen3", {"use_sliding_window": True, **BOTH}),
    "gemma": ("gemma", {}), "olmo2": ("olmo2", {}), "smollm3": ("smollm3", {}),
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return str(request.param)


CAPPED = {"gemma2": ("gemma2", {**BOTH, "attn_logit_softcapping": 5.0, "head_dim": 16})}  # sdpa refuses it
ATTENTIONS = [SDPA, FLEX]


def build(name: str, seq_len: int = T, vocab: int = 64, spread: float = 0.3, attention: str = SDPA) -> PackedLM:
    model_type, config = (FAMILIES | CAPPED)[name]
    init = ModelInit.model_construct(None, **{**ModelInit(**SIZES).model_dump(), "model_type": model_type, "initializer_range": spread,
                                              "config": config})  # fmt: skip  # not all of them are offered at random
    model = build_model(init, folder=None, seq_len=seq_len, vocab_size=vocab, eos_id=0, attention=attention)
    return PackedLM(model.eval(), torch.float32)


def twin(lm: PackedLM, attention: str) -> PreTrainedModel:
    """The same weights under another attention of transformers."""
    config = copy.deepcopy(lm.model.config)
    other = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    other.load_state_dict(lm.model.state_dict())
    return other


def on_a_cpu(attention: str) -> AbstractContextManager[None]:
    """flex_attention's compiled kernel takes half a minute to build; its own reference implementation takes the same mask."""
    return torch.compiler.set_stance("force_eager") if attention == FLEX else nullcontext()


def row(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions, pieces) of one row whose pieces have these lengths, padded to T."""
    rest = T - sum(lengths)
    pos = torch.cat([torch.arange(n) for n in [*lengths, rest]])
    piece = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)] + [torch.full((rest,), -1)])
    return pos[None], piece[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "attention"), [*product(FAMILIES, ATTENTIONS), ("gemma2", FLEX)])
def test_a_document_does_not_see_its_neighbours(name: str, attention: str, dtype: torch.dtype) -> None:
    """Changing A leaves B's logits bit-equal; B alone, through transformers' own mask (its window shorter than B), is the oracle."""
    lm, (pos, piece) = build(name, attention=attention), row(7, 19, 4)
    own = twin(lm, "eager" if name in CAPPED else SDPA)
    g = torch.Generator().manual_seed(0)
    a = torch.randint(1, 64, (1, T), generator=g)
    b = a.clone()
    b[:, :7], b[:, 26:] = torch.randint(1, 64, (1, 7), generator=g), torch.randint(1, 64, (1, T - 26), generator=g)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    with torch.no_grad(), autocast, on_a_cpu(attention):
        la, lb = lm.logits(a, pos, piece), lm.logits(b, pos, piece)
        alone = own(input_ids=a[:, 7:26], use_cache=False).logits
        shifted = lm.logits(a, pos + 3, piece)
    assert torch.equal(la[:, 7:26], lb[:, 7:26])
    assert not torch.allclose(la[:, :7], lb[:, :7], atol=1e-2), "the changed documents must differ, or the test proves nothing"
    if dtype == torch.float32:
        torch.testing.assert_close(la[:, 7:26], alone, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(la[:, 7:26], shifted[:, 7:26], atol=1e-3, rtol=1e-3)  # rotary positions are relative
        with torch.no_grad(), on_a_cpu(attention):
            leaky = lm.logits(a, pos, torch.zeros_like(piece))
        assert not torch.allclose(leaky[:, 7:26], alone, atol=1e-3), "without the mask the neighbour is seen"


@pytest.mark.parametrize("name", [n for n in FAMILIES if "window" in n])
def test_the_window_is_felt(name: str) -> None:
    """Without its window the model gives other logits, from the first position that the window cuts off."""
    lm, (pos, piece) = build(name), row(25)
    ids = torch.randint(1, 64, (1, T), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = lm.logits(ids, pos, piece)
        full = block_mask(piece)
        if isinstance(masks(lm.model.config, piece), dict):
            full = {"full_attention": full, "sliding_attention": full}
        wide = lm.model(input_ids=ids, position_ids=pos, attention_mask=full, use_cache=False).logits
    assert torch.equal(found[:, :WINDOW], wide[:, :WINDOW])
    assert not torch.allclose(found[:, WINDOW:25], wide[:, WINDOW:25], atol=1e-2)


def test_the_packed_loss_and_its_gradients_are_transformers_own(family: str, world) -> None:
    """Over documents one by one: the head tied and scaled or not, logits capped or not."""
    lm, rows = build(family, seq_len=world.plan.seq_len, vocab=512, spread=0.1), np.array([0, 5, 9])
    batch = RowReader(world.plan, world.stores, 512).read(rows)
    found = lm(*(torch.from_numpy(x) for x in (batch.input_ids, batch.position_ids, batch.piece, batch.labels)))
    assert lm.fused
    found.backward()
    grads = {n: p.grad.clone() for n, p in lm.model.named_parameters()}
    lm.model.zero_grad()
    expected = torch.zeros(())
    for r in rows:
        for source, doc, start, length in world.plan.row(int(r)):
            ids = torch.from_numpy(world.stores[source].tokens(doc, start, length).astype(np.int64))[None]
            if length > 1:
                expected = expected + lm.model(input_ids=ids, labels=ids, use_cache=False).loss * (length - 1)
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
    for key, parameter in lm.model.named_parameters():
        torch.testing.assert_close(grads[key], parameter.grad, rtol=2e-3, atol=1e-3 * float(parameter.grad.abs().max()))


@pytest.mark.parametrize("n", [5, 300])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_fused_loss_equals_torch(n: int, cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loss.CHUNK_LOGITS", {"cpu": 64 * 50})
    monkeypatch.setattr("training.loss.LEAST_ROWS", 64)
    g = torch.Generator().manual_seed(1)
    h = torch.randn(n, 16, generator=g, requires_grad=True)
    w = torch.randn(50, 16, generator=g, requires_grad=True)
    y = torch.randint(0, 50, (n,), generator=g)
    y[::3] = IGNORE

    def logits() -> torch.Tensor:
        return h @ w.t() if cap is None else cap * torch.tanh(h @ w.t() / cap)

    expected = torch.nn.functional.cross_entropy(logits(), y, ignore_index=IGNORE, reduction="sum")
    (expected * 0.5).backward()
    grads, h.grad, w.grad = (h.grad.clone(), w.grad.clone()), None, None
    found = linear_cross_entropy(h, w, y, torch.float32, cap)
    (found * 0.5).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(h.grad, grads[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(w.grad, grads[1], atol=1e-4, rtol=1e-5)
    each = torch.nn.functional.cross_entropy(logits(), y, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(linear_nats(h, w, y, torch.float32, cap), each)
    h.grad = None
    linear_cross_entropy(h, w.detach(), y, torch.float32, cap).backward()
    torch.testing.assert_close(h.grad, 2 * grads[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("vocab", "rows"), [(16_384, 512), (151_936, 256), (1000, 3000)])
def test_chunks_hold_every_position_once_and_no_more_logits_than_they_may(vocab: int, rows: int) -> None:
    parts = _chunks(torch.empty(3000, 1), torch.empty(vocab, 1))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(3000))
    assert max(part.stop - part.start for part in parts) == rows


def test_the_gradient_of_the_head_is_summed_in_place() -> None:
    """In float32 no chunk allocates a matrix of the head's size: one for the sum is all."""
    h, w = torch.randn(2048, 8, requires_grad=True), torch.randn(50_000, 8, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as seen:
        linear_cross_entropy(h, w, torch.zeros(2048, dtype=torch.long), torch.float32)
    assert len([e for e in seen.events() if e.self_cpu_memory_usage == 50_000 * 8 * 4]) == 1


def test_a_mask_never_leaves_a_row_empty_and_a_window_cuts_the_past() -> None:
    _, piece = row(5, 12)
    mask, near = block_mask(piece)[0, 0], block_mask(piece, 3)[0, 0]
    assert mask.any(dim=1).all() and near.any(dim=1).all()
    assert not mask[5:17, :5].any() and not mask[:5, 5:].any() and not mask.triu(1).any()
    i, j = torch.meshgrid(torch.arange(T), torch.arange(T), indexing="ij")
    assert torch.equal(near, mask & (i - j < 3))


def test_flash_attention_finds_the_boundaries_of_our_rows(world) -> None:
    """flash_attention_2 cannot run on a CPU; what it is told can be seen: the ends of sequences that transformers derives."""
    flash = pytest.importorskip("transformers.modeling_flash_attention_utils")
    batch = RowReader(world.plan, world.stores, 512).read(np.arange(4))
    positions = torch.from_numpy(batch.position_ids).view(1, -1)
    (ends, _), _ = flash.prepare_fa_kwargs_from_position_ids(positions)
    lengths = []
    for r in range(4):
        pieces = [n for *_, n in world.plan.row(r)]
        lengths += [*pieces, *([world.plan.seq_len - sum(pieces)] if sum(pieces) < world.plan.seq_len else [])]
    assert ends.tolist() == [0, *np.cumsum(lengths).tolist()]


def test_what_cannot_be_trained_rightly_is_refused() -> None:
    gemma2 = AutoConfig.for_model("gemma2")
    with pytest.raises(InputError, match="caps its attention scores"):
        check_fits(gemma2, seq_len=64, attention="sdpa", where="here")
    check_fits(gemma2, seq_len=64, attention="flash_attention_2", where="here")
    phi3 = AutoConfig.for_model("phi3", sliding_window=32)
    with pytest.raises(InputError, match="sliding window of 32"):
        check_fits(phi3, seq_len=64, attention="sdpa", where="here")
    check_fits(phi3, seq_len=32, attention="sdpa", where="here")
    with pytest.raises(InputError, match="both directions"):
        check_fits(AutoConfig.for_model("gemma3_text", use_bidirectional_attention=True), seq_len=8, attention="sdpa", where="here")
    with pytest.raises(InputError, match="not a plain language model"):
        check_fits(AutoConfig.for_model("gemma3"), seq_len=8, attention="sdpa", where="here")
