"""The steps that score what deduplication left with an encoder (``scoring/NAME``), by workers that hold a device.

Not a stage of pass 1: a pass runs on every CPU core, and a model that needs a device would either be loaded by all of its workers or
make the device wait for filters. Here a worker holds a share of a device and the cores that keep it busy; nothing else is in its way.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import cast

import pyarrow.parquet as pq

from cluster.graph import Context, Node
from cluster.recipe import CorpusParams, Recipe, ScoringWorkers
from corpus.classifier.params import ClassifierParams
from corpus.classifier.train import CARD, HELD_OUT
from corpus.scoring.attach import Scored, stage_name
from corpus.scoring.params import ScoringParams
from corpus.scoring.recall import Tally, estimate, verdict
from corpus.scoring.worker import Check, ScoringWorker
from store.artifact import Artifact, Draft
from store.executor import Job, Task
from store.params import Json

VERSION = 1
log = logging.getLogger(__name__)


def scoring_nodes(recipe: Recipe) -> list[Node]:
    """A node for each entry of corpus.scoring."""
    return [_node(name, params, recipe) for name, params in recipe.corpus.scoring.items()]


def step_name(name: str) -> str:
    """The step that scores with a classifier."""
    return f"scoring/{name}"


def _node(name: str, params: ScoringParams, recipe: Recipe) -> Node:
    corpus, workers = recipe.corpus, recipe.cluster.scoring
    gpus = workers.gpus if recipe.cluster.use_gpu else 0.0
    roles = {"documents": "documents", "classifier": f"classifier/{name}", **({"dedup": "dedup"} if corpus.dedup is not None else {})}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        documents, model = artifacts["documents"], artifacts["classifier"]
        check = _check(params, documents, model)
        kwargs: dict[str, object] = {
            "folder": draft.folder, "documents": documents.folder, "model": model.folder, "params": params,
            "clusters": artifacts["dedup"].path("clusters.parquet") if "dedup" in artifacts else None, "check": check,
            "device": "cuda" if gpus > 0 else "cpu",
        }  # fmt: skip
        job = Job("scoring", ScoringWorker, kwargs, list(_tasks(documents)), draft, unit="documents", n_cpus=cpus(workers, gpus),
                  n_gpus=gpus, max_workers=workers.workers, phase=name)  # fmt: skip
        receipts = ctx.executor.map(job)
        found = [(str(r.data["dtype"]), cast(list[str], r.data["labels"])) for r in receipts]
        summary: dict[str, Json] = {"classifier": name, "labels": cast(Json, found[0][1] if found else []),
                                    "dtype": cast(Json, sorted({d for d, _ in found}))}  # fmt: skip
        if _positive(corpus.classifiers[name]) is not None:
            summary["recall"] = estimate(Tally.merged(receipts), _n_dropped(documents, check.stage))
        return draft.commit(receipts, summary=summary)

    def identity() -> dict[str, Json]:
        return {"scoring": params.computed()}

    where = f"{gpus:g} GPU each" if gpus else "CPUs"
    about = f"score what is left with classifier {name} ({corpus.classifiers[name].kind}; {where})"
    return Node(step_name(name), "scoring", VERSION, roles, identity, run, about)


def cpus(workers: ScoringWorkers, gpus: float) -> float:
    """Cores of a worker: with a device, those that tokenise for it."""
    return float(workers.cpus) if workers.cpus is not None else 8.0 if gpus > 0 else 1.0


def _tasks(documents: Artifact) -> Iterator[Task]:
    """One for each unit with kept or dropped pages."""
    kept, dropped = ({os.path.basename(f.name): f for f in documents.files(f"{kind}/")} for kind in ("kept", "dropped"))
    for name in sorted(kept.keys() | dropped.keys()):
        payload: dict[str, Json] = {kind: there[name].name if name in there else None
                                    for kind, there in (("kept", kept), ("dropped", dropped))}  # fmt: skip
        yield Task(name.removesuffix(".parquet"), payload, max(1, (kept[name].n_rows or 0) if name in kept else 1))


def _n_dropped(documents: Artifact, stage: str | None) -> int:
    return sum(n for k, n in documents.manifest.counts.items() if stage is not None and k.startswith(f"dropped/{stage}/"))


def _check(params: ScoringParams, documents: Artifact, model: Artifact) -> Check:
    """Which dropped pages are scored: a share of those whose text pass 1 kept."""
    n_dropped = _n_dropped(documents, params.after)
    if n_dropped == 0:
        return Check()
    kept_share = float(str(documents.manifest.params["dropped_text_share"]))
    share = 0.0 if params.check_pages is None else min(kept_share, params.check_pages / n_dropped)
    return Check(params.after, share, _tests(model))


def _tests(model: Artifact) -> dict[str, float]:
    """Positive test pages of the card with their scores; none for several classes."""
    positive = json.loads(model.folder.read_bytes(CARD)).get("positive")
    rows = pq.read_table(io.BytesIO(model.folder.read_bytes(HELD_OUT)), columns=["id", "side", "label", "score"]).to_pylist()
    return {r["id"]: float(r["score"]) for r in rows if r["side"] == "test" and r["label"] == positive}


def _positive(params: ClassifierParams) -> str | None:
    return params.positive if params.classes is None else None


# ---------------------------------------------------------------------------------------------------------------------- pass 2


def scored(corpus: CorpusParams, artifacts: Mapping[str, Artifact]) -> tuple[Scored, ...]:
    """What pass 2 attaches; RecipeError for a label that a classifier has not."""
    found = []
    for name, params in corpus.scoring.items():
        artifact, classifier = artifacts[step_name(name)], corpus.classifiers[name]
        labels = tuple(cast(list[str], artifact.manifest.summary["labels"])) or classifier.names
        found.append(Scored(name, params, labels, _positive(classifier), artifact.folder))
        found[-1].check()
    return tuple(found)


def recall_summary(corpus: CorpusParams, artifacts: Mapping[str, Artifact]) -> dict[str, Json]:
    """What each first step loses at the recipe's thresholds; a warning goes to the log as well."""
    out: dict[str, Json] = {}
    for name, params in corpus.scoring.items():
        threshold = params.min if params.min is not None else corpus.classifiers[name].threshold
        found = verdict(dict(artifacts[step_name(name)].manifest.summary), threshold, params.max_recall_lost)
        if found.get("n_dropped"):
            out[name] = {"threshold": threshold, "after": params.after, **found}
        if "warning" in found:
            log.warning("%s: %s", stage_name(name), found["warning"])
    return {"recall_lost": out} if out else {}
