"""Weights of a sharded model: the model is built without weights, cut up, and every process reads its own slices.

No process ever holds the whole model: a safetensors folder is read slice by slice (torch.distributed.checkpoint), whatever its data
type, into float32 shards. Only where that cannot be done does the first process hold it all and hand it out, tensor by tensor: for
random weights, which are one stream of random numbers, and for folders whose tensors have other names than the model's parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from store.errors import DefinemedError, ResourceError
from training.families import check_fits, random_config
from training.lora import BASE, is_adapter
from training.parallel import Gang, unwrap
from training.params import ModelInit
from training.saver import read_shards


def empty_model(init: ModelInit, *, folder: str | None, seq_len: int, vocab_size: int, eos_id: int, attention: str) -> PreTrainedModel:
    """The model that build_model gives, its parameters without storage (on the device ``meta``); its buffers are there."""
    if folder is None:
        config = random_config(init, seq_len=seq_len, vocab_size=vocab_size, eos_id=eos_id)
    else:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    check_fits(config, seq_len=seq_len, attention=attention, where=folder or "model from random weights")
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    model.tie_weights()  # each parameter was replaced as it was registered: a tied head must be one again before it is cut up
    return model


def materialise(
    wrapped: nn.Module, gang: Gang, folder: str | None, adapters: dict[str, Tensor], whole: Callable[[], PreTrainedModel]
) -> None:
    """Give a sharded model of empty_model its storage on the gang's device and its weights. All processes call it.

    Args:
        adapters: whole adapter weights by name, the same on every process.
        whole: builds the whole model, with names of its own folder mapped; called on the first process where slices cannot be read.
    """
    model = unwrap(wrapped).model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    wrapped.to_empty(device=gang.device)
    model.tie_weights()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        weights = {n.replace(BASE, "."): p.detach() for n, p in model.named_parameters() if not is_adapter(n)}
        if folder is not None and _same_names(folder, weights):
            read_shards(folder, weights, None if gang.size == 1 else torch.distributed.group.WORLD)
        else:
            _hand_out(weights, gang, whole)
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                _local(parameter).copy_(_local(_cut(adapters[name].to(gang.device), parameter, None)))


def _same_names(folder: str, weights: dict[str, Tensor]) -> bool:
    """Whether the folder has every parameter under its own name and shape."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), framework="pt") as file:
                shapes |= {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  not a dict
    return all(shapes.get(n) == list(w.shape) for n, w in weights.items())


def _hand_out(weights: dict[str, Tensor], gang: Gang, whole: Callable[[], PreTrainedModel]) -> None:
    """From the first process to all, one tensor after another."""
    full: dict[str, Tensor] = {}
    error: DefinemedError | None = None
    if gang.leads:
        try:
            full = dict(whole().state_dict())
        except DefinemedError as met:
            error = met
    if gang.any(error is not None):
        raise error or ResourceError("the first process could not load the model", where="training")
    for name, weight in weights.items():
        source = full.pop(name) if gang.leads else torch.empty(weight.shape)
        _local(weight).copy_(_local(_cut(source.to(gang.device, torch.float32), weight, 0)))


def _cut(full: Tensor, like: Tensor, source: int | None) -> Tensor:
    """``full`` sharded as ``like`` is: the tensor of process ``source``, or with None each process's own."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=source)


def _local(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
