"""Language of a page by a fastText model, and the languages a recipe keeps.

The model sees the whole page on one line (case as it stands: lid.176 was trained so). Labels are kept as the model says them:
lid.176 has ISO 639-1 codes ("de"), GlotLID ISO 639-3 with script ("deu_Latn"); ``languages`` is compared literally.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from corpus.stages.fasttext_model import LABEL_PREFIX, best_labels, load_model
from corpus.stages.fasttext_text import one_line
from corpus.stages.lid_model import find_lid176
from store.errors import RecipeError
from store.params import ByContent

LID_RESOURCE = "lid.176"


class Language(Stage):
    """Identify each page's language; drop pages in other languages and those the model is unsure of."""

    stage: Literal["language"] = Field(default="language", description="Name of the stage.")
    languages: tuple[str, ...] | None = Field(default=None, description="Labels to keep, as the model names them; null keeps all.")
    min_score: float | None = Field(default=0.5, ge=0, le=1, description="Lowest probability of the best label; null switches off.")
    model: Annotated[str | None, ByContent] = Field(default=None, description="A fastText model file; null for lid.176.")

    writes: ClassVar[tuple[pa.Field, ...]] = (pa.field("language", pa.string()), pa.field("language_score", pa.float64()))
    reasons: ClassVar[tuple[str, ...]] = ("other_language", "low_score")

    def open(self, resources: Resources) -> Apply:
        """Load the model: the parameter's file, else the resource "lid.176", else wherever lid.176.ftz is found.

        Raises:
            RecipeError: a wanted language is none of the model's labels.
        """
        path = self.model or resources.get(LID_RESOURCE) or find_lid176()
        model = load_model(path)
        self._check(model.get_labels())

        def apply(batch: pa.RecordBatch) -> Outcome:
            names, scores = best_labels(model, one_line(batch.column("text")))
            languages = pa.array(names, pa.string())
            verdict = np.full(len(batch), KEEP, np.int16)
            if self.min_score is not None:
                verdict[scores < self.min_score] = 1
            if self.languages is not None:
                verdict[[name not in self.languages for name in names]] = 0
            value = np.where(verdict == KEEP, np.nan, scores)
            return Outcome(columns={"language": languages, "language_score": pa.array(scores)}, verdict=verdict, value=value)

        return apply

    def _check(self, labels: list[str]) -> None:
        known = {label.removeprefix(LABEL_PREFIX) for label in labels}
        unknown = [language for language in self.languages or () if language not in known]
        if unknown:
            near = ", ".join(sorted(label for label in known if label[:2] == unknown[0][:2])[:5]) or "none alike"
            raise RecipeError(
                f"the language model has no label {unknown[0]!r}",
                where="language.languages",
                expected=f"a label of the model such as {near}",
                remedy="use the codes of the model: two letters in lid.176 (de), three letters and a script in GlotLID (deu_Latn)",
            )
