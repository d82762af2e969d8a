"""The recipe: everything that decides the bytes of a run, as one typed tree; and how it runs, in ``cluster``.

Sections in the order of the road: corpus, tokens, models (a mapping of names to models that are given, trained or merged),
evaluation. ``cluster`` is not part of any artifact's identity.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from cluster.recipe_errors import validate
from cluster.recipe_file import find_recipe, load_mapping
from cluster.thresholds import filled
from corpus.classifier import ClassifierParams
from corpus.dedup import DedupParams
from corpus.heldout_text import HeldoutFile
from corpus.labelling.params import LabellingParams
from corpus.packing import MixtureEntry
from corpus.packing.params import Rehydrate
from corpus.repeated import RepeatedTextParams
from corpus.sample.params import SampleParams
from corpus.scoring import ScoringParams
from corpus.select import SelectParams, SetRule
from corpus.source import FileSource
from corpus.stages import AnyStage
from corpus.stages.score import Score
from corpus.tokenizer import TokenizerParams
from evaluation.params import EvaluationParams
from merging.params import MergeParams
from store.errors import RecipeError
from store.params import Execution, FileByContent, Json, Params
from training.params import ModelInit, TrainParams

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RESERVED_SETS = {"dropped", "kept", "manifest.json", "provenance.json", "quarantine", "signatures"}


class SampleSource(Params):
    """The built-in synthetic sample as source."""

    sample: SampleParams = Field(description="Size and seed of the built-in synthetic sample.")
    unit_docs: int = Field(default=1000, ge=1, description="Documents in a unit of work, at least (whole row groups).")


class Thresholds(Params):
    """A file that fills the parameters of the quality stages which the recipe does not give; read when the recipe is loaded."""

    file: str = Field(description="YAML file of thresholds with FineWeb2's keys, e.g. deu_Latn.yml.")
    language_score: bool = Field(
        default=False, description="Take the file's language_score as min_score of the language stage; it is of FineWeb2's own model."
    )


class CorpusParams(Params):
    """Pages in, sets of documents out."""

    source: SampleSource | FileSource = Field(description="Where the pages come from: files, or the built-in sample.")
    thresholds: Annotated[Thresholds | str | None, Execution] = Field(
        default=None, description="File of thresholds for the quality stages; null in a resolved recipe, where its numbers stand."
    )
    labelling: LabellingParams | None = Field(default=None, description="Pages to label and who labels them; null: labels are given.")
    classifier: ClassifierParams | None = Field(default=None, description="Topic classifier trained from labelled pages; null: none.")
    classifiers: dict[str, ClassifierParams] = Field(default={}, description="Further classifiers by name, e.g. topics or an encoder.")
    scoring: dict[str, ScoringParams] = Field(
        default={}, description="Encoders of classifiers, by their names, over what deduplication left: a second, finer step."
    )
    stages: tuple[AnyStage, ...] = Field(description="Stages of pass 1 in order.", min_length=1)
    dedup: DedupParams | None = Field(default=DedupParams(), description="Deduplication; needs the signature stage; null: off.")
    repeated_text: RepeatedTextParams | None = Field(
        default=None, description="Lines, paragraphs or passages that many documents share, cut from survivors; null: off."
    )
    after_dedup: tuple[AnyStage, ...] = Field(default=(), description="Stages of pass 2, on survivors only, e.g. decontaminate.")
    select: SelectParams = Field(default=SelectParams(), description="Named sets of documents and their held-out parts.")
    dropped_text_share: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Share of dropped documents whose text is kept for inspection."
    )
    on_bad_input: Literal["fail", "quarantine"] = Field(
        default="fail", description="A file part that cannot be read: fail the run, or quarantine it whole, by name."
    )

    @model_validator(mode="after")
    def _signature_for_dedup(self) -> CorpusParams:
        names = [s.name for s in self.stages]
        if self.dedup is not None and names.count("signature") != 1:
            raise ValueError("dedup needs the stage signature exactly once in stages; add it, or set dedup: null")
        if len(set(names)) != len(names):
            raise ValueError(f"a stage is listed twice ({', '.join(n for n in names if names.count(n) > 1)})")
        return self

    @model_validator(mode="after")
    def _classifiers_exist(self) -> CorpusParams:
        for problem in unknown_classifiers(self):
            raise ValueError(problem)
        return self


def unknown_classifiers(corpus: CorpusParams) -> list[str]:
    """Scores by classifiers that are not there or cannot give them."""
    problems, known = [], ", ".join(corpus.classifiers) or "none"
    for stage in (s for s in (*corpus.stages, *corpus.after_dedup) if isinstance(s, Score) and s.classifier is not None):
        found = corpus.classifiers.get(str(stage.classifier))
        if found is None:
            problems.append(f"{stage.name}: there is no classifier {stage.classifier} in corpus.classifiers ({known})")
        elif found.kind != "fasttext":
            problems.append(f"{stage.name}: {stage.classifier} is of kind {found.kind}; name it in corpus.scoring instead")
    first = {s.name for s in corpus.stages}
    for name, params in corpus.scoring.items():
        if name not in corpus.classifiers:
            problems.append(f"scoring.{name}: there is no classifier {name} in corpus.classifiers ({known})")
        elif corpus.classifiers[name].kind == "fasttext":
            problems.append(f"scoring.{name}: it is of kind fasttext; list the stage score with classifier: {name} instead")
        if params.after not in (None, "score", *first):
            problems.append(f"scoring.{name}.after: there is no stage {params.after} in corpus.stages")
    return problems


class TokensParams(Params):
    """Sets of documents in, token shards out."""

    tokenizer: TokenizerParams = Field(description="A tokenizer by folder or hub name, or one trained from the sets.")
    train_sets: tuple[str, ...] = Field(default=(), description="Sets a trained tokenizer learns from; empty: all.")
    train_docs: int = Field(default=20_000, ge=1, description="Documents a trained tokenizer learns from, at most.")
    sets: tuple[str, ...] = Field(default=(), description="Sets to tokenise; empty: all, held-out parts too.")
    heldout: tuple[HeldoutFile, ...] = Field(
        default=(), description="Files outside the corpus, e.g. English text, on which trained models are measured while they train."
    )


class _Amount(Params):
    """How much of a source is seen; without epochs and share: all of it, once."""

    epochs: float | None = Field(default=None, gt=0, le=100, description="Times the documents are seen; 0.5 is a random half.")
    share: float | None = Field(default=None, gt=0, lt=1, description="Share of all tokens of the run (replay), instead of epochs.")
    max_epochs: float = Field(default=1.0, gt=0, le=100, description="Limit of a share: a small source is not seen more often.")
    rehydrate: Rehydrate = Field(
        default=None, description="Times a document counts, by the size of the duplicate cluster it stands for; null: once."
    )

    def entry(self, name: str) -> MixtureEntry:
        """The packing's view of it."""
        return MixtureEntry(name=name, epochs=self.epochs, share=self.share, max_epochs=self.max_epochs, rehydrate=self.rehydrate)


