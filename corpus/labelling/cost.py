"""What labelling will cost, said before the first request, and the purse a run may spend from.

Rule of counting: a request has its characters divided by ``chars_per_token`` (3 counts more than most tokenizers do for German and
English), rounded up, and 8 tokens for each of its messages; an answer has ``max_tokens`` at most. Every page is counted as asked once:
how many are asked again is known afterwards only. Time is what the limits by minute force and, where ``answer_s`` is given, what the
answers take; models are asked side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from corpus.labelling.ask_params import AskParams, ModelParams
from corpus.labelling.pages import PagesFile
from corpus.labelling.request import Voter, voters_of
from corpus.labelling.request_cache import ANSWERS, RequestCache, read_cache
from store.errors import StepError
from store.fs import Folder
from store.params import Json


@dataclass(frozen=True)
class ModelEstimate:
    """One model's part. ``minutes`` is None where neither limits nor answer_s say anything."""

    model: str
    requests: int
    cached: int
    tokens_in: int
    tokens_out: int
    minutes: float | None
    cost: float


@dataclass(frozen=True)
class Estimate:
    """What a run would send. ``exact`` if the pages were read, else as if every page had max_chars characters."""

    pages: int
    models: tuple[ModelEstimate, ...]
    exact: bool

    @property
    def requests(self) -> int:
        return sum(m.requests for m in self.models)

    @property
    def cached(self) -> int:
        return sum(m.cached for m in self.models)

    @property
    def cost(self) -> float:
        return sum(m.cost for m in self.models)

    @property
    def minutes(self) -> float | None:
        """The slowest model's; None if one is not known."""
        known = [m.minutes for m in self.models if m.minutes is not None]
        return max(known, default=0.0) if len(known) == len(self.models) else None

    def lines(self) -> list[str]:
        """For people: a line for everything, and one for each model."""
        about = "" if self.exact else ", each as long as max_chars allows"
        yet = f"{self.cached:,} answers are known, {self.requests:,} requests to send"
        head = f"{self.pages:,} pages{about}: {yet}, cost at most about {self.cost:,.2f}, {_time(self.minutes)}"
        return [head, *(_line(m) for m in self.models)]

    def check(self, params: AskParams) -> Estimate:
        """StepError if it is more than the recipe allows; nothing was sent then."""
        if params.max_cost is not None and self.cost > params.max_cost:
            raise StepError(f"labelling would cost about {self.cost:,.2f}", where="max_cost", expected=f"at most {params.max_cost:g}",
                            remedy="nothing was sent; raise max_cost, or send fewer pages or less of each")  # fmt: skip
        return self

    def json(self) -> dict[str, Json]:
        """Figures for provenance."""
        return {
            "pages": self.pages,
            "requests": self.requests,
            "cached": self.cached,
            "cost": round(self.cost, 6),
            "minutes": self.minutes,
        }


def _line(m: ModelEstimate) -> str:
    return (f"  {m.model}: {m.requests:,} requests, {m.tokens_in / 1e6:,.3f} M tokens in, at most {m.tokens_out / 1e6:,.3f} M out, "
            f"cost at most about {m.cost:,.2f}, {_time(m.minutes)}")  # fmt: skip


def _time(minutes: float | None) -> str:
    return "time not known (no limits, no answer_s)" if minutes is None else f"at least {minutes:,.1f} minutes"


def estimate_pages(params: AskParams, pages: str | PagesFile, work: Folder, cache: RequestCache | None = None) -> Estimate:
    """The estimate for a file of pages, with what the cache in ``work`` answers taken off. Reads all pages once; sends nothing."""
    file = PagesFile.open(pages) if isinstance(pages, str) else pages
    known = read_cache(work / ANSWERS) if cache is None else cache
    voters = voters_of(params)
    asked, cached, tokens_in = ([0] * len(voters) for _ in range(3))
    seen: set[str] = set()
    for voter, text in _asked(voters, file):
        request = voter.request(0, text, 1)
        if known.get(request.key) is not None:
            cached[voter.index] += 1
        elif request.key not in seen:  # pages of one text are asked once
            seen.add(request.key)
            asked[voter.index] += 1
            tokens_in[voter.index] += request.tokens_in
    return _summed(params, voters, len(file), asked, cached, tokens_in, exact=True)


def estimate_count(params: AskParams, n_pages: int, mean_chars: int | None = None) -> Estimate:
    """The estimate for so many pages of a mean length (None: max_chars), none of them asked before."""
    voters = voters_of(params)
    text = "x" * min(params.max_chars, params.max_chars if mean_chars is None else mean_chars)
    each = [v.request(0, text, 1).tokens_in for v in voters]
    return _summed(params, voters, n_pages, [n_pages] * len(voters), [0] * len(voters), [n_pages * t for t in each], exact=False)


def _asked(voters: tuple[Voter, ...], file: PagesFile) -> Iterator[tuple[Voter, str]]:
    for batch in file.texts():
        for text in batch:
            if text is not None:
                yield from ((v, text) for v in voters)


def _summed(
    params: AskParams,
    voters: tuple[Voter, ...],
    n_pages: int,
    asked: list[int],
    cached: list[int],
    tokens_in: list[int],
    *,
    exact: bool,
) -> Estimate:
    found = []
    for model in params.models:
        mine = [v.index for v in voters if v.model is model]
        n, t = sum(asked[i] for i in mine), sum(tokens_in[i] for i in mine)
        found.append(_model(model, n, sum(cached[i] for i in mine), t, n * params.max_tokens))
    return Estimate(n_pages, tuple(found), exact)


def _model(model: ModelParams, n: int, cached: int, tokens_in: int, tokens_out: int) -> ModelEstimate:
    at = model.endpoint
    if at is None:  # the cluster's own GPUs: what an hour costs is the cluster's
        return ModelEstimate(model.name, n, cached, tokens_in, tokens_out, None, 0.0)
    times = [n / at.requests_per_minute] if at.requests_per_minute else []
    times += [(tokens_in + tokens_out) / at.tokens_per_minute] if at.tokens_per_minute else []
    times += [n * at.answer_s / at.concurrency / 60.0] if at.answer_s else []
    cost = (tokens_in * at.input_price + tokens_out * at.output_price) / 1e6
    return ModelEstimate(model.name, n, cached, tokens_in, tokens_out, max(times) if times else None if n else 0.0, cost)


@dataclass
class Purse:
    """Money of a run, shared by its endpoints. ``reserved`` is for requests under way; ``limit`` None: no limit."""

    limit: float | None = None
    spent: float = 0.0
    reserved: float = 0.0

    def reserve(self, most: float, where: str) -> None:
        """Set money aside for a request; StepError if what is spent and set aside could become more than the limit."""
        if self.limit is not None and most > 0.0 and self.spent + self.reserved + most > self.limit:
            raise StepError(
                f"the next request could spend more than max_cost; {self.spent:.4f} are spent", where=where,
                expected=f"at most {self.limit:g}", remedy="raise max_cost and run again: answers so far are kept",
            )  # fmt: skip
        self.reserved += most

    def release(self, most: float) -> None:
        self.reserved -= most
