"""Writing a model's weights so that the same weights give the same bytes.

mergekit fills its output files in the order of its task graph, which depends on paths and object addresses; a model of several files
would then be cut differently from run to run. Here tensors are written in name order, cut greedily at the size limit, with nothing
but ``format`` in the metadata. One output file is in memory at a time.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from merging.weights import INDEX, SINGLE, TensorEntry, read_headers, weight_files
from store.errors import StepError
from store.models import ModelFolder

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


def rewrite(source: ModelFolder, out: str, shard_size_bytes: int) -> dict[str, TensorEntry]:
    """Copy the weights of ``source`` into ``out`` as shards of at most ``shard_size_bytes`` (a larger tensor stands alone).

    Returns the tensors found. StepError if one of them is not finite.
    """
    from safetensors.torch import save_file

    entries = read_headers(source)
    groups = _cut(entries, shard_size_bytes)
    names = [SINGLE] if len(groups) == 1 else [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        save_file(_load(source, entries, group), os.path.join(out, name), metadata={"format": "pt"})
    if len(groups) > 1:
        _write_index(out, entries, dict(zip(names, groups, strict=True)))
    return entries


def _cut(entries: dict[str, TensorEntry], limit: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, entry in entries.items():
        if groups[-1] and size + n_bytes(entry) > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += n_bytes(entry)
    return groups


def n_bytes(entry: TensorEntry) -> int:
    """Size of a tensor's data."""
    size = ITEM_BYTES[entry.dtype]
    for d in entry.shape:
        size *= d
    return size


def _load(source: ModelFolder, entries: dict[str, TensorEntry], names: list[str]) -> dict[str, torch.Tensor]:
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in weight_files(source):
        wanted = [n for n in names if entries[n].file == file]
        if wanted:
            with safe_open(os.path.join(source.path, file), framework="pt") as handle:
                found.update({n: handle.get_tensor(n) for n in wanted})
    bad = [n for n, tensor in found.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise StepError(f"the merged tensor {bad[0]} holds NaN or infinite weights", where="step merge",
                        remedy="set merge.dtype: bfloat16 (float16 overflows above 65504)")  # fmt: skip
    return found


def _write_index(out: str, entries: dict[str, TensorEntry], files: dict[str, list[str]]) -> None:
    where = {name: file for file, names in files.items() for name in names}
    total = sum(n_bytes(e) for e in entries.values())
    body = {"metadata": {"total_size": total}, "weight_map": {name: where[name] for name in entries}}
    with open(os.path.join(out, INDEX), "w", encoding="utf-8") as file:
        json.dump(body, file, indent=2)
        file.write("\n")
