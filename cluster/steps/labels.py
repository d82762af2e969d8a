"""The steps that make labels: a round of pages to label, a language model's answers, and the labels of all rounds and people joined.

With one round: ``label-sample`` > ``label-answers`` > ``labels``. Round k of several adds ``label-sample/k`` and ``label-answers/k``. A
round near a boundary is drawn with a classifier of its own (``label-classifier/k``), trained on the labels that models gave to the
rounds before (``labels/1`` .. ``labels/k-1``). People's labels enter at the end only: to correct one must not draw other pages.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import cast

from cluster.graph import Context, Node
from cluster.inputs import Inputs, with_local_files
from cluster.steps.classifier import LABELS_STEP, Filters, Pages, classifier_node, score_resources
from corpus.classifier import ClassifierParams
from corpus.classifier.collect import SOURCE_STAGES
from corpus.classifier.train import CARD
from corpus.labelling.labels import Labelled, join_labels
from corpus.labelling.params import LabellingParams, RoundParams
from corpus.labelling.people import read_people
from corpus.labelling.sample import PAGES, SAMPLE, sample_pages
from corpus.source import list_units
from corpus.stages.score import Score
from store.artifact import Artifact, Draft
from store.errors import InputError, RecipeError
from store.params import Json

log = logging.getLogger(__name__)
HOW = "definemed labels export writes a sheet for people, definemed labels import reads it"
VERSIONS = {"label-sample": 1, "label-answers": 1, "labels": 1}
WORK = "labelling"
"""Folder under the output folder that keeps language models' answers."""


def labelling_nodes(params: LabellingParams, on_bad_input: str, source: Pages, filters: Filters, inputs: Inputs) -> list[Node]:
    """The nodes of ``corpus.labelling``, in order."""
    nodes: list[Node] = []
    for number, round_ in enumerate(params.sample.rounds, 1):
        classifier = None
        if round_.classifier is not None:
            classifier = f"label-classifier/{number}"
            if round_.classifier.labels is None and not any(n.name == f"labels/{number - 1}" for n in nodes):
                nodes.append(_labels_node(f"labels/{number - 1}", params, number - 1, None, inputs))
            nodes.append(classifier_node(classifier, round_.classifier, on_bad_input, source, filters, inputs, False,
                                         labels_step=f"labels/{number - 1}"))  # fmt: skip
        nodes.append(_sample_node(params, number, classifier, on_bad_input, source, filters, inputs))
        if params.ask is not None:
            nodes.append(_answers_node(params, number, inputs))
    return [*nodes, _labels_node(LABELS_STEP, params, len(params.sample.rounds), params.people, inputs)]


def check_learnt(params: LabellingParams, classifiers: Mapping[str, ClassifierParams]) -> None:
    """RecipeError if a classifier would learn a label that nobody gives."""
    rounds = {f"corpus.labelling.sample.rounds.{k}.classifier": r.classifier for k, r in enumerate(params.sample.rounds)}
    for where, one in {**rounds, **classifiers}.items():
        if one is None or one.labels is not None:
            continue
        if unknown := [n for n in one.classes or (one.positive,) if n not in params.names]:
            raise RecipeError(f"the classifier is to learn {unknown[0]}, which is no label of corpus.labelling", where=where,
                              expected=f"one of {', '.join(params.names)}")  # fmt: skip


def step_of(kind: str, number: int) -> str:
    """The step of a round: the first bears the kind's name alone."""
    return kind if number == 1 else f"{kind}/{number}"


