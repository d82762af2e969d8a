"""The part of ``definemed plan`` on models: what each training would need and cost, where its config.json can be read from here.

Nothing is fetched: a config is read from a folder or from the local cache of the hub. What cannot be seen is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from rich.console import Console
from rich.markup import escape

from cluster.costs import human_time
from cluster.pipeline import Plan
from cluster.recipe import GivenModel, MergedModel, TrainedModel, TrainSpec
from store.artifact import Artifact
from store.errors import DefinemedError, InputError, RecipeError
from store.params import Json
from training.attention import SDPA
from training.estimate import USUAL_MFU, Cost, Memory, cost, memory
from training.mfu import GPUS, Gpu, dense_flops_per_token, find_gpu
from training.params import ModelInit
from training.shape import ModelShape

UNIT_TOKENS = 1e9


@dataclass(frozen=True)
class Hardware:
    """What a training is imagined to run on.

    Attributes:
        gpu: kind of device; None: H100 for a recipe that uses GPUs, and no times for one that does not.
        n_devices: None takes cluster.train_workers.
        n_tokens: of each training; None takes what the recipe or its packed rows say.
        price: of one device for one hour, in any money.
    """

    gpu: str | None = None
    n_devices: int | None = None
    mfu: float = USUAL_MFU
    n_tokens: float | None = None
    price: float | None = None

    def kind(self, uses_gpu: bool) -> Gpu | None:
        """The device's figures; RecipeError for one that has none here."""
        if self.gpu is None:
            return find_gpu("H100") if uses_gpu else None
        found = find_gpu(self.gpu)
        if found is None:
            raise RecipeError(
                f"no figures for the device {self.gpu}", where="--gpu", expected=f"one of {', '.join(g.name for _, g in GPUS)}"
            )
        return found


@dataclass(frozen=True)
class Training:
    """One training of a recipe: its model, a device's memory, its tokens if they are known, and its cost if the device is known.

    Without ``tokens`` the cost is that of UNIT_TOKENS.
    """

    name: str
    shape: ModelShape
    seq_len: int
    memory: Memory
    tokens: float | None
    cost: Cost | None


def print_trainings(console: Console, plan: Plan, hardware: Hardware) -> None:
    """What each training of the recipe needs and costs; nothing if it trains no model."""
    names = [n for n, spec in plan.recipe.models.items() if isinstance(spec, TrainedModel)]
    if not names:
        return
    gpu, n = hardware.kind(plan.recipe.cluster.use_gpu), hardware.n_devices or plan.recipe.cluster.train_workers
    where = f"on {n} x {gpu.name} at {hardware.mfu:.0%} of the peak" if gpu else "(memory; for time and energy give --gpu KIND)"
    console.print(f"\n[bold]estimate of training[/bold] {where}")
    for name in names:
        try:
            for line in lines(estimate(plan, name, hardware), gpu, n):
                console.print(line, soft_wrap=True)
        except InputError as error:
            console.print(f"  [yellow]?[/yellow] {name}: {escape(error.sentence())}", soft_wrap=True)
    if gpu:
        console.print(f"  [dim]{escape(gpu.source)}; energy is that of the devices alone, at board power[/dim]", soft_wrap=True)


def lines(found: Training, gpu: Gpu | None, n_devices: int) -> list[str]:
    """A training in words."""
    need, shape = found.memory, found.shape
    parts = ", ".join(f"{f.name} {_bytes(getattr(need, f.name))}" for f in fields(need) if getattr(need, f.name))
    total = _bytes(need.total) + (f" of {_bytes(gpu.memory_bytes)}" if gpu else "")
    if gpu and need.total > gpu.memory_bytes:
        total = f"[red]{total}: too much[/red]"
    per_token = dense_flops_per_token(shape, found.seq_len) / 1e9
    out = [
        f"  {found.name}: {shape.n_parameters:,} parameters, {per_token:.3g} GFLOP a token",
        f"    memory of a device: {total} ({parts})",
    ]
    if found.cost is not None:
        c = found.cost
        money = "" if c.money is None else f", {c.money:,.2f} in money"
        tokens = f"{found.tokens:,.0f} tokens" if found.tokens is not None else f"each {UNIT_TOKENS:,.0f} tokens"
        out.append(f"    {tokens}: {human_time(c.hours * 3600)} on {n_devices} ({c.tokens_per_s:,.0f} tokens/s), "
                   f"{c.device_hours:,.1f} device-hours, {c.energy_kwh:,.1f} kWh{money}")  # fmt: skip
    return out


