"""Merging two model folders into one with mergekit, whose methods these are.

The instruct parent is the base: t = 0 is that model, and its configuration, tokenizer, chat template and generation config are copied
byte for byte. The output folder depends on the two models and the parameters only: no path, date or order of execution is in it.

mergekit and torch are imported when a merge runs. Peak memory: the largest output file (MergeParams.shard_size_bytes) plus a few
tensors; peak disk: twice the merged model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from merging.angles import measure, summarise
from merging.check import generates, same_layout
from merging.params import Interpolation, MergeParams
from merging.preflight import Preflight, preflight
from merging.shards import rewrite
from store.errors import InputError, ResourceError, StepError
from store.models import ModelFolder
from store.params import Json

SCRATCH = "_mergekit"
RECIPE = "mergekit_config.yml"
INHERITED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def merge(params: MergeParams, instruct: str, trained: str, out: str, *, device: str = "cpu") -> dict[str, Json]:
    """Merge ``trained`` into ``instruct`` and write the model folder ``out``.

    Args:
        params: method and its numbers.
        instruct: folder of the instruct parent (t = 0).
        trained: folder of the trained model (t = 1).
        out: folder to write; created if absent, files of an earlier attempt are replaced.
        device: where the arithmetic happens, "cpu" or "cuda" (whose last bits may differ).

    Returns:
        A deterministic summary: size, number format, notes of the preflight, angle statistics (merging.angles.summarise).

    Raises:
        InputError: the models cannot be merged (merging.preflight).
        ResourceError: mergekit is not installed.
        StepError: the merge went through but its result is unusable.
    """
    parents = ModelFolder.open(instruct), ModelFolder.open(trained)
    if os.path.realpath(out) in {os.path.realpath(p.path) for p in parents}:
        raise InputError("the merged model would overwrite its parent", where=out, remedy="choose another output folder")
    found = preflight(params, *parents)
    angles = measure(*parents)
    os.makedirs(out, exist_ok=True)
    _clear_weights(out)
    scratch = os.path.join(out, SCRATCH)
    shutil.rmtree(scratch, ignore_errors=True)
    _run_mergekit(params, found, parents, scratch, device)
    entries = rewrite(ModelFolder(scratch), out, params.shard_size_bytes)
    shutil.rmtree(scratch)
    _write_config(parents[0], found.dtype, out)
    for name in INHERITED:
        if os.path.isfile(os.path.join(instruct, name)):
            shutil.copyfile(os.path.join(instruct, name), os.path.join(out, name))
    _write_recipe(params, found, out)
    same_layout(entries, parents[0], found.dtype)
    summary: dict[str, Json] = {
        "method": params.method,
        "dtype": found.dtype,
        "n_parameters": found.n_parameters,
        "notes": list(found.notes),
        **summarise(angles, params.method),
    }
    if params.check_generation:
        generates(out, device)
    return summary


def _clear_weights(out: str) -> None:
    """Weights of an earlier attempt cut otherwise would be loaded instead of the new ones."""
    for name in os.listdir(out):
        if name.endswith((".safetensors", ".safetensors.index.json")):
            os.remove(os.path.join(out, name))


def _run_mergekit(params: MergeParams, found: Preflight, parents: tuple[ModelFolder, ModelFolder], out: str, device: str) -> None:
    try:
        from mergekit.config import MergeConfiguration
        from mergekit.merge import MergeOptions, run_merge
    except ImportError as error:
        raise ResourceError(f"mergekit cannot be imported ({error})", where="step merge", remedy="pip install mergekit") from error
    configuration = MergeConfiguration.model_validate(_configuration(params, found, parents[0].path, parents[1].path))
    options = MergeOptions(
        device=device, trust_remote_code=False, lazy_unpickle=True, random_seed=params.seed, copy_tokenizer=False,
        write_model_card=False, quiet=True, out_shard_size=params.shard_size_bytes,
    )  # fmt: skip
    with _one_thread():
        run_merge(configuration, out, options)
    if not os.path.isdir(out):
        raise StepError("mergekit wrote no model", where="step merge")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over a tensor are cut by the number of threads, and with them the last bit of the angle and of every merged weight."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _configuration(params: MergeParams, found: Preflight, instruct: str, trained: str) -> dict[str, object]:
    """What mergekit is told. Arithmetic is in float32 whatever the format, so that only the last rounding loses bits."""
    # Paths go in as objects: in a string mergekit would read "+" as a LoRA and "@" as a revision.
    base, other = {"model": {"path": instruct}}, {"model": {"path": trained}}
    common = {"dtype": "float32", "out_dtype": found.dtype}
    if params.method == "linear":
        models = [
            {"model": model, "parameters": {"weight": weight}} for model, weight in zip((base, other), params.weights, strict=True)
        ]
        return {"merge_method": "linear", "base_model": base, "models": models, "parameters": {"normalize": True}, **common}
    return {
        "merge_method": "slerp",
        "base_model": base,
        "models": [{"model": base}, {"model": other}],
        "parameters": {"t": _filters(params)},
        **common,
    }


def _filters(params: MergeParams) -> list[dict[str, object]]:
    """mergekit's conditional parameter: the first filter that occurs in a tensor's name decides."""
    parts: list[tuple[str, Interpolation | None]] = [("self_attn", params.self_attn), ("mlp", params.mlp)]
    filters: list[dict[str, object]] = [{"filter": name, "value": value} for name, value in parts if value is not None]
    return [*filters, {"value": params.t}]


def _write_config(instruct: ModelFolder, dtype: str, out: str) -> None:
    """The instruct parent's config.json, untouched but for the number format if that changed."""
    name = os.path.join(out, "config.json")
    shutil.copyfile(os.path.join(instruct.path, "config.json"), name)
    config = instruct.config
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    if config.get(key) != dtype:
        with open(name, "w", encoding="utf-8") as file:
            json.dump({**config, key: dtype}, file, indent=2, ensure_ascii=False)
            file.write("\n")


def _write_recipe(params: MergeParams, found: Preflight, out: str) -> None:
    """The mergekit configuration with the roles of the models in place of their paths: JSON, which is YAML as well."""
    with open(os.path.join(out, RECIPE), "w", encoding="utf-8") as file:
        json.dump(_configuration(params, found, "instruct", "trained"), file, indent=2, sort_keys=True)
        file.write("\n")
