"""Steps from pages to sets of documents: sample, labels, classifier, documents (pass 1), dedup, scoring, repeated_text, select."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.graph import Context, Node
from cluster.inputs import Inputs, with_local_files
from cluster.recipe import CorpusParams, Recipe, SampleSource
from cluster.steps.classifier import Filters, check_scored, classifier_node, classifier_resources, classifier_roles
from cluster.steps.labels import check_learnt, labelling_nodes
from cluster.steps.scoring import recall_summary, scored, scoring_nodes, step_name
from corpus import dedup as deduplication
from corpus.ledger import merge_details, merge_histograms
from corpus.passes import DocumentsWorker
from corpus.repeated import RepeatedTextParams
from corpus.repeated.count import count_repeated
from corpus.repeated.params import CUTTING
from corpus.sample.params import SampleParams
from corpus.scoring.attach import stage_name
from corpus.select import SelectWorker
from corpus.signature import Signature
from corpus.source import FileSource, Unit, list_files, list_units
from corpus.stage import Stage
from corpus.stages.decontaminate import Decontaminate
from corpus.stages.language import Language
from corpus.stages.lid_model import find_lid176
from corpus.stages.score import Score
from store.artifact import Artifact, Draft, Receipt
from store.errors import StepError
from store.executor import Job, Task
from store.fs import Folder
from store.params import Json

# Raised when a step would write other bytes for the same parameters.
VERSIONS = {"sample": 2, "documents": 2, "dedup": 4, "repeated_text": 1, "select": 3}
SOURCE_EXECUTION = ("files", "format", "max_files")


@dataclass(frozen=True)
class Source:
    """The recipe's source: what it is for identity, and where its files are when a step runs."""

    params: SampleSource | FileSource
    inputs: Inputs

    @property
    def roles(self) -> dict[str, str]:
        return {"source": "sample"} if isinstance(self.params, SampleSource) else {}

    def identity(self) -> dict[str, Json]:
        """File contents in name order plus what decides how they are read; never a path."""
        if isinstance(self.params, SampleSource):
            return {"unit_docs": self.params.unit_docs}
        out = {k: v for k, v in self.params.identity(self.inputs.digest).items() if k not in SOURCE_EXECUTION}
        # Base names order the files and are written into the quarantine, so they decide bytes; folders do not, but of plain text.
        names = [(f.format, f.name if f.format == "text" else f.base, f.url) for f in list_files(self.params)]
        out["files"] = [f"{kind}:{name}:{self.inputs.digest(url)}" for kind, name, url in names]
        return out

    def open(self, artifacts: Mapping[str, Artifact]) -> FileSource:
        """The files to read, now that they exist."""
        if isinstance(self.params, SampleSource):
            return FileSource(files=(artifacts["source"].path("web"),), format="parquet", unit_docs=self.params.unit_docs)
        return self.params


def corpus_nodes(recipe: Recipe, inputs: Inputs) -> list[Node]:
    """The nodes of the corpus section, in order."""
    corpus = recipe.corpus
    source = Source(corpus.source, inputs)
    nodes = [sample_node(corpus.source.sample)] if isinstance(corpus.source, SampleSource) else []
    languages = [s for s in corpus.stages if isinstance(s, Language)]
    filters = Filters(tuple(languages), lambda: stage_identity(languages, inputs), lambda: stage_resources(languages, {}))
    if corpus.labelling is not None:
        nodes += labelling_nodes(corpus.labelling, corpus.on_bad_input, source, filters, inputs)
    own = {"classifier": corpus.classifier} if corpus.classifier is not None else {}
    if corpus.labelling is not None:
        check_learnt(corpus.labelling, {f"corpus.{n}": p for n, p in own.items()} | {
            f"corpus.classifiers.{n}": p for n, p in corpus.classifiers.items()})  # fmt: skip
    for name, params in (own | {f"classifier/{n}": p for n, p in corpus.classifiers.items()}).items():
        nodes.append(classifier_node(name, params, corpus.on_bad_input, source, filters, inputs, recipe.cluster.use_gpu))
    check_scored(corpus.classifier, [f"corpus.{at}" for at in ("stages", "after_dedup") if _uses_classifier(getattr(corpus, at))])
    nodes.append(_documents_node(corpus, source, inputs))
    if corpus.dedup is not None:
        nodes.append(_dedup_node(corpus, corpus.dedup, inputs))
    nodes += scoring_nodes(recipe)
    if corpus.repeated_text is not None:
        nodes.append(_repeated_node(corpus.repeated_text, corpus.dedup is not None, inputs))
    nodes.append(_select_node(corpus, inputs))
    return nodes


