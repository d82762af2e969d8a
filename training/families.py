"""What the families of models differ in: the configuration of random weights, attention windows, and the head.

    B rows, T positions

Attention windows: Mistral's one window holds for all layers; Qwen 2, Qwen 3 and Gemma 3 have layers with and without one, and take one
mask for each kind. Where the window is not shorter than the rows, nothing differs from full attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from store.errors import InputError
from training.attention import SMALLEST_HEAD
from training.params import ModelInit

Mask = TypeVar("Mask")
# Architectures whose logits are lm_head(last hidden state), soft-capped where the config says so: head and loss can be fused.
LINEAR_HEAD = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3"})
ONE_WINDOW = frozenset({"mistral"})  # one mask for all layers
WINDOW_BY_LAYER = frozenset({"gemma2", "gemma3_text", "qwen2", "qwen3"})  # a dict of masks by layer type


def random_config(init: ModelInit, *, seq_len: int, vocab_size: int, eos_id: int) -> PreTrainedConfig:
    """The configuration of a model from random weights; InputError if its vocabulary is smaller than the tokenizer's."""
    if init.vocab_size is not None and init.vocab_size < vocab_size:
        raise InputError(f"vocab_size {init.vocab_size} is less than the tokenizer's {vocab_size}", where="train.init.vocab_size")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": init.rope_theta}
    sizes: dict[str, Any] = {
        "vocab_size": init.vocab_size or vocab_size, "hidden_size": init.hidden_size, "num_hidden_layers": init.n_layers,
        "num_attention_heads": init.n_heads, "num_key_value_heads": init.n_kv_heads or init.n_heads,
        "intermediate_size": init.intermediate_size, "tie_word_embeddings": init.tie_word_embeddings,
        "max_position_embeddings": init.max_position_embeddings or seq_len, "initializer_range": init.initializer_range,
        "rope_parameters": rope, "bos_token_id": None, "eos_token_id": eos_id, "pad_token_id": None,
    }  # fmt: skip
    head_dim = init.hidden_size // init.n_heads
    of_family: dict[str, dict[str, Any]] = {
        "qwen2": {"use_sliding_window": False},
        "mistral": {"sliding_window": None, "head_dim": head_dim},
        "gemma3_text": {"rope_parameters": {"full_attention": rope, "sliding_attention": rope},
                        "query_pre_attn_scalar": head_dim, "head_dim": head_dim},
    }  # fmt: skip
    return AutoConfig.for_model(init.model_type, **{**sizes, **of_family.get(init.model_type, {"head_dim": head_dim}), **init.config})


def window_of(config: PreTrainedConfig) -> int | None:
    """Positions a windowed layer sees, itself included; None if no layer is windowed."""
    kinds = getattr(config, "layer_types", None)
    if not getattr(config, "use_sliding_window", True) or (kinds is not None and "sliding_attention" not in kinds):
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def check_fits(config: PreTrainedConfig, *, seq_len: int, attention: str, where: str) -> None:
    """InputError if this model cannot be trained rightly on rows of ``seq_len`` with this attention."""
    longest, window = getattr(config, "max_position_embeddings", None), window_of(config)
    if getattr(config, "vocab_size", None) is None:
        raise InputError(f"a model of type {config.model_type} is not a plain language model", where=where,
                         expected="a text-only model, such as gemma3_text")  # fmt: skip
    if longest is not None and longest < seq_len:
        raise InputError(f"the model's context is {longest} tokens, the plan's rows have {seq_len}", where=where,
                         remedy="pack with a smaller seq_len")  # fmt: skip
    if window is not None and window < seq_len and config.model_type not in ONE_WINDOW | WINDOW_BY_LAYER:
        raise InputError(f"the model attends through a sliding window of {window}, less than the plan's rows of {seq_len}", where=where,
                         expected="full attention within a row", remedy=f"pack with seq_len at most {window}")  # fmt: skip
    if getattr(config, "use_bidirectional_attention", False):
        raise InputError("the model attends in both directions", where=where, expected="a causal model")
    if getattr(config, "attn_logit_softcapping", None) is not None and attention == "sdpa":
        raise InputError("the model caps its attention scores, which sdpa leaves out without a word", where=where,
                         remedy="train on a GPU, with attn_implementation: auto")  # fmt: skip
    if "flex_attention" in attention:
        _check_fits_flex(config, where)


def _check_fits_flex(config: PreTrainedConfig, where: str) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size < SMALLEST_HEAD:
        raise InputError(f"the model's attention heads have {size} dimensions, too few for flex_attention", where=where,
                         expected=f"at least {SMALLEST_HEAD}", remedy="set attn_implementation: sdpa")  # fmt: skip
    if dropout := getattr(config, "attention_dropout", 0.0):
        raise InputError(f"the model drops attention weights (attention_dropout {dropout}), which flex_attention cannot", where=where,
                         remedy="set attn_implementation: sdpa, or attention_dropout: 0.0 in the model's config.json")  # fmt: skip


def softcap_of(config: PreTrainedConfig) -> float | None:
    """The cap c of logits c tanh(x / c), or None."""
    cap: float | None = getattr(config, "final_logit_softcapping", None)
    return cap


def block_mask(piece_BT: Tensor, window: int | None = None) -> Tensor:
    """Boolean [B, 1, T, T]: True where a query may look: backwards within its own piece, at most ``window`` positions."""
    T = piece_BT.shape[1]
    seen_TT = torch.ones(T, T, dtype=torch.bool, device=piece_BT.device).tril_()
    if window is not None:
        seen_TT = seen_TT.triu_(1 - window)
    piece_BT = piece_BT.to(torch.int32)
    return ((piece_BT[:, :, None] == piece_BT[:, None, :]) & seen_TT)[:, None]


def masks(config: PreTrainedConfig, piece_BT: Tensor, make: Callable[..., Mask] = block_mask) -> Mask | dict[str, Mask]:
    """What the decoder of this family takes as ``attention_mask``: one mask, or one for each kind of layer.

    Args:
        make: block_mask for sdpa, training.flex.block_mask for flex_attention.
    """
    window = window_of(config)
    if window is None or window >= piece_BT.shape[1]:
        return make(piece_BT)
    if config.model_type in ONE_WINDOW:
        return make(piece_BT, window)
    return {"full_attention": make(piece_BT), "sliding_attention": make(piece_BT, window)}
