"""The shape of a decoder from its config.json alone: parameters and what a token costs, without torch, transformers or weights.

Counted exactly for the families the trainer knows: qwen2, qwen3, llama, mistral, gemma3 (its text decoder). Tests hold every count
against transformers' own modules. What a config.json leaves out has the family's default in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.errors import InputError


@dataclass(frozen=True)
class _Family:
    """What differs between families beyond sizes."""

    qkv_bias: bool = False
    qk_norm: bool = False
    n_norms: int = 2
    defaults: Mapping[str, object] | None = None


FAMILIES: Mapping[str, _Family] = {
    "llama": _Family(),
    "mistral": _Family(defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(qk_norm=True, defaults={"head_dim": 128}),
    "gemma3_text": _Family(qk_norm=True, n_norms=4, defaults={
        "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208, "tie_word_embeddings": True,
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "sliding_window": 4096,
    }),
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder with gated MLPs.

    Attributes:
        windows: per layer, how many tokens back a token sees, itself included; None: all of them.
        o_bias, mlp_bias: llama-like configs may ask for them; qkv_bias is that of queries, keys and values.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    n_norms: int
    windows: tuple[int | None, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str = "config.json") -> ModelShape:
        """Read a transformers config; InputError for a family whose parameters are not counted here, or a size that is missing."""
        if "text_config" in config:
            inner = config["text_config"]
            config = {"tie_word_embeddings": config.get("tie_word_embeddings", True), "model_type": "gemma3_text", **inner}
        kind = str(config.get("model_type"))
        if kind not in FAMILIES:
            raise InputError(f"the shape of a model of type {kind} is not known", where=where, expected=f"one of {', '.join(FAMILIES)}")
        family = FAMILIES[kind]
        given = {**(family.defaults or {}), **{k: v for k, v in config.items() if v is not None}}
        try:
            hidden, heads, n_layers = (int(given[k]) for k in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
            vocab, mlp = int(given["vocab_size"]), int(given["intermediate_size"])
        except KeyError as missing:
            raise InputError(f"{missing.args[0]} is missing", where=where) from missing
        asked = bool(given.get("attention_bias", False))
        return cls(
            kind, vocab, hidden, mlp, n_layers, heads, int(given.get("num_key_value_heads", heads)),
            int(given.get("head_dim", hidden // heads)), bool(given.get("tie_word_embeddings", False)),
            family.qkv_bias or (asked and kind != "mistral"), asked and kind not in ("qwen2", "mistral"),
            kind == "llama" and bool(given.get("mlp_bias", False)), family.qk_norm, family.n_norms,
            _windows(kind, n_layers, {**given, "sliding_window": config.get("sliding_window", given.get("sliding_window"))}),
        )  # fmt: skip

    @property
    def attention_size(self) -> int:
        """Width of the queries of all heads."""
        return self.n_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.n_kv_heads * self.head_dim

    @property
    def layer_matrices(self) -> int:
        """Weights of one layer's matrix products."""
        return self.hidden_size * (2 * self.attention_size + 2 * self.kv_size + 3 * self.intermediate_size)

    @property
    def layer_parameters(self) -> int:
        biases = (self.attention_size + 2 * self.kv_size) * self.qkv_bias + self.hidden_size * self.o_bias
        biases += (2 * self.intermediate_size + self.hidden_size) * self.mlp_bias
        return self.layer_matrices + biases + self.n_norms * self.hidden_size + 2 * self.head_dim * self.qk_norm

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def n_parameters(self) -> int:
        """All parameters; a head that shares the embedding counts once, as transformers counts it."""
        heads = 1 if self.tied else 2
        return heads * self.embedding_parameters + self.n_layers * self.layer_parameters + self.hidden_size

    @property
    def matmul_parameters(self) -> int:
        """Weights that every token is multiplied with: layers and head; not the embedding, which is looked up."""
        return self.n_layers * self.layer_matrices + self.embedding_parameters


def _windows(kind: str, n_layers: int, given: Mapping[str, Any]) -> tuple[int | None, ...]:
    window = given.get("sliding_window")
    if kind == "mistral":
        return (None if window is None else int(window),) * n_layers
    if kind == "gemma3_text":
        pattern = int(given.get("sliding_window_pattern", given.get("_sliding_window_pattern", 6)))
        types = given.get("layer_types") or [
            "full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(n_layers)
        ]
        return tuple(int(window) if t == "sliding_attention" and window is not None else None for t in types)
    if kind in ("qwen2", "qwen3") and given.get("use_sliding_window") and window is not None:
        first = int(given.get("max_window_layers", 28))
        return tuple(int(window) if i >= first else None for i in range(n_layers))
    return (None,) * n_layers