def sample_node(params: SampleParams) -> Node:
    """The built-in sample as an artifact."""
    from cluster.steps.sample import run_sample

    return Node("sample", "sample", VERSIONS["sample"], {}, lambda: dict(params.model_dump(mode="json")),
                lambda ctx, draft, _: run_sample(ctx, draft, params), f"write {params.n_docs:,} synthetic pages")  # fmt: skip


def unit_tasks(units: Sequence[Unit], prefix: str = "") -> list[Task]:
    """A task per unit, counted in documents."""
    return [Task(prefix + u.key, u.model_dump(mode="json"), max(1, u.n_docs)) for u in units]


def stage_identity(stages: Sequence[Stage], inputs: Inputs) -> list[Json]:
    """Parameters and versions of stages; a stage's default model enters by its content."""
    out: list[Json] = []
    for stage in stages:
        one: dict[str, Json] = {**stage.identity(inputs.digest), "version": stage.version}
        if isinstance(stage, Language) and stage.model is None:
            one["lid176"] = inputs.digest(find_lid176())
        out.append(one)
    return out


def _outcomes(stages: Sequence[Stage], receipts: Sequence[Receipt]) -> dict[str, Json]:
    """What goes into the summary of a pass: histograms, and for decontamination what was looked for and the items that were found."""
    out: dict[str, Json] = {"histograms": merge_histograms(receipts)}
    for stage in stages:
        if isinstance(stage, Decontaminate):
            out["benchmarks"] = stage.describe()
    details = merge_details(receipts)
    return {**out, "details": details} if details else out


