"""The stages and set rules an artifact was made with, as objects that can be opened again.

The manifest has every parameter, but of files it has digests; where they are is in the record of a run that has the artifact. A stage
whose files are not known stays in the list, as unavailable, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from cluster.inputs import Inputs, with_local_files
from cluster.inspect.place import Place
from cluster.recipe import Recipe
from cluster.recipe_errors import validate
from cluster.steps.corpus import stage_resources
from corpus.passes import OpenStage, open_stages
from corpus.select import SelectParams
from corpus.stage import Stage
from corpus.stages import AnyStage
from store.artifact import Artifact
from store.errors import ArtifactError, DefinemedError
from store.fs import Folder
from store.params import ByContent, Json

_ANY: TypeAdapter[Stage] = TypeAdapter(AnyStage)


@dataclass
class Recorded:
    """What an artifact of documents or select was made with.

    Attributes:
        stages: by name, in order; None for a stage this version does not know.
        unavailable: stage name -> why it cannot be opened.
        sets: select only.
        notes: what may make a second judgement differ, in sentences.
        models: artifacts that models come from, by role ("classifier").
    """

    stages: dict[str, Stage | None]
    unavailable: dict[str, str]
    sets: SelectParams | None
    notes: list[str] = field(default_factory=list)
    models: Mapping[str, Artifact] = field(default_factory=dict)

    def open(self, stage: Stage) -> OpenStage:
        """Load a stage's model; DefinemedError if it is not at hand."""
        if stage.name in self.unavailable:
            raise ArtifactError(self.unavailable[stage.name], where=stage.name)
        return open_stages([stage], stage_resources([stage], self.models))[0]


def read_recorded(place: Place, artifact: Artifact) -> Recorded:
    """The recorded parameters of a step; ArtifactError if the manifest has none."""
    params = artifact.manifest.params
    listed = params.get("stages")
    if not isinstance(listed, list):
        raise ArtifactError("the manifest does not say which stages made this", where=artifact.folder.url,
                            expected="an artifact of the steps documents or select")  # fmt: skip
    out = Recorded({}, {}, _sets(artifact), models=_classifiers(place, artifact))
    recipe = _recipe(place, out)
    known = {s.name: s for s in (*recipe.corpus.stages, *recipe.corpus.after_dedup)} if recipe is not None else {}
    for one in listed:
        _add(out, dict(one) if isinstance(one, dict) else {}, known, _inputs(place, artifact))
    return out


def _classifiers(place: Place, artifact: Artifact) -> dict[str, Artifact]:
    """Role -> classifier of those the stages score with; ones that were removed are left out."""
    found = {}
    for role, fingerprint in artifact.manifest.inputs.items():
        folder = f"artifacts/classifier/{fingerprint[:16]}"
        if role.split("/")[0] == "classifier" and place.has(folder):
            found[role] = Artifact.open(place.out / folder)
    return found


def _add(out: Recorded, recorded: dict[str, Json], known: Mapping[str, Stage], inputs: Inputs) -> None:
    stage = _parse(recorded)
    name = stage.name if stage is not None else str(recorded.get("stage"))
    out.stages[name] = stage
    if stage is None:
        out.unavailable[name] = "this version of definemed does not know the stage or its parameters"
        return
    if recorded.get("version") != type(stage).version:
        out.notes.append(f"{name} was version {recorded.get('version')} and is {type(stage).version} now: it may judge otherwise")
    if not _names_files(stage):
        return
    named = known.get(name)
    try:
        same = named is not None and all(recorded.get(k) == v for k, v in named.identity(inputs.digest).items())
        if named is None or not same:
            out.unavailable[name] = "where its files are is in the record of the run, which is not here or names other files"
            return
        out.stages[name] = with_local_files(named, inputs.local)
    except DefinemedError as error:
        out.unavailable[name] = error.sentence()


def _names_files(model: BaseModel) -> bool:
    """Whether a field, at any depth, names a file."""
    for field_name, info in type(model).model_fields.items():
        value = getattr(model, field_name)
        inside = value if isinstance(value, (tuple, list)) else (value,)
        if (ByContent in info.metadata and value) or any(isinstance(v, BaseModel) and _names_files(v) for v in inside):
            return True
    return False


def _parse(recorded: Mapping[str, Json]) -> Stage | None:
    """The stage with the parameters of the manifest; what identity adds to them (version, digests) is left out."""
    members = {m.model_fields["stage"].default: m for m in get_args(get_args(AnyStage)[0])}
    model = members.get(recorded.get("stage"))
    if model is None:
        return None
    try:
        return _ANY.validate_json(json.dumps({k: v for k, v in recorded.items() if k in model.model_fields}), strict=True)
    except ValidationError:
        return None


def _sets(artifact: Artifact) -> SelectParams | None:
    """The set rules in the order in which they were tried; manifests sort their keys."""
    found, order = artifact.manifest.params.get("select"), artifact.manifest.params.get("order")
    if not isinstance(found, dict) or not isinstance(order, list):
        return None
    sets = found.get("sets")
    assert isinstance(sets, dict)
    return SelectParams.model_validate({"sets": {str(n): sets[str(n)] for n in order}})


def _recipe(place: Place, out: Recorded) -> Recipe | None:
    if place.record is None:
        return None
    try:
        return validate(Recipe, place.record.recipe, "run.json")
    except DefinemedError as error:
        out.notes.append(f"the recipe of the run is of another version: {error.what}")
        return None


def _inputs(place: Place, artifact: Artifact) -> Inputs:
    inputs = Inputs(place.out)
    fingerprint = artifact.manifest.inputs.get("source")
    samples = [s for s in place.record.steps if s.kind == "sample"] if place.record is not None else []
    if fingerprint is not None:
        inputs.sample = (Folder(place.out.path(f"artifacts/sample/{fingerprint[:16]}")), fingerprint)
    elif samples:
        inputs.sample = (place.out / samples[0].folder, samples[0].fingerprint)
    return inputs