def _sample_node(
    params: LabellingParams, number: int, classifier: str | None, on_bad_input: str, source: Pages, filters: Filters, inputs: Inputs
) -> Node:
    round_ = params.sample.rounds[number - 1]
    earlier = {f"round_{k}": step_of("label-sample", k) for k in range(1, number)}
    roles = dict(source.roles) | earlier | ({"classifier": classifier} if classifier is not None else {})

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        files, judges, resources, threshold = source.open(artifacts), list(filters.stages), dict(filters.resources()), 0.5
        judges = [with_local_files(j, ctx.local) for j in judges]
        if classifier is not None and round_.classifier is not None:
            judges.append(_score(round_.classifier))
            resources |= score_resources(artifacts["classifier"])
            threshold = threshold_of(artifacts["classifier"], round_.classifier)
        known = [artifacts[role].path(SAMPLE) for role in earlier]
        units = list_units(files, on_bad_input=on_bad_input)
        made = sample_pages(draft, ctx.executor, params.sample, number, files, units, on_bad_input, known, judges, resources, threshold)
        if (n := made.manifest.counts["chosen"]) < round_.n:
            log.warning("labels: round %d found %d of %d pages: raise pool_pages, or max_per_host", number, n, round_.n)
        return made

    def identity() -> dict[str, Json]:
        own = round_.model_copy(update={"classifier": None}).identity(inputs.digest)
        shared = {k: getattr(params.sample, k) for k in ("max_per_host", "max_chars", "seed")}
        return {
            "round": {**own, "number": number}, **shared, "source": dict(source.identity()), "on_bad_input": on_bad_input,
            "filters": filters.identity(), "normalise": {s.name: s.version for s in SOURCE_STAGES},
            "score": Score.version if classifier is not None else None,
        }  # fmt: skip

    return Node(step_of("label-sample", number), "label-sample", VERSIONS["label-sample"], roles, identity, run, about_round(round_))


def about_round(round_: RoundParams) -> str:
    """A round in words."""
    how = {"uniform": "of all alike", "strata": " x ".join(s.by for s in round_.strata), "boundary": "near the classifier's threshold"}
    return f"draw {round_.n:,} pages to label, {how[round_.by]}"


def _score(params: ClassifierParams) -> Score:
    return Score(label=params.positive, column="score", max_chars=params.max_chars)


def threshold_of(artifact: Artifact, params: ClassifierParams) -> float:
    """The threshold a classifier's card chose for its target, else the recipe's."""
    target = json.loads(artifact.folder.read_bytes(CARD)).get("target") or {}
    found = target.get("threshold")
    return float(found) if isinstance(found, float) else params.threshold


def _answers_node(params: LabellingParams, number: int, inputs: Inputs) -> Node:
    ask = params.ask
    assert ask is not None

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        # An HTTP client, and Ray Data: loaded where they are used.
        from cluster.labelling_batch import batch_answerers
        from corpus.labelling.ask import label_pages

        local, work = with_local_files(ask, ctx.local), (inputs.out / WORK).make()
        return label_pages(draft, local, artifacts["pages"].path(PAGES), work, ctx.watch, batch=batch_answerers(local))

    about = f"ask {', '.join(m.name for m in ask.models)} for labels ({', '.join(ask.names)})"
    return Node(step_of("label-answers", number), "label-answers", VERSIONS["label-answers"],
                {"pages": step_of("label-sample", number)}, lambda: ask.identity(inputs.digest), run, about)  # fmt: skip


def _labels_node(name: str, params: LabellingParams, n_rounds: int, people: str | None, inputs: Inputs) -> Node:
    rounds = range(1, n_rounds + 1)
    samples = {f"round_{k}": step_of("label-sample", k) for k in rounds}
    answers = {f"answers_{k}": step_of("label-answers", k) for k in rounds} if params.ask is not None else {}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        said = read_people([ctx.local(people)], params.names) if people is not None else None
        if said is None and not answers:
            raise InputError("the pages are drawn, and nobody has labelled them yet", where="corpus.labelling.people",
                             expected="a file of people's labels",
                             remedy=HOW)  # fmt: skip
        found = Labelled([artifacts[r] for r in samples], [artifacts[r] for r in answers], said, params.names)
        return join_labels(draft, found, params.prefer, params.sample.seed)

    def identity() -> dict[str, Json]:
        digest: Callable[[str], str] = inputs.digest
        own = {"people": digest(people), "prefer": params.prefer} if people is not None else {"people": None}
        return cast(dict[str, Json], {**own, "labels": list(params.names), "seed": params.sample.seed})

    who = " and ".join([*(["the models"] if answers else []), *(["people"] if people is not None else [])]) or "people (none yet)"
    return Node(name, "labels", VERSIONS["labels"], samples | answers, identity, run, f"join the labels of {who}")
