"""Pass 2's part of scoring: the scores of a file's survivors as columns, and the pages below ``min`` out.

It looks like a stage whose answers were computed before: it joins by key, writes columns and judges. Memory: the scores of one file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.draw import unit_interval
from corpus.passes import OpenStage
from corpus.scoring.params import ScoringParams, fields, written
from corpus.scoring.worker import SCORES
from corpus.stage import KEEP, Outcome
from store.errors import RecipeError, StepError
from store.fs import Folder, open_input
from store.schema import KEY


@dataclass(frozen=True)
class Scored:
    """The scores of one classifier, for pass 2.

    Attributes:
        name: of the classifier.
        labels: its classes, as the files' columns; positive: of two classes the wanted one, else None.
        folder: of the artifact with the scores.
    """

    name: str
    params: ScoringParams
    labels: tuple[str, ...]
    positive: str | None
    folder: Folder

    @property
    def stage(self) -> str:
        """The name under which dropped pages are counted."""
        return stage_name(self.name)

    def check(self) -> None:
        """RecipeError for a label that the classifier has not."""
        _, label = written(self.name, self.params, self.positive)
        for wanted in (*([label] if label is not None else []), *self.params.classes):
            if wanted not in self.labels:
                raise RecipeError(f"the classifier {self.name} has no label {wanted!r}", where=f"corpus.scoring.{self.name}",
                                  expected=f"one of {', '.join(self.labels)}")  # fmt: skip

    def open(self, key: str) -> OpenStage:
        """The stage for the file of the unit ``key``."""
        self.check()
        found = fields(self.name, self.params, self.positive)
        table: list[pa.Table] = []

        def apply(batch: pa.RecordBatch) -> Outcome:
            if not table:
                with open_input(self.folder.path(f"{SCORES}/{key}.parquet")) as handle:
                    table.append(pq.read_table(handle, page_checksum_verification=True))
            return self._apply(batch, table[0])

        scores = tuple(f.name for f in found if pa.types.is_floating(f.type))
        return OpenStage(self.stage, ("below_min",), scores, False, apply)

    def _apply(self, batch: pa.RecordBatch, table: pa.Table) -> Outcome:
        column, label = written(self.name, self.params, self.positive)
        rows = _rows(table[KEY.name].to_numpy(), batch.column(KEY.name).to_numpy(), self.folder.url)
        p_NL = np.stack([table[name].to_numpy()[rows] for name in self.labels], axis=1)
        if label is None:
            scores = p_NL.max(axis=1)
            columns = {column: pa.array(self.labels, pa.string()).take(pa.array(p_NL.argmax(axis=1)))}
            columns[f"{column}_score"] = pa.array(scores)
        else:
            scores = p_NL[:, self.labels.index(label)]
            columns = {column: pa.array(scores)}
        columns |= {f"{column}_{name}": pa.array(p_NL[:, self.labels.index(name)]) for name in self.params.classes}
        return self._judge(batch, columns, scores)

    def _judge(self, batch: pa.RecordBatch, columns: dict[str, pa.Array], scores: npt.NDArray[np.float32]) -> Outcome:
        if self.params.min is None:
            return Outcome(columns=columns)
        low = scores < self.params.min
        if self.params.keep_below > 0:
            low &= unit_interval(batch.column("id"), batch.column(KEY.name), "keep_below") >= self.params.keep_below
        return Outcome(columns=columns, verdict=np.where(low, 0, KEEP).astype(np.int16), value=scores.astype(np.float64))


def stage_name(name: str) -> str:
    """What pass 2 calls the scores of a classifier."""
    return f"scoring-{name}"


def _rows(keys: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], where: str) -> npt.NDArray[np.int64]:
    """Where the wanted keys are among the rising ``keys``; StepError if one is missing."""
    at = np.searchsorted(keys, wanted)
    if (at >= len(keys)).any() or (keys[at] != wanted).any():
        raise StepError("a document has no score", where=where, remedy="this is a defect: please report it with the recipe")
    return np.asarray(at, np.int64)
