"""The weights of a model folder: which files hold them, what the headers say, and the tensors one after another.

Reading headers needs neither torch nor the weights themselves: a safetensors file opens with an 8-byte little-endian length and
a JSON header (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.errors import InputError, from_os_error
from store.models import ModelFolder

if TYPE_CHECKING:
    import torch

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header of ``file`` describes it. ``dtype`` is the format's name ("BF16")."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str


def weight_files(folder: ModelFolder) -> list[str]:
    """Names of the files transformers would load, sorted; InputError names the first that is missing.

    A folder may hold other safetensors files as well (Mistral's consolidated.safetensors): those are not read.
    """
    if not os.path.isfile(os.path.join(folder.path, INDEX)):
        if not os.path.isfile(os.path.join(folder.path, SINGLE)):
            raise InputError(f"the folder has neither {SINGLE} nor {INDEX}", where=folder.path,
                             remedy="save the model again with model.save_pretrained(folder)")  # fmt: skip
        return [SINGLE]
    names = sorted(set(read_json(folder.path, INDEX).get("weight_map", {}).values()))
    for name in names:
        if not os.path.isfile(os.path.join(folder.path, name)):
            raise InputError(f"a weight file named by {INDEX} is missing", where=os.path.join(folder.path, name),
                             remedy="copy the model again: it is incomplete")  # fmt: skip
    return names


def read_headers(folder: ModelFolder) -> dict[str, TensorEntry]:
    """Every tensor of the model by name, from the headers only. InputError if a file is damaged or cut short."""
    entries: dict[str, TensorEntry] = {}
    for name in weight_files(folder):
        header, n_bytes_expected = _read_header(os.path.join(folder.path, name))
        for tensor, info in header.items():
            entries[tensor] = TensorEntry(tensor, str(info["dtype"]), tuple(info["shape"]), name)
        if os.path.getsize(os.path.join(folder.path, name)) != n_bytes_expected:
            raise InputError("the weight file is cut short or has bytes too many", where=os.path.join(folder.path, name),
                             expected=f"{n_bytes_expected} bytes, found {os.path.getsize(os.path.join(folder.path, name))}",
                             remedy="copy the model again")  # fmt: skip
    return dict(sorted(entries.items()))


def _read_header(path: str) -> tuple[dict[str, dict], int]:  # type: ignore[type-arg]  # JSON
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return header, 8 + length + max((info["data_offsets"][1] for info in header.values()), default=0)
    except OSError as error:
        raise from_os_error(error, path) from error
    except (struct.error, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"this is not a safetensors file ({error})", where=path, remedy="copy the model again") from error


def read_json(folder: str, name: str) -> dict:  # type: ignore[type-arg]  # JSON
    """A JSON object of a model folder; {} if the file is absent, InputError if it is damaged."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except ValueError as error:
        raise InputError(f"the file is not JSON ({error})", where=path) from error
    if not isinstance(found, dict):
        raise InputError("the file does not hold a JSON object", where=path)
    return found


def tensor_pairs(first: ModelFolder, second: ModelFolder) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, tensor of first, tensor of second) in name order; one pair is in memory at a time. The names must agree."""
    from safetensors import safe_open

    where = [read_headers(first), read_headers(second)]
    with ExitStack() as stack:
        handles = [
            {f: stack.enter_context(safe_open(os.path.join(m.path, f), framework="pt")) for f in weight_files(m)}
            for m in (first, second)
        ]
        for name in where[0]:
            yield (name, *(h[w[name].file].get_tensor(name) for h, w in zip(handles, where, strict=True)))
