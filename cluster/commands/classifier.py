"""``definemed classifier page``: the page about a run's classifier, on request with the texts of borderline pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from cluster.classifier_page import Borderline, Cascade, render, section_of, target_sentence, verdict
from cluster.inspect.place import Place, open_place
from cluster.steps.classifier import LABELS_STEP
from corpus.classifier.train import CARD, HELD_OUT, SCORED
from store.artifact import Artifact
from store.errors import InputError
from store.fs import open_input
from store.params import Json


def write_page(path: str, step: str, html: str | None, n: int, with_text: bool) -> None:
    """Print the verdict, and write the page.

    Args:
        path: the folder of a run, or of a classifier's artifact.
        step: with a run, the classifier's step.
        html: file to write; None: only the verdict.
        n: borderline pages to list.
        with_text: show the texts of those that the run's documents hold, masked and shortened.
    """
    place, artifact = find(path, step)
    card: dict[str, Json] = json.loads(artifact.folder.read_bytes(CARD))
    console = Console(highlight=False, soft_wrap=True)
    console.print(escape(verdict(card)))
    if target := section_of(card, "target"):
        console.print(escape(target_sentence(target)))
    if html is None:
        return
    pages = borderline(artifact, card, n)
    if with_text:
        pages = with_texts(place, pages)
    with open(html, "w", encoding="utf-8") as file:
        shown = render(f"{step} {artifact.fingerprint[:16]}", card, pages, labelling_of(place, artifact), cascade_of(place, artifact))
        file.write(shown)
    console.print(f"written: {html}")


def find(path: str, step: str) -> tuple[Place, Artifact]:
    """The place and the classifier's artifact. InputError: the run has no such step, or the artifact is of another one."""
    place = open_place(path)
    if place.artifact is None:
        place = open_place(path, step)
    assert place.artifact is not None
    if place.artifact.step != "classifier":
        raise InputError(f"this is an artifact of the step {place.artifact.step}", where=place.artifact.folder.url,
                         expected="a classifier, or a run with one")  # fmt: skip
    return place, place.artifact


def labelling_of(place: Place, artifact: Artifact) -> dict[str, Json]:
    """The summary of the labels that a classifier learnt from; empty if they were given, or are not here."""
    fingerprint = artifact.manifest.inputs.get(LABELS_STEP)
    folder = f"artifacts/{LABELS_STEP}/{fingerprint[:16]}" if fingerprint is not None else ""
    return dict(Artifact.open(place.out / folder).manifest.summary) if folder and place.has(folder) else {}


def cascade_of(place: Place, artifact: Artifact) -> Cascade | None:
    """What the run's scoring with this classifier says of the first step; None if it did not score with it, or has not yet."""
    for scoring in place.of_kind("scoring") if place.record is not None else []:
        if scoring.manifest.inputs.get("classifier") == artifact.fingerprint:
            name = str(scoring.manifest.summary["classifier"])
            chosen: dict[str, Json] = {}
            for select in place.of_kind("select"):
                chosen |= section_of(section_of(select.manifest.summary, "recall_lost"), name)
            return Cascade(name, section_of(scoring.manifest.summary, "recall"), chosen)
    return None


def borderline(artifact: Artifact, card: dict[str, Json], n: int) -> list[Borderline]:
    """The pages of both files nearest to the chosen threshold, else the card's; with several classes the least certain ones."""
    at = section_of(card, "target").get("threshold") or card.get("threshold") or 0.0
    found: dict[str, Borderline] = {}
    for name in (SCORED, HELD_OUT):  # a labelled page that was drawn too keeps its label
        if any(f.name == name for f in artifact.files()):
            for row in pq.read_table(io.BytesIO(artifact.folder.read_bytes(name))).to_pylist():
                found[row["id"]] = Borderline(row["id"], row["score"], row.get("label"))
    return sorted(found.values(), key=lambda p: (abs(p.score - float(str(at))), p.id))[:n]


def with_texts(place: Place, pages: Sequence[Borderline]) -> list[Borderline]:
    """The same pages with the texts that the run's documents hold: kept ones, and of dropped ones those that were stored."""
    texts = dict(_texts(place, pa.array([p.id for p in pages], pa.string())))
    if not texts:
        raise InputError("no document of this run holds the text of a borderline page", where="--text",
                         expected="a run whose step documents has finished", remedy="run the recipe until documents")  # fmt: skip
    return [Borderline(p.id, p.score, p.label, texts.get(p.id, "(its text is not stored: the page was dropped)")) for p in pages]


def _texts(place: Place, ids: pa.Array) -> Iterator[tuple[str, str]]:
    """(id, text) read in batches; of a page that occurs twice the kept one comes last."""
    for documents in place.of_kind("documents"):
        for prefix in ("dropped/", "kept/"):
            for entry in documents.files(prefix):
                with open_input(documents.path(entry.name)) as handle:
                    for batch in pq.ParquetFile(handle).iter_batches(columns=["id", "text"]):
                        found = batch.filter(pc.is_in(batch.column("id"), value_set=ids))
                        rows = zip(found.column("id").to_pylist(), found.column("text").to_pylist(), strict=True)
                        yield from ((i, t) for i, t in rows if t)
