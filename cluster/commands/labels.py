"""``definemed labels export``, ``import`` and ``agree``: sheets for people, their labels, and how far a model agrees with them.

A sheet holds the text of pages, so it is written only where the user says, masked unless asked otherwise, and never over another file.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from cluster.inputs import with_local_files
from cluster.inspect.place import Place, open_place
from cluster.labelling_report import agreement_lines
from cluster.recipe import Recipe
from cluster.recipe_errors import validate
from corpus.labelling.labels import Labelled
from corpus.labelling.params import LabellingParams
from corpus.labelling.people import People, read_people
from corpus.labelling.sample import PAGES
from corpus.labelling.sheet import SEPARATORS, SheetRow, as_csv, as_jsonl, balanced
from corpus.stages.privacy import Privacy
from store.artifact import Artifact
from store.errors import InputError, RecipeError
from store.fs import open_input
from store.schema import KEY


@dataclass(frozen=True)
class Drawn:
    """A run's labelling: its recipe's section, and the artifacts of its rounds, in order."""

    place: Place
    recipe: Recipe
    params: LabellingParams
    samples: tuple[Artifact, ...]
    answers: tuple[Artifact, ...]

    def labelled(self, people: People | None) -> Labelled:
        return Labelled(self.samples, self.answers, people, self.params.names)


def open_drawn(path: str) -> Drawn:
    """Open a run; InputError if it has drawn no pages to label."""
    place = open_place(path)
    if place.artifact is not None or place.record is None:
        raise InputError("this is not the folder of a run", where=path, expected="a folder such as out/runs/demo-1a2b3c4d")
    recipe = validate(Recipe, dict(place.record.recipe), os.path.join(path, "recipe.json"))
    samples = tuple(place.of_kind("label-sample"))
    if recipe.corpus.labelling is None or not samples:
        raise InputError("this run has drawn no pages to label", where=path, expected="a recipe with corpus.labelling",
                         remedy="run the recipe until label-sample")  # fmt: skip
    return Drawn(place, recipe, recipe.corpus.labelling, samples, tuple(place.of_kind("label-answers")))


def export_sheet(
    path: str, to: str, n: int, *, blind: bool, masked: bool, chars: int, seed: int, separator: str, without: Sequence[str], force: bool
) -> None:
    """Write a sheet for people (docs/labelling-people.md)."""
    kind = _kind(to)
    _refuse_overwriting(to, force)
    if separator not in SEPARATORS:
        raise RecipeError("a separator is a semicolon, a comma or a tab", where="--separator")
    found = open_drawn(path)
    pages = found.labelled(None).pages.select("id", "model_label")
    if without:
        done = read_people(without, found.params.names).rows
        pages = pages.join(done.select("id").unique(), on="id", how="anti")
    chosen = balanced(pages, n, seed)
    texts, counts = _texts(found, chosen["id"].to_list(), chars, masked)
    rows = [SheetRow(i, texts[i], label) for i, label in chosen.select("id", "model_label").iter_rows()]
    data = as_csv(rows, blind or not found.answers, separator) if kind == "csv" else as_jsonl(rows, blind or not found.answers)
    with open(to, "wb") as file:
        file.write(data)
    _say_exported(found, chosen, counts, to, blind=blind, masked=masked)


def _say_exported(found: Drawn, chosen: pl.DataFrame, counts: Counter[str], to: str, *, blind: bool, masked: bool) -> None:
    console = _console()
    by_label = Counter(label or "without a label" for label in chosen["model_label"].to_list())
    spread = ", ".join(f"{n:,} {label}" for label, n in sorted(by_label.items())) if found.answers else "no model was asked"
    hidden = " (not on the sheet)" if blind and found.answers else ""
    console.print(f"{chosen.height:,} pages, by the model's label: {escape(spread)}{hidden}")
    kinds = ", ".join(f"{n:,} {kind.removeprefix('masked/')}" for kind, n in sorted(counts.items())) or "nothing found"
    console.print(f"personal data masked: {kinds}" if masked else "[yellow]personal data is not masked[/yellow]: keep the sheet safe")
    console.print(f"labels: {escape(', '.join(found.params.names))}")
    console.print(f"written: {escape(to)}")


def _kind(to: str) -> str:
    kind = os.path.splitext(to)[1].lower().lstrip(".")
    if kind not in ("csv", "jsonl"):
        raise RecipeError("a sheet is a .csv or a .jsonl file", where=to)
    return kind


def _refuse_overwriting(to: str, force: bool) -> None:
    if os.path.exists(to) and not force:
        raise InputError("this file exists: people may have labelled in it", where=to, remedy="name another file, or give --force")


def _texts(found: Drawn, ids: list[str], chars: int, masked: bool) -> tuple[dict[str, str], Counter[str]]:
    """(heads of pages by id, what was masked). Masked whole, then cut: nothing escapes across the cut."""
    wanted, counts, out = pa.array(ids, pa.string()), Counter[str](), {}
    mask = _privacy(found).open({}) if masked else None
    for sample in found.samples:
        with open_input(sample.path(PAGES)) as handle:
            for batch in pq.ParquetFile(handle).iter_batches(batch_size=500):
                batch = batch.filter(pc.is_in(batch.column("id"), value_set=wanted))
                text = batch.column("text")
                if mask is not None and batch.num_rows:
                    outcome = mask(batch.append_column(KEY.name, pa.array(range(batch.num_rows), pa.int64())))
                    text = outcome.columns["text"]
                    counts.update(outcome.counts)
                out.update(zip(batch.column("id").to_pylist(), (t[:chars] for t in text.to_pylist()), strict=True))
    return out, counts


def _privacy(found: Drawn) -> Privacy:
    """The recipe's privacy stage, masking; with its defaults if it has none."""
    stages = [s for s in (*found.recipe.corpus.stages, *found.recipe.corpus.after_dedup) if isinstance(s, Privacy)]
    return with_local_files(stages[0], lambda url: url).model_copy(update={"mode": "replace"}) if stages else Privacy()