class SetData(_Amount):
    """Documents of a set as training data."""

    set: str = Field(description="Name of a set of corpus.select.")


class ChatData(_Amount):
    """Conversations as training data, rendered by the tokenizer's chat template."""

    chat: FileByContent = Field(description='JSONL of {"messages": [...]}.')


class TrainSpec(TrainParams):
    """A model to train: where it starts, what it sees, and how."""

    init: ModelInit | str = Field(
        description="Name of another model of the recipe to start from, or an architecture to start at random."
    )
    data: tuple[SetData | ChatData, ...] = Field(description="Training data in order of packing.", min_length=1)
    seq_len: int = Field(default=4096, ge=8, le=1 << 24, description="Tokens in a training row.")
    pack_seed: int = Field(default=1, ge=0, description="Seed of the choice of documents and of packing.")

    @model_validator(mode="after")
    def _starts_inside_the_recipe(self) -> TrainSpec:
        if isinstance(self.init, ModelInit) and self.init.from_ is not None:
            raise ValueError("init.from: name the model under models (models.parent.source) and start from that name")
        return self


class TrainedModel(Params):
    """A model this recipe trains."""

    train: TrainSpec = Field(description="How the model is trained.")


class MergeSpec(MergeParams):
    """A model to merge from two others."""

    instruct: str = Field(description="The model that keeps its chat template; t = 0.")
    trained: str = Field(description="The model whose knowledge is merged in; t = 1.")


