"""What counts as a duplicate, which document of a cluster stays, and how much memory a task may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from store.artifact import MANIFEST
from store.params import ByContent, Execution, Params


class DedupParams(Params):
    """Which duplicates are found and which document of a cluster stays."""

    exact: bool = Field(
        default=True, description="Texts that are the same once case, numbers, punctuation and white space are ignored."
    )
    minhash: bool = Field(default=True, description="Texts that share most of their word n-grams, by the signature stage's bands.")
    keep: Literal["first", "longest", "best", "newest"] = Field(
        default="first", description="Survivor: first in the corpus, most characters, highest value of by, or latest date."
    )
    by: str | None = Field(default=None, description="Score column that decides keep: best, e.g. score_medical.")
    min_jaccard: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="Compare what the bands propose and join only texts of at least this Jaccard similarity; null: join all proposals.",
    )
    against: Annotated[tuple[str, ...], ByContent] = Field(
        default=(),
        description="Earlier corpora, oldest first: folders of documents artifacts or of their indexes. As if all were one run.",
    )
    task_memory_mb: Annotated[int, Execution] = Field(
        default=2000,
        ge=16,
        description="Memory of a task; what does not fit is cut into parts by hash and ranges by number, to the same result.",
    )

    @field_validator("against")
    @classmethod
    def _by_manifest(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """A folder is what its manifest says: identity is the manifest's content."""
        return tuple(url if url.endswith(f"/{MANIFEST}") else f"{url.rstrip('/')}/{MANIFEST}" for url in value)

    @model_validator(mode="after")
    def _by_belongs_to_best(self) -> DedupParams:
        if (self.keep == "best") != (self.by is not None):
            raise ValueError("keep: best needs by, the score column that decides; no other rule has it")
        return self
