"""Low-rank adapters (Hu et al., arXiv 2106.09685) through peft: put into the model, merged out of it, exported by themselves.

A weight W [out, in] becomes W + (alpha / rank) B A with A [rank, in], B [out, rank], and only A and B are trained. Merging works on the
gathered state dict, not on modules, so that it is the same for sharded models.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from store.errors import InputError, ResourceError
from store.fingerprint import canonical_json, sha256_hex
from training.params import LoraParams

BASE, A, B = ".base_layer.", ".lora_A.default.", ".lora_B.default."
ADAPTER = "adapter"


def add_adapters(model: PreTrainedModel, lora: LoraParams, seed: int) -> None:
    """Freeze ``model`` and put adapters beside its target modules, in place. B is zero: the model's outputs do not change yet.

    On the device ``meta`` they get no values; ``first_values`` has them.

    ResourceError if peft is not installed, InputError if the model has no such modules.
    """
    try:
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ResourceError("LoRA needs the package peft", where="train.lora", remedy="pip install 'definemed[lora]'") from error

    with torch.random.fork_rng():  # peft draws values that are not used
        try:
            inject_adapter_in_model(_config(lora), model)
        except ValueError as error:
            raise InputError(
                f"the model cannot take these adapters ({str(error).splitlines()[0]})",
                where="train.lora.target_modules",
                remedy="name linear layers of the model, such as q_proj",
            ) from error
    with torch.no_grad():
        for name, value in first_values(model, seed).items():
            parameter = model.get_parameter(name)
            if not parameter.is_meta:
                parameter.copy_(value)


def first_values(model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """Name to value of every adapter: A uniform as a linear layer's weight is (Kaiming with a = sqrt 5), B zero.

    Each is drawn from a stream of its own, so that the order of modules, their device and sharding do not matter.
    """
    out = {}
    for name, parameter in model.named_parameters():
        if A in name:
            stream = torch.Generator().manual_seed(int(sha256_hex(canonical_json([seed, name]))[:15], 16))
            out[name] = (torch.rand(parameter.shape, generator=stream) * 2 - 1) / math.sqrt(parameter.shape[1])
        elif B in name:
            out[name] = torch.zeros(parameter.shape)
    return out


def is_adapter(name: str) -> bool:
    """Whether this is the name of an adapter's parameter in the model."""
    return A in name or B in name


def split(state: dict[str, Tensor], lora: LoraParams) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights with the adapters merged, under the names of the model without them; the adapters under peft's names in files).

    Empties ``state`` as it goes, so that the two never exist in full beside each other.
    """
    adapter = {n: state.pop(n) for n in list(state) if is_adapter(n)}
    merged: dict[str, Tensor] = {}
    for name in list(state):
        weight = state.pop(name)
        up = adapter.get(name.replace(BASE, B))
        if BASE in name and up is not None:
            down = adapter[name.replace(BASE, A)]
            weight = weight + (up @ down) * (lora.alpha / lora.rank)
        merged[name.replace(BASE, ".")] = weight
    return merged, {f"base_model.model.{n.replace('.default.', '.')}": t for n, t in adapter.items()}


def write_adapter(folder: str, adapter: dict[str, Tensor], lora: LoraParams) -> None:
    """A folder that peft's ``PeftModel.from_pretrained(base, folder)`` loads; same adapter, same bytes."""
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    save_file({n: t.contiguous() for n, t in sorted(adapter.items())}, os.path.join(folder, "adapter_model.safetensors"),
              metadata={"format": "pt"})  # fmt: skip
    body = {k: sorted(v) if isinstance(v, set) else v for k, v in _config(lora).to_dict().items()}
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps({**body, "inference_mode": True}, indent=2, sort_keys=True, default=str) + "\n")


def _config(lora: LoraParams) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.target_modules), task_type="CAUSAL_LM"
    )
