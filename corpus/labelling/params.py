"""Parameters of labelling: which pages are labelled, in which rounds, by a language model, by people, or by both."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from corpus.classifier import ClassifierParams
from corpus.labelling.ask_params import AskParams
from store.params import ByContent, Params


class StratumParams(Params):
    """One way to cut pages into strata; several are combined."""

    by: Literal["host", "language_score", "length"] = Field(
        description="What pages are told apart by: the size of their host (its pages in the pool), language score, or characters."
    )
    quantiles: int | None = Field(default=None, ge=2, le=100, description="Cut the drawn pool into so many parts of equal size.")
    bounds: tuple[float, ...] | None = Field(
        default=None, min_length=1, max_length=99, description="Cut at these values, rising; a value belongs to the part above."
    )
    hosts: tuple[str, ...] | None = Field(
        default=None, min_length=1, max_length=99, description="Hosts that are strata of their own; the others are one (by: host)."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> StratumParams:
        given = [n for n in ("quantiles", "bounds", "hosts") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of quantiles, bounds{' and hosts' if self.by == 'host' else ''}, not {len(given)}")
        if self.hosts is not None and self.by != "host":
            raise ValueError("hosts are named with by: host")
        if self.bounds is not None and any(b <= a for a, b in pairwise(self.bounds)):
            raise ValueError("bounds rise")
        return self


class RoundParams(Params):
    """Pages that are drawn together."""

    n: int = Field(ge=1, description="Pages to label.")
    by: Literal["uniform", "strata", "boundary"] = Field(
        default="uniform", description="All pages alike; by strata; or those nearest to the threshold of a classifier (not in round 1)."
    )
    strata: tuple[StratumParams, ...] = Field(default=(), description="The strata (by: strata); several are combined.")
    allocation: Literal["proportional", "equal"] = Field(
        default="proportional", description="Pages of a stratum: by its share of the pool, or equally many of each (by: strata)."
    )
    pool_pages: int | None = Field(
        default=None, ge=1, description="Pages of the source that are drawn to choose from, before the language stage; null: 10 n."
    )
    random_share: float = Field(
        default=0.2, ge=0.0, le=1.0, description="Share of the round that is drawn at random instead (by: boundary)."
    )
    classifier: ClassifierParams | None = Field(
        default=None,
        description="The fastText classifier whose threshold is meant; labels null: those of the rounds before (by: boundary).",
    )

    @model_validator(mode="after")
    def _fits(self) -> RoundParams:
        if (self.by == "strata") != bool(self.strata):
            raise ValueError("strata belong to by: strata, and it needs at least one")
        if (self.by == "boundary") != (self.classifier is not None):
            raise ValueError("classifier belongs to by: boundary, and it needs one, e.g. {positive: medical}")
        if self.classifier is not None and (self.classifier.kind != "fasttext" or self.classifier.classes is not None):
            raise ValueError("the classifier of a round is a fastText model of two classes")
        if self.pool_pages is not None and self.pool_pages < self.n:
            raise ValueError("pool_pages is at least n")
        return self

    @property
    def pool(self) -> int:
        """Pages of the source to draw."""
        return self.pool_pages if self.pool_pages is not None else 10 * self.n


class SamplingParams(Params):
    """Which pages are labelled."""

    rounds: tuple[RoundParams, ...] = Field(
        default=(RoundParams(n=1000),), min_length=1, max_length=9, description="Rounds in order; no page is in two of them."
    )
    max_per_host: int | None = Field(default=None, ge=1, description="At most so many pages of one host in a round; null: any number.")
    max_chars: int = Field(default=4000, ge=100, description="Characters of a page's head that are kept to be labelled.")
    seed: int = Field(default=1, ge=0, description="Another seed, another sample.")

    @model_validator(mode="after")
    def _first(self) -> SamplingParams:
        if self.rounds[0].by == "boundary":
            raise ValueError("the first round has no classifier yet: by is uniform or strata")
        return self


class LabellingParams(Params):
    """Pages to label and who labels them."""

    sample: SamplingParams = Field(default=SamplingParams(), description="Pages that are drawn to be labelled, in rounds.")
    ask: AskParams | None = Field(default=None, description="Language models that are asked for labels; null: none, people label.")
    people: Annotated[str | None, ByContent] = Field(
        default=None, description="People's labels: the file that definemed labels import wrote, or any with id and label; null: none."
    )
    labels: tuple[str, ...] = Field(default=(), description="Labels that people may give; empty: those of ask.")
    prefer: Literal["people", "model"] = Field(
        default="people", description="Whose label a page bears that both have labelled; agreement is measured in any case."
    )

    @model_validator(mode="after")
    def _labels(self) -> LabellingParams:
        if any(not name.strip() or name != name.strip() for name in self.labels):
            raise ValueError("labels are names without blanks around them")
        if len({name.casefold() for name in self.names}) != len(self.names) or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels differ by more than capitals")
        for number, one in enumerate(self.sample.rounds, 1):
            if one.classifier is not None and one.classifier.labels is None and not self.asks:
                raise ValueError(f"round {number}: nobody is asked, so classifier.labels names people's labels of the rounds before")
        if not self.asks and len(self.labels) < 2:
            raise ValueError("nobody is asked (ask: null), so labels lists what people may say, at least two")
        return self

    @property
    def asks(self) -> bool:
        """Whether a language model is asked."""
        return self.ask is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Every label there may be: those of ask, then what else people may say."""
        asked = self.ask.names if self.ask is not None else ()
        return (*asked, *(name for name in self.labels if name not in asked))
