"""The training step: a Ray Train gang runs the training room's job; its checkpoints live in the draft and leave with the commit."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence

from cluster.graph import Context
from cluster.recipe import ClusterParams, TrainSpec
from cluster.steps.models import model_entries, train_params
from cluster.steps.tokens import TOKENIZER
from cluster.training import run_training
from store.artifact import Artifact, Draft
from store.errors import ResourceError, StepError
from store.executor import Progress, Watcher
from store.fs import Folder
from store.params import Json
from training.job import TrainJob
from training.log import HELDOUT, METRICS, TIMING
from training.params import ModelInit
from training.watch import timing_summary

STATE = "_state"
ADAPTER = "adapter"  # as training.lora names it; importing that would load torch


def run_train_step(
    ctx: Context,
    draft: Draft,
    name: str,
    artifacts: Mapping[str, Artifact],
    sources: Sequence[str],
    heldout: Sequence[str],
    spec: TrainSpec,
    parent: str | None,
    cluster: ClusterParams,
) -> Artifact:
    """Train and commit: model/, metrics.jsonl, heldout.jsonl, and with lora adapter/."""
    if not draft.folder.is_local:
        raise ResourceError("training writes checkpoints in place and needs a file system", where=draft.folder.url,
                            remedy="use an --out folder on a disk that all training nodes share")  # fmt: skip
    init = ModelInit.model_validate({"from": parent}) if parent is not None else spec.init
    assert isinstance(init, ModelInit)
    job = TrainJob(
        params=train_params(spec), init=init, pack=artifacts["plan"].folder.url,
        tokens=[artifacts[f"tokens:{s}"].folder.url for s in sources],
        heldout={s: artifacts[f"heldout:{s}"].folder.url for s in heldout}, out_dir=draft.folder.path(""),
        state_dir=draft.folder.path(STATE), tokenizer=artifacts[TOKENIZER].path(TOKENIZER), watch_dir=watch_dir(draft.folder, name),
    )  # fmt: skip
    summary = run_training(
        job,
        n_workers=cluster.train_workers,
        use_gpu=cluster.use_gpu,
        name=name,
        watch=_progress(ctx.watch, spec, artifacts["plan"], name),
    )
    if summary["status"] != "finished":
        raise StepError("training was stopped; its checkpoint is saved", where=f"step train, after step {summary['n_steps']}",
                        remedy="run the recipe again: it goes on from there")  # fmt: skip
    files = [*model_entries(draft.folder), draft.folder.entry(METRICS), draft.folder.entry(HELDOUT)]
    files += [draft.folder.entry(name) for name in draft.folder.names(ADAPTER)]  # with lora
    # How many processes trained is how, not what: results are equal up to rounding, and the manifest does not speak of it.
    how = {"n_processes": summary.pop("n_processes"), **throughput(draft.folder / STATE)}
    return draft.commit(files=files, summary=summary, provenance=how)


def _progress(watch: Watcher, spec: TrainSpec, plan: Artifact, name: str) -> Callable[[Mapping[str, Json]], None]:
    """Lines of metrics.jsonl as progress: steps done, and the loss."""
    n_rows = plan.manifest.summary["n_rows"]
    assert isinstance(n_rows, int)
    total = spec.max_steps or math.ceil(n_rows * spec.epochs / spec.rows_per_step)
    began, first = time.monotonic(), [-1]

    def follow(line: Mapping[str, Json]) -> None:
        done = int(str(line["step"]))
        if first[0] < 0:
            first[0] = done - 1  # a resumed run starts where its checkpoint was
        watch(Progress(f"train/{name}", "steps", done, total, first[0], time.monotonic() - began))

    return follow


def watch_dir(draft: Folder, name: str) -> str:
    """OUT/watch/NAME-FINGERPRINT: event files and profiles of a training outlive its draft and are no part of its artifact."""
    artifacts, _, fingerprint = draft.path("").rstrip("/").rsplit("/", 2)
    return f"{os.path.dirname(artifacts)}/watch/{name}-{fingerprint[:8]}"


def throughput(state: Folder) -> dict[str, Json]:
    """What the provenance says of a training's times."""
    return timing_summary([json.loads(line) for line in state.read_bytes(TIMING).splitlines()]) if state.exists(TIMING) else {}