def import_sheets(sheets: Sequence[str], path: str, to: str, *, force: bool) -> None:
    """Check sheets and write the file of people's labels."""
    if os.path.splitext(to)[1].lower() != ".jsonl":
        raise RecipeError("people's labels are written as .jsonl", where=to)
    _refuse_overwriting(to, force)
    found = open_drawn(path)
    people = read_people(sheets, found.params.names, set(found.labelled(None).pages["id"].to_list()))
    if not people.rows.height:
        raise InputError(
            "no page is labelled", where=", ".join(sheets), expected=f"one of {', '.join(found.params.names)} in the column label"
        )
    with open(to, "wb") as file:
        file.write(people.jsonl())
    _say_imported(people, to)


def _say_imported(people: People, to: str) -> None:
    console, decided = _console(), people.decided()
    n_people, n_pages = people.rows["annotator"].n_unique(), people.rows["id"].n_unique()
    console.print(f"{people.rows.height:,} labels of {n_pages:,} pages by {n_people:,} {'person' if n_people == 1 else 'people'}; "
                  f"{people.n_empty:,} rows are empty")  # fmt: skip
    counts = sorted(decided["label"].value_counts().iter_rows())
    console.print("decided: " + escape(", ".join(f"{n:,} {label}" for label, n in counts) or "none"))
    if people.n_undecided:
        console.print(f"[yellow]undecided[/yellow]: {people.n_undecided:,} pages on which no label has more than half of the people")
    console.print(f"written: {escape(to)}; name it as corpus.labelling.people and run the recipe again")


def show_agreement(path: str, people: str | None, as_json: bool) -> None:
    """Print how far the models agree with people, and people among themselves."""
    found = open_drawn(path)
    url = people or found.params.people
    if url is None:
        raise InputError("the recipe names no labels of people", where="corpus.labelling.people", remedy="give --people FILE")
    labelled = found.labelled(read_people([url], found.params.names))
    agreement = labelled.agreement(found.params.sample.seed)
    if not agreement:
        raise InputError(
            "no page was labelled by two", where=url, expected="pages of this run that a model and a person, or two people, labelled"
        )
    if as_json:
        print(json.dumps(agreement, indent=1, sort_keys=True, ensure_ascii=False))
        return
    console = _console()
    for line in agreement_lines(agreement):
        console.print(escape(line))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)
