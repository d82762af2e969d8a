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

from corpus.calibration import NONE, read_calibration
from corpus.draw import unit_interval
from corpus.fasttext.hub import local_model
from corpus.fasttext.model import FastText
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from store.errors import RecipeError
from store.params import ByContent, Execution

CLASSIFIER_RESOURCE = "classifier"
CALIBRATION_RESOURCE = "calibration"


class Score(Stage):
    """Write the probability that a page bears ``label``; with ``min``, drop the pages below."""

    version: ClassVar[int] = 3
    reasons: ClassVar[tuple[str, ...]] = ("below_min",)

    stage: Literal["score"] = Field(default="score", description="Name of the stage.")
    model: Annotated[str | None, ByContent] = Field(
        default=None,
        description="A fastText model: a file, or owner/name:file on the Hugging Face hub; null for the one this recipe trains.",
    )
    label: str = Field(default="medical", min_length=1, description="The label whose probability is wanted, without prefix.")
    column: str = Field(default="score_medical", min_length=1, description="Column the probability is written to.")
    min: float | None = Field(default=None, ge=0, le=1, description="Drop pages scored lower, here and now; null drops nothing.")
    keep_below: float = Field(default=0.0, ge=0, le=1, description="Share of the pages below min that stay, drawn by id (replay).")
    max_chars: int = Field(default=4000, ge=1, description="Characters of the page's head the classifier sees.")
    cache_mb: Annotated[int, Execution] = Field(
        default=64, ge=1, description="MiB a worker keeps sums of words in; more is faster for models of many dimensions."
    )

    @property
    def writes(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # a class variable elsewhere; here it depends on column
        """The score column, float32 in [0, 1]."""
        return (pa.field(self.column, pa.float32()),)

    def open(self, resources: Resources) -> Apply:
        """Load the model: the parameter's, else the resource "classifier".

        The model sees what it was trained on (corpus.stages.fasttext_text): the first ``max_chars`` characters, lower-cased.
        Memory: see corpus.fasttext.model.FastText.

        Raises:
            RecipeError: there is no model, or it does not know the label.
            InputError, ResourceError: the model cannot be read or fetched.
        """
        path = self.model or resources.get(CLASSIFIER_RESOURCE)
        if path is None:
            raise RecipeError("there is no classifier to score with", where="score.model", remedy="name a model file or train one")
        model = FastText.open(local_model(path), fold_case=True, max_chars=self.max_chars, cache_bytes=self.cache_mb << 20)
        if self.label not in model.labels:
            known = ", ".join(sorted(model.labels)[:10])
            raise RecipeError(f"the classifier has no label {self.label!r}", where=path, expected=f"one of {known}", remedy="set label")
        label = model.labels.index(self.label)
        calibration = read_calibration(resources.get(CALIBRATION_RESOURCE)) if self.model is None else NONE

        def apply(batch: pa.RecordBatch) -> Outcome:
            scores = model.scores(batch.column("text"), [label])[:, 0]
            return self._judge(batch, scores if calibration == NONE else calibration(scores).astype(np.float32))

        return apply

    def _judge(self, batch: pa.RecordBatch, scores: npt.NDArray[np.float32]) -> Outcome:
        columns = {self.column: pa.array(scores)}
        if self.min is None:
            return Outcome(columns=columns)
        low = scores < self.min
        if self.keep_below > 0:
            low &= unit_interval(batch.column("id"), batch.column("doc_key"), "keep_below") >= self.keep_below
        return Outcome(columns=columns, verdict=np.where(low, 0, KEEP).astype(np.int16), value=scores.astype(np.float64))