def stage_resources(stages: Sequence[Stage], artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    found: dict[str, str] = {}
    if any(isinstance(s, Language) and s.model is None for s in stages):
        found["lid.176"] = find_lid176()
    return found | classifier_resources(artifacts)


def _uses_classifier(stages: Sequence[Stage]) -> bool:
    return any(isinstance(s, Score) and s.model is None and s.classifier is None for s in stages)


def _documents_node(corpus: CorpusParams, source: Source, inputs: Inputs) -> Node:
    roles = dict(source.roles) | classifier_roles(corpus.stages, corpus.classifier is not None)

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        files = source.open(artifacts)
        units = list_units(files, on_bad_input=corpus.on_bad_input)
        stages = tuple(with_local_files(s, ctx.local) for s in corpus.stages)
        kwargs: dict[str, object] = {
            "folder": draft.folder, "source": files, "stages": stages,
            "resources": stage_resources(corpus.stages, artifacts), "dropped_text_share": corpus.dropped_text_share,
            "on_bad_input": corpus.on_bad_input,
        }  # fmt: skip
        receipts = ctx.executor.map(Job("documents", DocumentsWorker, kwargs, unit_tasks(units), draft, unit="documents"))
        check_total(receipts, "documents")
        summary: dict[str, Json] = {
            "stages": [s.name for s in corpus.stages], "n_units": len(units), **_outcomes(stages, receipts),
        }  # fmt: skip
        return draft.commit(receipts, summary=summary)

    def identity() -> dict[str, Json]:
        return {
            "source": dict(source.identity()), "stages": stage_identity(corpus.stages, inputs),
            "dropped_text_share": corpus.dropped_text_share, "on_bad_input": corpus.on_bad_input,
        }  # fmt: skip

    return Node("documents", "documents", VERSIONS["documents"], roles, identity, run,
                "one pass: " + " > ".join(s.name for s in corpus.stages))  # fmt: skip


def check_total(receipts: Sequence[Receipt], step: str) -> None:
    """StepError unless, over all tasks, read = kept + dropped + quarantined."""
    read = sum(r.counts.get("read", 0) for r in receipts)
    out = sum(n for r in receipts for k, n in r.counts.items() if k.split("/")[0] in ("kept", "dropped", "quarantined"))
    if read != out:
        raise StepError(f"{read} documents were read but {out} are accounted for", where=f"step {step}",
                        remedy="this is a defect: please report it with the recipe")  # fmt: skip


def _dedup_node(corpus: CorpusParams, params: deduplication.DedupParams, inputs: Inputs) -> Node:
    grams = next(s.grams for s in corpus.stages if isinstance(s, Signature))

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        local = with_local_files(params, ctx.local)
        earlier = [Artifact.open(Folder(os.path.dirname(url))) for url in local.against]
        deduplication.require_alike(artifacts["documents"], earlier)
        signatures, documents = deduplication.signatures_of(artifacts["documents"], earlier)
        return deduplication.connect(draft, ctx.executor, signatures, params, documents, grams)

    return Node("dedup", "dedup", VERSIONS["dedup"], {"documents": "documents"}, lambda: params.identity(inputs.digest), run,
                "exchange by band, connected components, one survivor a cluster")  # fmt: skip


def _repeated_node(params: RepeatedTextParams, after_dedup: bool, inputs: Inputs) -> Node:
    """Counting comes after deduplication: in 40 copies of a page, every line would be a repeated one."""

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        documents = artifacts["documents"]
        return count_repeated(draft, ctx.executor, documents.files("kept/"), documents.folder, _clusters(artifacts), params)

    roles = {"documents": "documents", **({"dedup": "dedup"} if after_dedup else {})}
    return Node("repeated_text", "repeated_text", VERSIONS["repeated_text"], roles,
                lambda: {k: v for k, v in params.identity(inputs.digest).items() if k not in CUTTING}, run,
                f"count every {params.unit} over all survivors, list those of more than {params.max_documents} documents")  # fmt: skip


def _clusters(artifacts: Mapping[str, Artifact]) -> str | None:
    return artifacts["dedup"].path("clusters.parquet") if "dedup" in artifacts else None


def _select_node(corpus: CorpusParams, inputs: Inputs) -> Node:
    roles = {"documents": "documents"}
    if corpus.dedup is not None:
        roles["dedup"] = "dedup"
    if corpus.repeated_text is not None:
        roles["repeated_text"] = "repeated_text"
    roles |= classifier_roles(corpus.after_dedup, corpus.classifier is not None) | {step_name(n): step_name(n) for n in corpus.scoring}

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        documents = artifacts["documents"]
        entries = documents.files("kept/")
        tasks = [
            Task(os.path.basename(e.name).removesuffix(".parquet"), {"file": documents.path(e.name)}, max(1, e.n_rows or 0))
            for e in entries
        ]
        stages = tuple(with_local_files(s, ctx.local) for s in corpus.after_dedup)
        kwargs: dict[str, object] = {
            "folder": draft.folder, "params": corpus.select, "resources": stage_resources(corpus.after_dedup, artifacts),
            "clusters": _clusters(artifacts), "stages": stages, "dropped_text_share": corpus.dropped_text_share,
            "scored": scored(corpus, artifacts),
        }  # fmt: skip
        if corpus.repeated_text is not None:
            kwargs["repeated"] = (corpus.repeated_text, artifacts["repeated_text"].folder)
        receipts = ctx.executor.map(Job("select", SelectWorker, kwargs, tasks, draft, unit="documents"))
        check_total(receipts, "select")
        lost = recall_summary(corpus, artifacts)
        return draft.commit(receipts, summary={"sets": list(corpus.select.sets), **_outcomes(stages, receipts), **lost})

    def identity() -> dict[str, Json]:
        cutting = corpus.repeated_text.identity(inputs.digest) if corpus.repeated_text is not None else {}
        return {
            **({"repeated_text": {k: cutting[k] for k in CUTTING}} if cutting else {}),
            "select": dict(corpus.select.identity(inputs.digest)), "stages": stage_identity(corpus.after_dedup, inputs),
            "dropped_text_share": corpus.dropped_text_share, "order": list(corpus.select.sets),
            **({"scoring": {n: p.identity(inputs.digest) for n, p in corpus.scoring.items()}} if corpus.scoring else {}),
        }  # fmt: skip

    about = (
        "one pass: drop duplicates"
        + "".join(f" > {stage_name(n)}" for n in corpus.scoring)
        + (" > cut repeated text" if corpus.repeated_text is not None else "")
        + "".join(f" > {s.name}" for s in corpus.after_dedup)
        + f" > sets {', '.join(corpus.select.sets)}"
    )
    return Node("select", "select", VERSIONS["select"], roles, identity, run, about)
