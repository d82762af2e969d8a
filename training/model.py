"""The model: loading it safely, or building it from random weights, and running it on packed rows with documents kept apart.

    B rows, T positions, D hidden size, V vocabulary

Weights are safetensors, code from model repositories is never run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as bars

from store.errors import InputError
from store.models import ModelFolder
from training.attention import FLASH, SDPA
from training.families import LINEAR_HEAD, block_mask, check_fits, masks, random_config, softcap_of
from training.loss import linear_cross_entropy, linear_nats, nats_of_logits
from training.params import ModelInit

HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


def find_model(init: ModelInit) -> str | None:
    """Local folder of the model to start from (fetched from the hub if ``from`` is no folder); None for random weights."""
    if init.from_ is None:
        return None
    if os.path.isdir(init.from_):
        return ModelFolder.open(init.from_).path
    if os.path.isabs(init.from_) or init.from_.startswith("."):
        raise InputError("no such model folder", where=init.from_, remedy="check init.from in the recipe")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return ModelFolder.open(snapshot_download(init.from_, revision=init.revision, allow_patterns=HUB_FILES)).path
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"cannot get this model from the hub ({type(error).__name__})",
            where=init.from_,
            expected="a folder, or a hub name such as Qwen/Qwen2.5-7B-Instruct",
            remedy="on a machine without internet, copy the model folder there and give its path",
        ) from error


def build_model(init: ModelInit, *, folder: str | None, seq_len: int, vocab_size: int, eos_id: int, attention: str) -> PreTrainedModel:
    """The model in float32, checked for ``seq_len`` and attention windows.

    Args:
        folder: of find_model; None makes random weights from init.seed (the same on every machine and process).
        vocab_size, eos_id: of the token stores; used only for random weights.
        attention: of training.attention.attention_on.
    """
    model = _random(init, seq_len, vocab_size, eos_id, attention) if folder is None else _load(folder, attention)
    check_fits(model.config, seq_len=seq_len, attention=attention, where=folder or "model from random weights")
    return model


def _random(init: ModelInit, seq_len: int, vocab_size: int, eos_id: int, attention: str) -> PreTrainedModel:
    config = random_config(init, seq_len=seq_len, vocab_size=vocab_size, eos_id=eos_id)
    with torch.random.fork_rng():
        torch.manual_seed(init.seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)


def _load(folder: str, attention: str) -> PreTrainedModel:
    try:
        with without_bars():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, attn_implementation=attention,
                local_files_only=True, output_loading_info=True,
            )  # fmt: skip
    except (ImportError, ValueError, KeyError) as error:
        raise InputError(f"transformers cannot load this model ({error})", where=folder) from error
    if info["missing_keys"] or info["mismatched_keys"]:
        names = sorted(str(k) for k in [*info["missing_keys"], *info["mismatched_keys"]])
        raise InputError(
            f"{len(names)} tensors are missing or of another shape ({', '.join(names[:3])})",
            where=folder,
            remedy="they would have been drawn at random: give a complete model folder",
        )
    return model


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence transformers' progress bars, and restore what was set."""
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


class PackedLM(nn.Module):
    """A causal language model on packed rows. ``forward`` gives the summed loss; ``nats`` (mode ``each``) the loss of each position.

    The head runs inside this module's forward, so that wrapping it whole (DDP, FSDP) keeps the head's weight gathered where it is used.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        head = model.get_output_embeddings()
        self.softcap = softcap_of(model.config)
        self.fused = model.config.model_type in LINEAR_HEAD and isinstance(head, nn.Linear) and head.bias is None
        self.attention = model.config._attn_implementation

    def forward(self, input_ids_BT: Tensor, position_ids_BT: Tensor, piece_BT: Tensor, labels_BT: Tensor, each: bool = False) -> Tensor:
        """Float32: the scalar sum of nats over targets, or with ``each`` the nats [B, T] (0 where there is no target)."""
        labels_N = labels_BT.reshape(-1)
        with torch.autocast(input_ids_BT.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if not self.fused:
                nats_N = nats_of_logits(self.logits(input_ids_BT, position_ids_BT, piece_BT).flatten(0, 1), labels_N)
                return nats_N.view_as(labels_BT) if each else nats_N.sum()
            decoder, weight_VD = self.model.get_decoder(), self.model.get_output_embeddings().weight
            hidden_BTD = decoder(**self._inputs(input_ids_BT, position_ids_BT, piece_BT)).last_hidden_state
            hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        if each:
            return linear_nats(hidden_ND, weight_VD, labels_N, self.dtype, self.softcap).view_as(labels_BT)
        return linear_cross_entropy(hidden_ND, weight_VD, labels_N, self.dtype, self.softcap)

    def logits(self, input_ids_BT: Tensor, position_ids_BT: Tensor, piece_BT: Tensor) -> Tensor:
        """[B, T, V] logits of packed rows."""
        out: Tensor = self.model(**self._inputs(input_ids_BT, position_ids_BT, piece_BT)).logits
        return out.reshape(*input_ids_BT.shape, -1)

    def _inputs(self, input_ids_BT: Tensor, position_ids_BT: Tensor, piece_BT: Tensor) -> dict[str, Any]:
        if self.attention == FLASH:  # boundaries are found in position ids for a batch of one only
            return {"input_ids": input_ids_BT.view(1, -1), "position_ids": position_ids_BT.view(1, -1), "attention_mask": None,
                    "use_cache": False}  # fmt: skip
        return {"input_ids": input_ids_BT, "position_ids": position_ids_BT, "use_cache": False,
                "attention_mask": masks(self.model.config, piece_BT, self._mask_maker())}  # fmt: skip

    def _mask_maker(self) -> Callable[..., Any]:
        if self.attention == SDPA:
            return block_mask
        from training import flex

        return flex.block_mask
