"""Parameters of scoring: what is computed, which bears the scores' identity, and what pass 2 does with it, which bears its own.

Scores of all classes are kept, so that another column, label or threshold costs no second forward pass.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from corpus.stages.score import score_fields
from store.params import Json, Params

COMPUTED = ("dtype", "tokens_per_batch", "after", "check_pages")
"""Fields that decide the scores' bytes; the others decide those of pass 2."""


class ScoringParams(Params):
    """One classifier of kind embedding or encoder over what deduplication left."""

    label: str | None = Field(
        default=None, min_length=1,
        description="The label whose probability is wanted; null: the positive one, or of several classes the most probable, by name.",
    )  # fmt: skip
    column: str | None = Field(
        default=None,
        min_length=1,
        description="Column written, as of the stage score; null: score_<name>, or of several classes <name>.",
    )
    classes: tuple[str, ...] = Field(default=(), description="Labels that get a column of their own as well: <column>_<label>.")
    min: float | None = Field(default=None, ge=0, le=1, description="Drop pages scored lower, in pass 2; null drops nothing.")
    keep_below: float = Field(default=0.0, ge=0, le=1, description="Share of the pages below min that stay, drawn by id (replay).")
    after: str | None = Field(
        default="score",
        description="Stage of pass 1 that drops pages in front of this one; the recall it loses is estimated; null: none.",
    )
    check_pages: int | None = Field(
        default=10_000,
        ge=1,
        description="Pages that stage dropped, drawn by id, that are scored all the same to estimate it; null: none.",
    )
    max_recall_lost: float | None = Field(
        default=0.05, gt=0, le=1, description="Warn if the recall lost may be larger (upper end of its interval); null: never."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Precision; auto: bfloat16 on a GPU and on a CPU that computes in it, else float32."
    )
    tokens_per_batch: int = Field(default=16_384, ge=64, description="Tokens of a batch, padding included.")

    def computed(self) -> dict[str, Json]:
        """What bears the identity of the scores."""
        return {name: getattr(self, name) for name in COMPUTED}


def written(name: str, params: ScoringParams, positive: str | None) -> tuple[str, str | None]:
    """(column, label) with the defaults filled in; ``positive`` is None for several classes."""
    label = params.label if params.label is not None else positive
    return params.column or (f"score_{name}" if label is not None else name), label


def fields(name: str, params: ScoringParams, positive: str | None) -> tuple[pa.Field, ...]:
    """The columns that pass 2 gets."""
    column, label = written(name, params, positive)
    return score_fields(column, label, params.classes)


def score_schema(labels: tuple[str, ...]) -> pa.Schema:
    """Files of scores: the document's key and the probability of each class, on the grid."""
    return pa.schema([pa.field("doc_key", pa.int64(), nullable=False), *((label, pa.float32()) for label in labels)])
