"""A fastText classifier's probabilities as columns that selection reads: of one label, of the most probable one, or of several.

With ``min`` it also drops what is below, early, so that a rare topic's other pages cost neither later stages nor disk; a share of
those, drawn by id, may stay as general text. What is kept may be judged by an encoder later (corpus.scoring). A recipe may list the
stage once for its own classifier and once for each of ``corpus.classifiers``; the latter are called ``score-NAME`` in counts.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from corpus.calibration import NONE, read_calibration
from corpus.draw import unit_interval
from corpus.fasttext.hub import local_model
from corpus.fasttext.model import FastText
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from store.errors import RecipeError
from store.params import ByContent, Execution

CLASSIFIER_RESOURCE = "classifier"
CALIBRATION_RESOURCE = "calibration"


def word(label: str) -> str:
    """A label as fastText's files have it: white space is an underscore."""
    return "_".join(label.split())


def resource_names(classifier: str | None) -> tuple[str, str]:
    """Names of the resources model and calibration of the recipe's own classifier, or of a named one."""
    return tuple(n if classifier is None else f"{n}/{classifier}" for n in (CLASSIFIER_RESOURCE, CALIBRATION_RESOURCE))  # type: ignore[return-value]


class Score(Stage):
    """Write the probability that a page bears ``label``; with ``min``, drop the pages below."""

    version: ClassVar[int] = 3
    reasons: ClassVar[tuple[str, ...]] = ("below_min",)

    stage: Literal["score"] = Field(default="score", description="Name of the stage.")
    model: Annotated[str | None, ByContent] = Field(
        default=None,
        description="A fastText model: a file, or owner/name:file on the Hugging Face hub; null for the one this recipe trains.",
    )
    classifier: str | None = Field(
        default=None, min_length=1, description="One of corpus.classifiers by name, of kind fasttext; null: model, or the recipe's own."
    )
    label: str | None = Field(
        default="medical",
        min_length=1,
        description="The label whose probability is wanted, without prefix; null: the most probable one.",
    )
    column: str = Field(
        default="score_medical", min_length=1,
        description="Column the probability is written to; without label, the label's name, and its probability to <column>_score.",
    )  # fmt: skip
    classes: tuple[str, ...] = Field(
        default=(), description="Labels that get a column of their own as well: <column>_<label>, their probability."
    )
    min: float | None = Field(default=None, ge=0, le=1, description="Drop pages scored lower, here and now; null drops nothing.")
    keep_below: float = Field(default=0.0, ge=0, le=1, description="Share of the pages below min that stay, drawn by id (replay).")
    max_chars: int = Field(default=4000, ge=1, description="Characters of the page's head the classifier sees.")
    cache_mb: Annotated[int, Execution] = Field(
        default=64, ge=1, description="MiB a worker keeps sums of words in; more is faster for models of many dimensions."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Score:
        if self.classifier is not None and self.model is not None:
            raise ValueError("give either classifier or model")
        if len({f.name for f in self.writes}) < len(self.writes):
            raise ValueError("two of the columns have the same name; change column or classes")
        return self

    @property
    def name(self) -> str:
        """ "score", or with a named classifier "score-NAME"."""
        return self.stage if self.classifier is None else f"{self.stage}-{self.classifier}"

    @property
    def writes(self) -> tuple[pa.Field, ...]:  # type: ignore[override]  # a class variable elsewhere; here it depends on column
        """Probabilities are float32 in [0, 1], the most probable label is a string."""
        return score_fields(self.column, self.label, self.classes)

    def open(self, resources: Resources) -> Apply:
        """Load the model: the parameter's, else the resource "classifier" or "classifier/NAME".

        The model sees what it was trained on (corpus.stages.fasttext_text): the first ``max_chars`` characters, lower-cased.
        Memory: see corpus.fasttext.model.FastText.

        Raises:
            RecipeError: there is no model, or it does not know a label.
            InputError, ResourceError: the model cannot be read or fetched.
        """
        resource, calibrating = resource_names(self.classifier)
        path = self.model or resources.get(resource)
        if path is None:
            raise RecipeError("there is no classifier to score with", where="score.model", remedy="name a model file or train one")
        model = FastText.open(local_model(path), fold_case=True, max_chars=self.max_chars, cache_bytes=self.cache_mb << 20)
        wanted = [self._index(model, label, path) for label in (*([self.label] if self.label is not None else []), *self.classes)]
        calibration = read_calibration(resources.get(calibrating)) if self.model is None else NONE
        names = pa.array(model.labels, pa.string())

        def apply(batch: pa.RecordBatch) -> Outcome:
            text = batch.column("text")
            columns: dict[str, pa.Array] = {}
            found = model.scores(text, wanted) if wanted else np.empty((len(text), 0), np.float32)
            if self.label is None:
                best, scores = model.top(text)
                columns[self.column] = names.take(pa.array(best, mask=best < 0))
                columns[f"{self.column}_score"] = pa.array(scores)
            else:
                scores = found[:, 0] if calibration == NONE else calibration(found[:, 0]).astype(np.float32)
                columns[self.column] = pa.array(scores)
            for name, one in zip(self.classes, found.T[len(wanted) - len(self.classes) :], strict=True):
                columns[f"{self.column}_{name}"] = pa.array(one)
            return self._judge(batch, columns, scores)

        return apply

    def _index(self, model: FastText, label: str, path: str) -> int:
        if word(label) not in model.labels:
            known = ", ".join(sorted(model.labels)[:10])
            raise RecipeError(f"the classifier has no label {label!r}", where=path, expected=f"one of {known}", remedy="set label")
        return model.labels.index(word(label))

    def _judge(self, batch: pa.RecordBatch, columns: dict[str, pa.Array], scores: npt.NDArray[np.float32]) -> Outcome:
        if self.min is None:
            return Outcome(columns=columns)
        low = scores < self.min
        if self.keep_below > 0:
            low &= unit_interval(batch.column("id"), batch.column("doc_key"), "keep_below") >= self.keep_below
        return Outcome(columns=columns, verdict=np.where(low, 0, KEEP).astype(np.int16), value=scores.astype(np.float64))


def score_fields(column: str, label: str | None, classes: tuple[str, ...]) -> tuple[pa.Field, ...]:
    """The columns that a classifier's probabilities go to."""
    first = (
        [pa.field(column, pa.float32())]
        if label is not None
        else [pa.field(column, pa.string()), pa.field(f"{column}_score", pa.float32())]
    )
    return (*first, *(pa.field(f"{column}_{name}", pa.float32()) for name in classes))
