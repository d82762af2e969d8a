"""The labels that a classifier learns from: the models' and people's, joined, with what is known about how pages were drawn.

File: ``labels.parquet``, a row a labelled page, sorted by id. The summary has the sample's rounds, counts of every page drawn
(labelled, or why not), the estimated share of the corpus that bears each label, and how well the models agree with people. Memory: ids
and labels of all drawn pages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.labelling.agreement import F64, Compared, weights_to
from corpus.labelling.estimate import share_of
from corpus.labelling.people import NOBODY, People
from corpus.labelling.sample import pool_of, read_sample
from store.artifact import Artifact, Draft
from store.errors import InputError
from store.params import Json

LABELS, VOTES = "labels.parquet", "votes.parquet"
LABELS_SCHEMA = pa.schema(
    [("id", pa.string()), ("label", pa.string()), ("origin", pa.string()), ("model_label", pa.string()), ("people_label", pa.string()),
     ("round", pa.int32()), ("picked", pa.string()), ("stratum", pa.string()), ("probability", pa.float64()), ("weight", pa.float64())]
)  # fmt: skip
NO_LABELS = pl.DataFrame(schema={"id": pl.String, "label": pl.String})
LEAST_COMPARED = 2
"""Pages below which there is nothing to compare."""


@dataclass(frozen=True)
class Labelled:
    """What was drawn and what was said of it.

    Attributes:
        samples: artifacts of the rounds, in order.
        answers: what models said of each round; empty if none was asked.
        people: their labels, or None.
        labels: the set, in order.
    """

    samples: Sequence[Artifact]
    answers: Sequence[Artifact]
    people: People | None
    labels: tuple[str, ...]

    @cached_property
    def pages(self) -> pl.DataFrame:
        """A row a page drawn: columns of sample.parquet with model_label and people_label (null without one); sorted by id."""
        drawn = pl.concat([read_sample(a) for a in self.samples])
        said = pl.concat([NO_LABELS, *(_table(a, LABELS, ["id", "label"]) for a in self.answers)])
        decided = self.people.decided() if self.people is not None else NO_LABELS
        frame = drawn.join(said.rename({"label": "model_label"}), on="id", how="left")
        return frame.join(decided.rename({"label": "people_label"}), on="id", how="left").sort("id")

    def elsewhere(self) -> pl.DataFrame:
        """id and label of pages that people labelled and that were not drawn here."""
        decided = self.people.decided() if self.people is not None else NO_LABELS
        return decided.join(self.pages.select("id"), on="id", how="anti")

    def agreement(self, seed: int) -> dict[str, Json]:
        """The models against people, of the sample and (pages with a probability) of the corpus; each voter; people among themselves.

        Empty if no page was labelled by both.
        """
        both = self.pages.drop_nulls("people_label")
        if not self.answers or both.height < LEAST_COMPARED:
            return self._among_people(seed)
        out: dict[str, Json] = {"sample": self._compared(self.pages, both, "ones").json(seed)}
        drawn = self.pages.drop_nulls("probability")
        if (random := both.drop_nulls("probability")).height >= LEAST_COMPARED:
            out["corpus"] = self._compared(drawn, random, "inverse").json(seed)
        voters = pl.concat([_table(a, VOTES, ["id", "voter", "label"]) for a in self.answers])
        rows: list[Json] = []
        for voter in sorted(voters["voter"].unique().to_list()):
            mine = voters.filter(pl.col("voter") == voter).select("id", voted="label")
            joined = both.join(mine, on="id", how="left", maintain_order="left")
            weights = self._weights(self.pages, both, "ones")
            one = Compared.of(self.labels, joined["people_label"].to_list(), joined["voted"].to_list(), weights)
            rows.append({"voter": voter, **one.json(seed)})
        return out | {"voters": rows} | self._among_people(seed)

    def _compared(self, whole: pl.DataFrame, both: pl.DataFrame, how: str) -> Compared:
        weights = self._weights(whole, both, how)
        return Compared.of(self.labels, both["people_label"].to_list(), both["model_label"].to_list(), weights)

    def _weights(self, whole: pl.DataFrame, both: pl.DataFrame, how: str) -> F64:
        weight = pl.lit(1.0) if how == "ones" else 1.0 / pl.col("probability")
        return weights_to(both.with_columns(weight=weight), whole.with_columns(weight=weight))

    def _among_people(self, seed: int) -> dict[str, Json]:
        """Kappa of each pair of people who labelled the same pages; they are numbered, not named."""
        if self.people is None:
            return {}
        rows: list[Json] = []
        for one, other, both in self.people.pairs():
            found = Compared.of(self.labels, both["a"].to_list(), both["b"].to_list()).json(seed)
            figures = {k: v for k, v in found.items() if k == "n" or k.startswith(("kappa", "accuracy"))}
            rows.append({"one": one, "other": other, **figures})
        return {"people": rows} if rows else {}

    def shares(self, column: str) -> list[Json]:
        """The estimated share of the corpus that bears each label, by the first round's pages with a label in ``column``."""
        n_pool, pool_share = pool_of(self.samples[0].manifest.summary)
        first = self.pages.filter((pl.col("round") == 1) & pl.col("probability").is_not_null())
        said = first.drop_nulls(column)
        if column == "people_label":  # they saw a part of the round, drawn by the model's label
            seen = pl.col("people_label").is_not_null().sum() / pl.len()
            said = first.with_columns(pl.col("probability") * seen.over("model_label")).drop_nulls(column)
        out: list[Json] = []
        for label in self.labels:
            found = share_of(said.with_columns(positive=pl.col(column) == label), n_pool, pool_share)
            if found is not None:
                out.append({"label": label, **found.json(), "n_label": int((said[column] == label).sum()), "n_drawn": first.height})
        return out


