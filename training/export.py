"""Export: a folder that transformers, vLLM and mergekit load, with the same bytes for the same weights.

Weights as safetensors, config.json without machine paths, the tokenizer's files as they are (its chat template with them), and a
generation_config.json that stops at the end of text and, for chat models, at the end of a turn. The tokenizer in the folder is then
loaded the way users load it and compared with its own tokenizer.json, because AutoTokenizer may rebuild a tokenizer from the model type
and change ids without a word.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from store.errors import DefinemedError, InputError, ResourceError, is_disk_full
from training.lora import ADAPTER, split, write_adapter
from training.model import without_bars
from training.parallel import Gang, unwrap
from training.params import LoraParams

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "tekken.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
PROBE = "Patientin, 63 J., klagt über Dyspnoe – SpO₂ 91 %.\n\n  def f(x):\treturn x**2  # 日本語 Ünïcödé 🫀 don't"
SHARD = "5GB"


def export(
    wrapped: nn.Module, gang: Gang, folder: str, *, dtype: torch.dtype, tokenizer: str | None, source: str | None,
    lora: LoraParams | None = None,
) -> None:  # fmt: skip
    """Write the model to ``folder`` (replaced if there). All processes call it; the first one writes. What goes wrong is raised on all.

    Args:
        lora: given, the adapters are merged into the weights, and written by themselves to ``adapter`` beside ``folder`` in float32.
        tokenizer: folder whose tokenizer files are copied; None exports no tokenizer.
        source: folder of the model the run started from, for its generation settings.

    Raises:
        ResourceError: the disk is full.
    """
    model = unwrap(wrapped).model
    state = full_state(model, gang)
    error: BaseException | None = None
    size = sum(t.numel() for t in state.values()) * dtype.itemsize
    if gang.leads:
        try:
            _write_folder(model, state, folder, dtype, tokenizer, source, lora)
        except (OSError, SafetensorError, DefinemedError) as met:
            error = _full_disk(folder, size) if _says_full(met) else met
    if gang.any(error is not None):
        raise error or ResourceError("the first process could not write the model", where=folder)


def _write_folder(
    model: Any, state: dict[str, Tensor], folder: str, dtype: torch.dtype, tokenizer: str | None, source: str | None,
    lora: LoraParams | None,
) -> None:  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    if lora is not None:
        beside = os.path.join(os.path.dirname(folder), ADAPTER)
        shutil.rmtree(beside, ignore_errors=True)
        state, adapter = split(state, lora)
        write_adapter(beside, adapter, lora)
    state = {n: _cast(state.pop(n), dtype) for n in list(state)}  # one by one: the two are never there in full together
    with without_bars():
        model.save_pretrained(folder, state_dict=state, max_shard_size=SHARD)
    _clean_config(folder, dtype)
    if tokenizer is not None:
        copy_tokenizer(tokenizer, folder)
    _write_generation_config(folder, model, source)
    if tokenizer is not None:
        check_tokenizer(folder)


def _says_full(error: BaseException) -> bool:
    """safetensors says in words what the system says in numbers."""
    return is_disk_full(error) if isinstance(error, OSError) else os.strerror(errno.ENOSPC) in str(error)


def _full_disk(folder: str, size: int) -> ResourceError:
    return ResourceError(
        f"the disk is full: the trained model takes {size / 1e9:.3g} GB", where=folder,
        remedy="free space, and run again: it goes on from the last checkpoint",
    )  # fmt: skip


def rehearse(config: PreTrainedConfig, tokenizer: str) -> None:
    """InputError if the folder that an export would write had another tokenizer than ``tokenizer``: known before hours of training."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        copy_tokenizer(tokenizer, folder)
        check_tokenizer(folder)


def full_state(model: nn.Module, gang: Gang) -> dict[str, Tensor]:
    """The whole state dict, on the CPU when sharded, in the model's order; empty on other processes when sharded."""
    if gang.sharded and dist.is_initialized():
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    else:
        state = model.state_dict()
    # A tied head is the embedding under a second name; copies would no longer share memory and be written twice.
    aliases = {n for n, _ in model.named_parameters(remove_duplicate=False)} - {n for n, _ in model.named_parameters()}
    return {n: t.detach() for n, t in state.items() if n not in aliases}


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()


def copy_tokenizer(source: str, target: str) -> None:
    """Copy the tokenizer's files byte by byte; InputError if there is none."""
    names = [n for n in TOKENIZER_FILES if os.path.isfile(os.path.join(source, n))]
    if not set(names) & {"tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json"}:
        raise InputError("there is no tokenizer here", where=source, expected="tokenizer.json")
    for name in names:
        shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def check_tokenizer(folder: str) -> None:
    """InputError if AutoTokenizer gives other ids than the folder's tokenizer.json."""
    raw = os.path.join(folder, "tokenizer.json")
    if not os.path.isfile(raw):
        return
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    expected = Tokenizer.from_file(raw).encode(PROBE, add_special_tokens=False).ids
    found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).encode(PROBE, add_special_tokens=False)
    if list(found) != list(expected):
        raise InputError(
            "AutoTokenizer rebuilds this tokenizer with other ids than its tokenizer.json",
            where=folder,
            remedy="train the tokenizer through the class of the model type (Qwen2Tokenizer().train_new_from_iterator for qwen2), "
            "or choose the model type llama with a PreTrainedTokenizerFast",
        )


def _clean_config(folder: str, dtype: torch.dtype) -> None:
    config = _read(os.path.join(folder, "config.json"))
    config.pop("_name_or_path", None)
    config["dtype"], config["use_cache"] = str(dtype).removeprefix("torch."), True
    _write(os.path.join(folder, "config.json"), config)


def _write_generation_config(folder: str, model: Any, source: str | None) -> None:
    """The parent's settings if it has some; end ids of the config, the parent and the chat template's end of turn."""
    parent = os.path.join(source, "generation_config.json") if source else ""
    out = _read(parent) if os.path.isfile(parent) else {}
    ends = _ids(model.config.eos_token_id) + _ids(out.get("eos_token_id"))
    if _has_template(folder):
        ends += _token_ids(folder, END_OF_TURN)
    unique = sorted(set(ends))
    if unique:
        out["eos_token_id"] = unique[0] if len(unique) == 1 else unique
        if out.get("pad_token_id") is None:
            out["pad_token_id"] = model.config.pad_token_id if model.config.pad_token_id is not None else unique[0]
    if model.config.bos_token_id is not None:
        out.setdefault("bos_token_id", model.config.bos_token_id)
    out.pop("_from_model_config", None)
    _write(os.path.join(folder, "generation_config.json"), out)


def _has_template(folder: str) -> bool:
    if os.path.isfile(os.path.join(folder, "chat_template.jinja")):
        return True
    name = os.path.join(folder, "tokenizer_config.json")
    return os.path.isfile(name) and bool(_read(name).get("chat_template"))


def _token_ids(folder: str, tokens: tuple[str, ...]) -> list[int]:
    """Ids of those tokens the tokenizer lists as added tokens."""
    name = os.path.join(folder, "tokenizer.json")
    added = _read(name).get("added_tokens", []) if os.path.isfile(name) else []
    return [int(t["id"]) for t in added if t["content"] in tokens]


def _ids(value: object) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, list) else [int(str(value))]


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        return dict(json.load(file))


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