class MergedModel(Params):
    """A model this recipe merges."""

    merge: MergeSpec = Field(description="How the model is merged.")


class GivenModel(Params):
    """A model that exists: a folder, or a name on the hub."""

    source: str = Field(description="Folder of a transformers model, or its name on the hub, e.g. Qwen/Qwen2.5-7B-Instruct.")
    revision: str = Field(default="main", description="Commit, tag or branch on the hub; a commit is the only stable choice.")


class EvaluationSection(EvaluationParams):
    """What is measured, on which models, in the order of the table."""

    models: tuple[str, ...] = Field(description="Names of models of the recipe.", min_length=1)
    heldout: dict[str, str] = Field(
        default={}, description="Label -> set whose held-out part gives bits per byte, e.g. {domain: domain, general: general}."
    )


class ScoringWorkers(Params):
    """Workers of the steps scoring/NAME: each holds a model, and with use_gpu a device or a share of one."""

    gpus: float = Field(default=1.0, gt=0, le=1, description="Share of a GPU of a worker, with use_gpu; 0.5: two workers on a GPU.")
    cpus: int | None = Field(
        default=None, ge=1, description="Cores of a worker, for tokenising or on CPUs for all; null: 8 with a GPU, else 1."
    )
    workers: int | None = Field(default=None, ge=1, description="Workers at most; null: as many as the cluster holds.")


class ClusterParams(Params):
    """How work runs. No count of workers changes a byte of the corpus; GPUs and training gangs change rounding in models and scores."""

    workers: int | None = Field(default=None, ge=1, description="Worker processes for corpus work, at most; null: one per core.")
    attempts: int = Field(default=3, ge=1, description="Attempts at a task before it fails the step.")
    train_workers: int = Field(default=1, ge=1, description="Ray Train workers (one per GPU, or one per node without).")
    use_gpu: bool = Field(default=False, description="Give each training worker a GPU.")
    scoring: ScoringWorkers = Field(default=ScoringWorkers(), description="Workers that score with an encoder.")


ModelSpec = Annotated[TrainedModel | MergedModel | GivenModel, Field(union_mode="left_to_right")]


class Recipe(Params):
    """One run, from pages to report."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the run's folder.")
    about: str = Field(default="", description="One sentence on what this recipe is for; shown in plan and report.")
    corpus: CorpusParams = Field(description="From pages to sets of documents.")
    tokens: TokensParams | None = Field(default=None, description="Token shards of the sets; null: stop after the corpus.")
    models: dict[str, ModelSpec] = Field(default={}, description="Models by name: given, trained or merged.")
    evaluation: EvaluationSection | None = Field(default=None, description="Scores of the models; null: none.")
    cluster: Annotated[ClusterParams, Execution] = Field(
        default=ClusterParams(), description="How work runs; not part of any artifact's identity."
    )

    @model_validator(mode="after")
    def _names_exist(self) -> Recipe:
        for problem in _dangling(self):
            raise ValueError(problem)
        return self


def _dangling(recipe: Recipe) -> list[str]:
    """References to sets and models that nothing defines."""
    problems, known = _bad_names(recipe), list(recipe.models)
    sets = list(recipe.corpus.select.sets)
    tokenised = list(recipe.tokens.sets or sets) if recipe.tokens else []
    for name, spec in recipe.models.items():
        needed = parents(spec)
        if isinstance(spec, TrainedModel):
            for data in spec.train.data:
                if recipe.tokens is None:
                    problems.append(f"models.{name} is trained, so the recipe needs a tokens section")
                elif isinstance(data, SetData) and data.set not in tokenised:
                    problems.append(f"models.{name}.train.data: there is no tokenised set {data.set} (sets: {', '.join(tokenised)})")
        problems += [
            f"models.{name} refers to {m}, which is not defined (models: {', '.join(known)})" for m in needed if m not in known
        ]
    if recipe.evaluation:
        problems += [f"evaluation.models: there is no model {m} (models: {', '.join(known)})"
                     for m in recipe.evaluation.models if m not in known]  # fmt: skip
        for label, name in recipe.evaluation.heldout.items():
            if name not in sets:
                problems.append(f"evaluation.heldout.{label}: there is no set {name} (sets: {', '.join(sets)})")
            elif recipe.corpus.select.sets[name].heldout == 0.0:
                problems.append(f"evaluation.heldout.{label}: the set {name} holds nothing out; set corpus.select.sets.{name}.heldout")
    return problems


def chat_name(data: ChatData) -> str:
    """The source name of conversations: their file's name without suffix."""
    return "chat-" + os.path.basename(data.chat).split(".")[0]


