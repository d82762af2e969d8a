"""The step that trains a classifier: the recipe's own (``classifier``), and further ones by name (``classifier/NAME``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.graph import Context, Node
from cluster.inputs import Inputs, with_local_files
from corpus.classifier import ClassifierParams, train
from corpus.classifier.collect import SOURCE_STAGES
from corpus.classifier.train import CALIBRATION
from corpus.source import FileSource, list_units
from corpus.stage import Stage
from store.artifact import Artifact, Draft
from store.errors import RecipeError
from store.fingerprint import canonical_json, sha256_hex
from store.models import ModelFolder
from store.params import Json

VERSION = 4
LABELS_STEP, LABELS_FILE = "labels", "labels.parquet"
SCORE_MODEL, SCORE_CALIBRATION = "classifier", "calibration"


class Pages(Protocol):
    """Where the pages come from: what this step needs of a recipe's source."""

    @property
    def roles(self) -> dict[str, str]: ...

    def identity(self) -> dict[str, Json]: ...

    def open(self, artifacts: Mapping[str, Artifact]) -> FileSource: ...


@dataclass(frozen=True)
class Filters:
    """Stages that judge drawn pages of the source before they are counted: their identity and what they need, when asked."""

    stages: tuple[Stage, ...]
    identity: Callable[[], list[Json]]
    resources: Callable[[], dict[str, str]]


def classifier_node(
    name: str, params: ClassifierParams, on_bad_input: str, source: Pages, filters: Filters, inputs: Inputs, use_gpu: bool
) -> Node:
    """The node ``name``. Without a file of labels it takes those of the step ``labels``."""
    roles = dict(source.roles) | ({LABELS_STEP: LABELS_STEP} if params.labels is None else {})

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        local, files = with_local_files(params, ctx.local), source.open(artifacts)
        if local.labels is None:
            local = local.model_copy(update={"labels": artifacts[LABELS_STEP].path(LABELS_FILE)})
        units = list_units(files, on_bad_input=on_bad_input)
        stages = tuple(with_local_files(s, ctx.local) for s in filters.stages) if params.sample_pages is not None else ()
        return train(draft, ctx.executor, with_local_encoder(local), files, units, on_bad_input, 1.0 if use_gpu else 0.0, stages,
                     filters.resources() if stages else {})  # fmt: skip

    def identity() -> dict[str, Json]:
        # Pages are normalised before they are learnt from, as in pass 1.
        return {
            "classifier": dict(params.identity(inputs.digest)), "source": dict(source.identity()), "encoder": encoder_identity(params),
            "normalise": {s.name: s.version for s in SOURCE_STAGES}, "on_bad_input": on_bad_input,
            "filters": filters.identity() if params.sample_pages is not None else [],
        }  # fmt: skip

    about = f"train {params.kind} on labelled pages ({' or '.join(params.names)})"
    return Node(name, "classifier", VERSION, roles, identity, run, about)


def encoder_identity(params: ClassifierParams) -> Json:
    """What an encoder is by content: digests of a folder's files, or the commit of a hub name; null without one."""
    source, revision = params.transformer.model, params.transformer.revision
    if params.kind == "fasttext" or source is None:
        return None
    if os.path.isdir(source):
        return sha256_hex(canonical_json(dict(ModelFolder.open(source).digests())))
    from cluster.steps.models import hub_commit

    return {"hub": source, "commit": hub_commit(source, revision)}


def with_local_encoder(params: ClassifierParams) -> ClassifierParams:
    """A copy whose encoder is a folder on this machine; hub files are fetched once, safetensors only."""
    source, revision = params.transformer.model, params.transformer.revision
    if params.kind == "fasttext" or source is None:
        return params
    from cluster.steps.models import resolve_model

    folder = os.path.abspath(resolve_model(source, revision))
    return params.model_copy(update={"transformer": params.transformer.model_copy(update={"model": folder})})


def score_resources(artifact: Artifact) -> dict[str, str]:
    """What the stage ``score`` needs of a classifier's artifact: the model, and the calibration if scores are to be calibrated."""
    settings = artifact.manifest.params.get("classifier")
    applied = isinstance(settings, dict) and settings.get("calibrate") is True
    return {SCORE_MODEL: artifact.path("model.bin")} | ({SCORE_CALIBRATION: artifact.path(CALIBRATION)} if applied else {})


def check_scored(params: ClassifierParams | None, stages: Sequence[str]) -> None:
    """RecipeError if the stage ``score`` would be given a classifier that it cannot apply."""
    if params is not None and params.kind != "fasttext" and stages:
        raise RecipeError(f"the stage score applies fastText models, and the recipe's classifier is of kind {params.kind}",
                          where=stages[0], remedy="set classifier.kind: fasttext, or name a fastText file as score.model")  # fmt: skip
