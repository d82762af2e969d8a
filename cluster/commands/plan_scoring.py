"""The part of ``definemed plan`` on scoring: fastText over every page on all cores, an encoder over what the first step lets through.

Pages that reach the encoder are those of the classifier's card at the loose threshold if it was trained, else a share that is said to
be assumed. Nothing is fetched; an encoder whose config.json is not here is taken for one of the size of multilingual-e5-small, which is
said.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import cast

from rich.console import Console
from rich.markup import escape

from cluster.costs import EncoderCost, EncoderShape, Rates, encoder_cost, human_time
from cluster.pipeline import Plan
from cluster.recipe import Recipe
from corpus.classifier import ClassifierParams
from corpus.classifier.encoder import SMALL
from corpus.classifier.train import CARD
from corpus.stages.score import Score
from store.artifact import Artifact
from store.errors import DefinemedError
from store.models import MODEL
from store.params import Json
from training.mfu import Gpu

ASSUMED = EncoderShape(12, 384, 1536)
PASSING = 0.05
DEVICE_SHARE = 0.3
"""Share of a GPU's peak that an encoder's forward pass is assumed to reach; not measured."""


@dataclass(frozen=True)
class Scoring:
    """What the user knows better than this plan.

    Attributes:
        n_docs: pages; None: those of the source.
        pass_share: share of the pages that reach the encoder; None: by the card, else PASSING.
        pages_per_s: pages an encoder's device scores in a second, measured by the user.
        n_cores: None takes cluster.workers, else this machine's.
    """

    n_docs: float | None = None
    pass_share: float | None = None
    pages_per_s: float | None = None
    n_cores: int | None = None


def print_scoring(console: Console, plan: Plan, n_docs: float | None, guess: Scoring, gpu: Gpu | None, n_devices: int) -> None:
    """What scoring costs; nothing if the recipe scores nothing or the number of pages is not known."""
    corpus, rates = plan.recipe.corpus, Rates.load()
    stages = [s for s in (*corpus.stages, *corpus.after_dedup) if isinstance(s, Score)]
    if rates is None or n_docs is None or not (stages or corpus.scoring):
        return
    n_cores = cores(plan.recipe, guess)
    console.print(f"\n[bold]estimate of scoring[/bold] {n_docs:,.0f} pages")
    for stage in stages:
        core_s = n_docs * rates.stage_us["score"] / 1e6
        console.print(f"  {stage.name} (fastText): {human_time(core_s)} of one core, {human_time(core_s / n_cores)} on {n_cores}")
    for name in corpus.scoring:
        for line in encoder_lines(plan, name, n_docs, guess, rates, gpu, n_devices, n_cores):
            console.print(line, soft_wrap=True)
    console.print(f"  [dim]rates of a core measured on {escape(rates.machine)}[/dim]")


def cores(recipe: Recipe, guess: Scoring) -> int:
    """Cores that score."""
    return guess.n_cores or recipe.cluster.workers or len(os.sched_getaffinity(0))


def encoder_lines(
    plan: Plan, name: str, n_docs: float, guess: Scoring, rates: Rates, gpu: Gpu | None, n_devices: int, n_cores: int
) -> list[str]:
    """An encoder in words."""
    if rates.encoder is None:
        return [f"  {name}: not measured, so not counted"]
    params = plan.recipe.corpus.classifiers[name]
    shape, known = shape_of(plan, name, params)
    share, where = passing(plan, name, guess)
    flops = None if gpu is None else gpu.peak_flops * DEVICE_SHARE
    cost = encoder_cost(n_docs * share, params.transformer.max_tokens, shape, rates.encoder, flops, guess.pages_per_s)
    size = f"{shape.n_layers} layers of {shape.hidden}" + ("" if known else ", assumed: its config.json is not on this machine")
    return [
        f"  scoring-{name} ({params.kind}; {size}; {params.transformer.max_tokens} tokens a page at most):",
        f"    {cost.n_pages:,.0f} pages ({share:.1%}, {where}), {cost.n_tokens / 1e9:,.1f} G tokens at most, duplicates included",
        *device_lines(cost, guess, gpu, n_devices, n_cores), _cpu_line(cost, n_cores),
    ]  # fmt: skip


def device_lines(cost: EncoderCost, guess: Scoring, gpu: Gpu | None, n_devices: int, n_cores: int) -> list[str]:
    """Time on devices, and the cores they need."""
    if cost.device_s is None:
        return []
    kind = gpu.name if gpu is not None else "device"
    how = f"at {guess.pages_per_s:,.0f} pages/s each" if guess.pages_per_s else f"at {DEVICE_SHARE:.0%} of the peak (assumed)"
    forward_s, tokenise_s = cost.device_s / n_devices, cost.tokenise_core_s / n_cores
    slower = f"; tokenising on {n_cores} cores takes {human_time(tokenise_s)}" if tokenise_s > forward_s else ""
    return [
        f"    on {n_devices} x {kind} {how}: {human_time(forward_s)}, if {cost.cores_to_keep_up(n_devices):,} cores tokenise{slower}"
    ]


def _cpu_line(cost: EncoderCost, n_cores: int) -> str:
    core_s = cost.forward_core_s + cost.tokenise_core_s
    return f"    on CPUs alone: {human_time(core_s)} of one core, {human_time(core_s / n_cores)} on {n_cores}"


def shape_of(plan: Plan, name: str, params: ClassifierParams) -> tuple[EncoderShape, bool]:
    """(the encoder's shape, whether it is known): of the trained model, of its folder, of the small random one."""
    source = params.transformer.model
    if source is None:
        return EncoderShape(SMALL["num_hidden_layers"], SMALL["hidden_size"], SMALL["intermediate_size"]), True
    made = _artifact(plan, f"classifier/{name}")
    try:
        if made is not None:
            return EncoderShape.from_config(json.loads(made.folder.read_bytes(f"{MODEL}/config.json"))), True
        with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
            return EncoderShape.from_config(json.load(file)), True
    except (OSError, ValueError, DefinemedError):
        return ASSUMED, False


def passing(plan: Plan, name: str, guess: Scoring) -> tuple[float, str]:
    """(share of the pages that reach the encoder, where it is from)."""
    if guess.pass_share is not None:
        return guess.pass_share, "given"
    first = next(
        (s for s in plan.recipe.corpus.stages if isinstance(s, Score) and s.name == plan.recipe.corpus.scoring[name].after), None
    )
    if first is None or first.min is None:
        return 1.0, "no stage in front drops any"
    step = "classifier" if first.classifier is None else f"classifier/{first.classifier}"
    made = _artifact(plan, step) if first.model is None else None
    if made is not None:
        sizes = cast("dict[str, Json]", json.loads(made.folder.read_bytes(CARD)).get("sizes") or {})
        rows = [cast("dict[str, float]", r) for r in cast("list[Json]", sizes.get("at", []))]
        if below := [r for r in rows if r["threshold"] <= first.min + 1e-9]:
            return below[-1]["pages"] / max(1.0, float(str(sizes["n_source_pages"]))), "by the card of its classifier"
    return PASSING, "assumed; --pass-share or a trained classifier says better"


def _artifact(plan: Plan, step: str) -> Artifact | None:
    """A finished step's artifact; None if it is not done, or cannot be looked at."""
    try:
        if step in {n.name for n in plan.graph.nodes} and plan.graph.is_done(plan.root, step):
            return Artifact.open(plan.graph.folder(plan.root, step))
    except DefinemedError:
        return None  # the steps' table has said what is the matter
    return None