def _table(artifact: Artifact, name: str, columns: list[str]) -> pl.DataFrame:
    found = pq.read_table(io.BytesIO(artifact.folder.read_bytes(name)), columns=columns)
    return cast(pl.DataFrame, pl.from_arrow(pa.table([found[c].cast(pa.string()) for c in columns], names=columns)))


def join_labels(draft: Draft, found: Labelled, prefer: str, seed: int) -> Artifact:
    """Commit the joined labels.

    Args:
        prefer: "people" or "model": whose label counts where both have one.
        seed: of the bootstrap.

    Raises:
        InputError: no page bears a label.
    """
    frame = _joined(found, prefer)
    if not frame.height:
        raise InputError("no page is labelled", where="corpus.labelling",
                         expected="a language model to ask (ask), or a file of people's labels (people)",
                         remedy="definemed labels export writes a sheet for people, definemed labels import reads it")  # fmt: skip
    out = io.BytesIO()
    pq.write_table(frame.to_arrow().cast(LABELS_SCHEMA), out, compression="zstd")
    entry = draft.folder.write_bytes(LABELS, out.getvalue(), n_rows=frame.height)
    return draft.commit(files=[entry], summary=_summary(found, frame, seed))


def _joined(found: Labelled, prefer: str) -> pl.DataFrame:
    order = ("people_label", "model_label") if prefer == "people" else ("model_label", "people_label")
    elsewhere = found.elsewhere().select("id", people_label="label")
    frame = pl.concat([found.pages, elsewhere], how="diagonal")
    label = pl.coalesce(*order)
    frame = frame.with_columns(label=label, weight=1.0 / pl.col("probability")).drop_nulls("label").with_columns(origin=_origin(order))
    return frame.select(LABELS_SCHEMA.names).sort("id")


def _origin(order: tuple[str, str]) -> pl.Expr:
    first, other = (c.removesuffix("_label") for c in order)
    return pl.when(pl.col(order[0]).is_not_null()).then(pl.lit(first)).otherwise(pl.lit(other))


def _summary(found: Labelled, frame: pl.DataFrame, seed: int) -> dict[str, Json]:
    pages, people = found.pages, found.people
    both = pages.filter(pl.col("people_label").is_not_null() & pl.col("model_label").is_not_null())
    origin, n_not_drawn = dict(frame["origin"].value_counts().iter_rows()), frame["round"].null_count()
    out: dict[str, Json] = {
        "n_sampled": pages.height, "n_labels": frame.height, "n_unlabelled": pages.height - (frame.height - n_not_drawn),
        "n_by_people": origin.get("people", 0), "n_by_model": origin.get("model", 0), "n_by_both": both.height,
        "n_not_drawn": n_not_drawn,
        "by_label": _counts(frame["label"]), "labels": list(found.labels),
        "rounds": [dict(a.manifest.summary) for a in found.samples], "answers": [dict(a.manifest.summary) for a in found.answers],
    }  # fmt: skip
    if people is not None:
        out["people"] = {
            "n_rows": people.rows.height, "n_pages": people.rows["id"].n_unique(), "n_undecided": people.n_undecided,
            "n_annotators": people.rows.filter(pl.col("annotator") != NOBODY)["annotator"].n_unique(), "n_empty": people.n_empty,
        }  # fmt: skip
        out["shares_by_people"] = found.shares("people_label")
    if found.answers:
        out["shares_by_model"] = found.shares("model_label")
    agreement = found.agreement(seed)
    return out | ({"agreement": agreement} if agreement else {})


def _counts(values: pl.Series) -> dict[str, Json]:
    table: Mapping[str, int] = dict(values.value_counts().sort(values.name).iter_rows())
    return {str(k): int(v) for k, v in table.items()}
