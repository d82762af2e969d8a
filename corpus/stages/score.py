"""A fastText classifier's probability of one label, as a column that selection reads.

With ``min`` it also drops what is below, early, so that a rare topic's other pages cost neither later stages nor disk; a share of
those, drawn by id, may stay as general text.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.draw import unit_interval
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from corpus.stages.fasttext_model import LABEL_PREFIX, Model, load_model
from corpus.stages.fasttext_text import classifier_text
from store.errors import RecipeError
from store.params import ByContent

CLASSIFIER_RESOURCE = "classifier"


class Score(Stage):
    """Write the probability that a page bears ``label``; with ``min``, drop the pages below."""

    reasons: ClassVar[tuple[str, ...]] = ("below_min",)

    stage: Literal["score"] = Field(default="score", description="Name of the stage.")
    model: Annotated[str | None, ByContent] = Field(
        default=None, description="A fastText model file; null for the one this recipe trains."
    )
    label: str = Field(default="medical", min_length=1, description="The label whose probability is wanted, without prefix.")
    column: str = Field(default="score_medical", min_length=1, description="Column the probability is written to.")
    min: float | None = Field(default=None, ge=0, le=1, description="Drop pages scored lower, here and now; null drops nothing.")
    keep_below: float = Field(default=0.0, ge=0, le=1, description="Share of the pages below min that stay, drawn by id (replay).")
    max_chars: int = Field(default=4000, ge=1, description="Characters of the page's head the classifier sees.")

    @property
    def writes(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # a class variable elsewhere; here it depends on column
        """The score column, float32 in [0, 1]."""
        return (pa.field(self.column, pa.float32()),)

    def open(self, resources: Resources) -> Apply:
        """Load the model: the parameter's file, else the resource "classifier".

        Raises:
            RecipeError: there is no model, or it does not know the label.
        """
        path = self.model or resources.get(CLASSIFIER_RESOURCE)
        if path is None:
            raise RecipeError("there is no classifier to score with", where="score.model", remedy="name a model file or train one")
        model = load_model(path)
        wanted, labels = LABEL_PREFIX + self.label, model.get_labels()
        if wanted not in labels:
            known = ", ".join(sorted(label.removeprefix(LABEL_PREFIX) for label in labels)[:10])
            raise RecipeError(f"the classifier has no label {self.label!r}", where=path, expected=f"one of {known}", remedy="set label")

        def apply(batch: pa.RecordBatch) -> Outcome:
            lines = classifier_text(batch.column("text"), self.max_chars)
            scores = label_scores(model, lines, wanted, len(labels))
            return self._judge(batch, scores)

        return apply

    def _judge(self, batch: pa.RecordBatch, scores: npt.NDArray[np.float32]) -> Outcome:
        columns = {self.column: pa.array(scores)}
        if self.min is None:
            return Outcome(columns=columns)
        low = scores < self.min
        if self.keep_below > 0:
            low &= unit_interval(batch.column("id"), batch.column("doc_key"), "keep_below") >= self.keep_below
        return Outcome(columns=columns, verdict=np.where(low, 0, KEEP).astype(np.int16), value=scores.astype(np.float64))


def label_scores(model: Model, lines: list[str], wanted: str, n_labels: int) -> npt.NDArray[np.float32]:
    """[n] float32 probability of the label ``wanted``; 0 for a line without known words."""
    labels, scores = model.predict(lines, k=n_labels)
    out = np.zeros(len(lines), np.float32)
    for row, (names, values) in enumerate(zip(labels, scores, strict=True)):
        if wanted in names:
            out[row] = min(float(values[list(names).index(wanted)]), 1.0)
    return out
