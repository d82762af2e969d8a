"""What a mixture may say: which sources, how much of each, and how often a document counts that stands for many."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from store.params import Params

MAX_WEIGHT = 100


def _table(table: dict[int, int] | None) -> dict[int, int] | None:
    if table is None:
        return None
    if table.get(1) is None:
        raise ValueError("a table of weights begins with clusters of size 1, e.g. {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}")
    if min(table) < 1 or not all(0 <= w <= MAX_WEIGHT for w in table.values()) or not any(table.values()):
        raise ValueError(f"cluster sizes are at least 1, and weights 0 to {MAX_WEIGHT}, one of them above 0")
    return dict(sorted(table.items()))


Rehydrate = Annotated[dict[int, int] | None, AfterValidator(_table)]
"""Smallest cluster size -> times a document of such a cluster counts; None: every document once."""


class MixtureEntry(Params):
    """How much of one source is seen. Without ``epochs`` and ``share``: all of it, once."""

    name: str = Field(min_length=1, description="a source of the recipe")
    epochs: float | None = Field(default=None, gt=0, le=100, description="times its documents are seen; 0.5 is a random half")
    share: float | None = Field(default=None, gt=0, lt=1, description="share of all tokens of the run")
    max_epochs: float = Field(
        default=1.0, gt=0, le=100, description="limit of a share: a small source is not seen more often than this"
    )
    rehydrate: Rehydrate = Field(default=None, description="times a document counts by the size of its duplicate cluster")

    @model_validator(mode="before")
    @classmethod
    def _all_of_it_once(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("epochs") is None and values.get("share") is None:
            return {**values, "epochs": 1.0}
        return values

    @model_validator(mode="after")
    def _one_of_two(self) -> MixtureEntry:
        if self.epochs is not None and self.share is not None:
            raise ValueError("give epochs or share, not both")
        return self


class PackParams(Params):
    """How training rows are made."""

    seq_len: int = Field(ge=2, le=1 << 24, description="tokens of a training row")
    seed: int = Field(default=1, ge=0, description="chooses parts of sources and the order of equals")
    mixture: tuple[MixtureEntry, ...] = Field(min_length=1, description="the sources of the run")

    @model_validator(mode="after")
    def _names_once(self) -> PackParams:
        names = [e.name for e in self.mixture]
        if len(set(names)) != len(names):
            raise ValueError("a source stands in the mixture more than once")
        return self
