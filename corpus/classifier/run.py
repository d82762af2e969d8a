"""The step's jobs in order, through an executor: collect over the source's units, the trials of a search, then one training task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corpus.classifier.collect import CollectWorker
from corpus.classifier.params import ClassifierParams
from corpus.classifier.search import SearchWorker, survivors
from corpus.classifier.train import TrainWorker
from corpus.source import FileSource, Unit
from corpus.stage import Resources, Stage
from store.artifact import Artifact, Draft, Receipt
from store.executor import Executor, Job, Task
from store.params import Json

STEP = "classifier"
SURPLUS = 2.0
"""Drawn pages over wanted ones, so that a rough count of the source's pages does not leave the sample short."""


def train(
    draft: Draft, executor: Executor, params: ClassifierParams, source: FileSource, units: Sequence[Unit],
    on_bad_input: str = "fail", n_gpus: float = 0.0, filters: Sequence[Stage] = (), resources: Resources | None = None,
) -> Artifact:  # fmt: skip
    """Make the classifier's artifact; StepError with what an InputError of a task says.

    Args:
        draft, executor: where to, and what runs the tasks.
        params: with local files, and a local encoder.
        source, units: the pages.
        on_bad_input: as pass 1 takes it.
        n_gpus: of the training task, for kinds with an encoder.
        filters, resources: stages that judge the drawn pages of the source, and what they need.
    """
    judged: dict[str, object] = {"filters": tuple(filters), "resources": dict(resources or {})}
    receipts = _collect(draft, executor, params, {"source": source, "on_bad_input": on_bad_input, **judged}, units)
    best, trials = _search(draft, executor, params) if params.search is not None else (0, [])
    payload: dict[str, Json] = {"n_pages": sum(r.counts.get("pages", 0) for r in receipts), "trial": best, "search": trials}
    gpus = n_gpus if params.kind != "fasttext" else 0.0
    kwargs: dict[str, object] = {"folder": draft.folder, "params": params, "device": "cuda" if gpus > 0 else "cpu"}
    trained = executor.map(Job(STEP, TrainWorker, kwargs, [Task("train", payload)], draft, unit="models", n_gpus=gpus))
    return draft.commit([*receipts, *trained], summary=dict(trained[0].data))


def _collect(
    draft: Draft, executor: Executor, params: ClassifierParams, reading: Mapping[str, object], units: Sequence[Unit]
) -> list[Receipt]:
    n_docs = sum(max(1, u.n_docs) for u in units)
    share = 0.0 if params.sample_pages is None else min(1.0, SURPLUS * params.sample_pages / max(1, n_docs))
    tasks = [Task("collect-" + u.key, u.model_dump(mode="json"), max(1, u.n_docs)) for u in units]
    kwargs: dict[str, object] = {"folder": draft.folder, "params": params, "sample_share": share, **reading}
    return executor.map(Job(STEP, CollectWorker, kwargs, tasks, draft, unit="documents"))


def _search(draft: Draft, executor: Executor, params: ClassifierParams) -> tuple[int, list[Json]]:
    """(the best trial, what all of them gave): all on a part of the training pages, the best third on all."""
    assert params.search is not None
    rounds = []
    numbers, whole = list(range(params.search.n_trials)), False
    for name in ("part", "whole"):
        tasks = [Task(f"trial-{name}-{n:03d}", {"trial": n, "whole": whole}) for n in numbers]
        kwargs: dict[str, object] = {"folder": draft.folder, "params": params}
        found = executor.map(Job(STEP, SearchWorker, kwargs, tasks, draft, unit="trials"))
        rounds.append([dict(r.data) for r in found])
        numbers, whole = survivors(rounds[-1]), True
    return numbers[0], [one for part in rounds for one in part]
