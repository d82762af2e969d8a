"""The evaluation step: every model scored by a worker of its own, then all of them side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.graph import Context, Node
from cluster.inputs import Inputs, with_local_files
from cluster.recipe import EvaluationSection, Recipe
from cluster.steps.models import model_folder, model_step
from cluster.steps.tokens import set_files
from corpus.passes import peak_rss_mb
from corpus.select import HELDOUT
from corpus.stages.lid_model import find_lid176
from evaluation.params import EvaluationParams
from store.artifact import Artifact, Draft, Receipt
from store.executor import Job, Task
from store.fs import Folder
from store.params import Json

VERSION = 1


class IdentifyLanguage:
    """lid.176 as the evaluation's judge of answers: texts -> (label, probability)."""

    def __init__(self, model: str) -> None:
        import fasttext

        self._model = fasttext.load_model(model)

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        labels, scores = self._model.predict([" ".join(t.split()) for t in texts], k=1)
        found = zip(labels, scores, strict=True)
        # fastText gives no label for a text without a known n-gram, such as an empty answer.
        return [(y[0].removeprefix("__label__"), float(s[0])) if len(y) else ("", 0.0) for y, s in found]


@dataclass(frozen=True)
class EvaluateWorker:
    """A task's payload is {"model": name, "folder": path}: the model's items and samples."""

    folder: Folder
    params: EvaluationParams
    heldout: Mapping[str, Sequence[str]]
    lid_model: str
    device: str

    def run(self, task: Task) -> Receipt:
        from evaluation.score import evaluate_one

        begin = time.perf_counter()
        name = str(task.payload["model"])
        identify = IdentifyLanguage(self.lid_model)
        evaluate_one(self.params, name, str(task.payload["folder"]), self.heldout, self.folder.path(""), identify, self.device)
        names = [f"items/{name}.jsonl", f"samples/{name}.jsonl", f"models/{name}.json"]
        timing = {name: time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(self.folder.entry(n) for n in names), timing=timing)


def evaluation_node(recipe: Recipe, inputs: Inputs) -> Node:
    """The node that compares models."""
    section = recipe.evaluation
    assert section is not None
    roles = {"documents": "select", **{f"model:{m}": model_step(recipe, m) for m in section.models}}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        from evaluation.score import SCORES, combine

        params = with_local_files(_params(section), ctx.local)
        heldout = {label: set_files(artifacts["documents"], name + HELDOUT) for label, name in section.heldout.items()}
        kwargs: dict[str, object] = {
            "folder": draft.folder, "params": params, "heldout": heldout, "lid_model": find_lid176(),
            "device": "cuda" if recipe.cluster.use_gpu else "cpu",
        }  # fmt: skip
        tasks = [Task(m, {"model": m, "folder": model_folder(recipe, m, artifacts[f"model:{m}"])}) for m in section.models]
        job = Job("evaluate", EvaluateWorker, kwargs, tasks, draft, unit="models", n_gpus=1.0 if recipe.cluster.use_gpu else 0.0)
        receipts = ctx.executor.map(job)
        combine(params, list(section.models), draft.folder.path(""))
        return draft.commit(receipts, files=[draft.folder.entry(SCORES)], summary={"models": list(section.models)})

    def identity() -> dict[str, Json]:
        return {**section.identity(inputs.digest), "models": list(section.models), "lid176": inputs.digest(find_lid176())}

    about = f"score {', '.join(section.models)}: bits per byte, {len(section.benchmarks)} benchmarks, answers"
    return Node("evaluate", "evaluate", VERSION, roles, identity, run, about)


def _params(section: EvaluationSection) -> EvaluationParams:
    """The room's view of the section: without the names only the recipe knows."""
    groups = {label: section.heldout_groups.get(label, "domain") for label in section.heldout}
    fields = {n: getattr(section, n) for n in EvaluationParams.model_fields}
    return EvaluationParams.model_validate({**fields, "heldout_groups": {**section.heldout_groups, **groups}})