def _bad_names(recipe: Recipe) -> list[str]:
    """Names that become file names or sources, and would collide or not be possible."""
    problems: list[str] = []
    files: dict[str, str] = {}
    for what, names in (("models", recipe.models), ("corpus.select.sets", recipe.corpus.select.sets)):
        problems += [
            f"{what}: the name {n!r} needs letters, digits, dots, dashes or underscores" for n in names if not NAME.fullmatch(n)
        ]
    sets = set(recipe.corpus.select.sets)
    problems += [f"corpus.select.sets: the name {n} is taken by the layout of artifacts" for n in sorted(sets & RESERVED_SETS)]
    problems += [f"corpus.select.sets: {n} and {n}-heldout cannot both be sets" for n in sorted(sets) if f"{n}-heldout" in sets]
    held = [h.name for h in recipe.tokens.heldout] if recipe.tokens else []
    problems += [f"tokens.heldout: the name {n} is taken" for n in sorted({*held}) if held.count(n) > 1 or f"heldout-{n}" in sets]
    for name, spec in recipe.models.items():
        data = spec.train.data if isinstance(spec, TrainedModel) else ()
        sources = [chat_name(d) if isinstance(d, ChatData) else d.set for d in data]
        problems += [
            f"models.{name}.train.data: {s} is listed twice; give it once, with epochs" for s in {*sources} if sources.count(s) > 1
        ]
        for chat in (d for d in data if isinstance(d, ChatData)):
            if files.setdefault(chat_name(chat), chat.chat) != chat.chat:
                problems.append(
                    f"models.{name}.train.data: two different files of conversations have the name of {chat.chat}; rename one"
                )
    return problems


def parents(spec: TrainedModel | MergedModel | GivenModel) -> list[str]:
    """Names of the models a model is made from."""
    if isinstance(spec, TrainedModel):
        return [spec.train.init] if isinstance(spec.train.init, str) else []
    return [spec.merge.instruct, spec.merge.trained] if isinstance(spec, MergedModel) else []


def in_order(models: Mapping[str, TrainedModel | MergedModel | GivenModel]) -> list[str]:
    """Model names, parents first, else as written; RecipeError for a circle."""
    done: list[str] = []
    while len(done) < len(models):
        ready = [n for n, spec in models.items() if n not in done and all(p in done for p in parents(spec))]
        if not ready:
            circle = [n for n in models if n not in done]
            raise RecipeError(f"the models {', '.join(circle)} are made from each other in a circle", where="models")
        done.append(ready[0])
    return done


def heldout_rules(recipe: Recipe) -> dict[str, SetRule]:
    """Sets with a held-out part."""
    return {n: r for n, r in recipe.corpus.select.sets.items() if r.heldout > 0.0}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by path or built-in name, with overrides; RecipeError in words for anything wrong."""
    path = find_recipe(name)
    recipe = validate(Recipe, filled(load_mapping(path, overrides), path), path)
    in_order(recipe.models)
    return recipe


def resolved(recipe: Recipe) -> dict[str, Json]:
    """Every value written out, as JSON."""
    return cast(dict[str, Json], json.loads(recipe.model_dump_json(by_alias=True)))