def estimate(plan: Plan, name: str, hardware: Hardware) -> Training:
    """What one training of the recipe needs and costs. InputError where the shape of its model cannot be read from here."""
    spec = plan.recipe.models[name]
    assert isinstance(spec, TrainedModel)
    shape, n = shape_of(plan, name), hardware.n_devices or plan.recipe.cluster.train_workers
    tokens, seq_len = hardware.n_tokens if hardware.n_tokens is not None else _tokens(plan, name, spec.train), spec.train.seq_len
    gpu = hardware.kind(plan.recipe.cluster.use_gpu)
    what = None if gpu is None else cost(shape, tokens or UNIT_TOKENS, seq_len, gpu, n, hardware.mfu, hardware.price)
    params = spec.train
    if gpu is None and params.attn_implementation == "auto":
        params = params.model_copy(update={"attn_implementation": SDPA})  # what it is on a CPU
    return Training(name, shape, seq_len, memory(shape, params, seq_len, n), tokens, what)


def shape_of(plan: Plan, name: str) -> ModelShape:
    """The shape of a model of the recipe, through the models it comes from."""
    spec = plan.recipe.models[name]
    if isinstance(spec, MergedModel):
        return shape_of(plan, spec.merge.instruct)
    if isinstance(spec, TrainedModel):
        init = spec.train.init
        return shape_of(plan, init) if isinstance(init, str) else ModelShape.from_config(_random_config(plan, init), f"models.{name}")
    path = _config_file(spec)
    with open(path, encoding="utf-8") as file:
        try:
            config = json.load(file)
        except ValueError as error:
            raise InputError(f"this is not JSON ({error})", where=path) from error
    return ModelShape.from_config(config, path)


def _config_file(spec: GivenModel) -> str:
    if os.path.isdir(spec.source):
        path = os.path.join(spec.source, "config.json")
        if os.path.isfile(path):
            return path
        raise InputError("config.json is missing", where=spec.source)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(spec.source, "config.json", revision=spec.revision)
    except HFValidationError as error:
        raise InputError("neither a folder nor a valid name on the hub", where=spec.source) from error
    if isinstance(cached, str):
        return cached
    raise InputError("its config.json is not on this machine, so nothing can be said of memory and time", where=spec.source,
                     remedy="give a folder, or load the model once from the hub")  # fmt: skip


def _random_config(plan: Plan, init: ModelInit) -> Mapping[str, object]:
    return {
        "model_type": init.model_type, "vocab_size": init.vocab_size or _vocab_size(plan), "hidden_size": init.hidden_size,
        "num_hidden_layers": init.n_layers, "num_attention_heads": init.n_heads, "num_key_value_heads": init.n_kv_heads or init.n_heads,
        "intermediate_size": init.intermediate_size, "tie_word_embeddings": init.tie_word_embeddings, "sliding_window": None,
        "head_dim": init.hidden_size // init.n_heads, **init.config,
    }  # fmt: skip


def _vocab_size(plan: Plan) -> int:
    summary = _summary(plan, "tokenizer")
    if summary is not None:
        return int(str(summary["vocab_size"]))
    tokens = plan.recipe.tokens
    if tokens is not None and tokens.tokenizer.vocab_size is not None:
        return tokens.tokenizer.vocab_size
    raise InputError("the vocabulary is that of a tokenizer that was not read yet", where="tokens.tokenizer",
                     remedy="run until the step tokenizer, or give init.vocab_size")  # fmt: skip


def _tokens(plan: Plan, name: str, spec: TrainSpec) -> float | None:
    """Tokens of the training: its steps where they are given, its packed rows where they exist."""
    if spec.max_steps is not None:
        return float(spec.max_steps * spec.rows_per_step * spec.seq_len)
    packed = _summary(plan, f"pack/{name}")
    return None if packed is None else float(str(packed["n_tokens"])) * spec.epochs


def _summary(plan: Plan, step: str) -> dict[str, Json] | None:
    """The summary of a finished step; None if it is not done, or cannot be looked at."""
    try:
        if step in {n.name for n in plan.graph.nodes} and plan.graph.is_done(plan.root, step):
            return dict(Artifact.open(plan.graph.folder(plan.root, step)).manifest.summary)
    except DefinemedError:
        return None  # the steps' table has said what is the matter
    return None


def _bytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 5e8 else f"{n_bytes / 1e6:,.1f} MB"
