"""Labels from language models: every page of a file, by every voter, then the labels their votes decide.

``label_pages`` is the entry. Files of the artifact:

    labels.parquet      id, label: pages with a decided label
    votes.parquet       id, voter, label, reason: what each voter said of each page; a label, or the reason why it gave none
    unlabelled.parquet  id, reason

All in the order of the pages. read = labelled + unlabelled by reason. The summary has the same, and for each voter its votes, failures
and the pages it was asked again, and for each pair of voters Cohen's kappa. What depends on when and how the run went (requests sent,
money, tokens) is in provenance only. Answers are kept in ``work`` as they come, so nothing is asked or paid twice.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corpus.labelling.answer import NO_ANSWER, NO_TEXT, Reply, read_answer
from corpus.labelling.ask_params import AskParams, ModelParams
from corpus.labelling.ballot import Ballot
from corpus.labelling.cost import Purse, estimate_pages
from corpus.labelling.endpoint import Endpoint
from corpus.labelling.outcome import write_outcome
from corpus.labelling.pages import PagesFile
from corpus.labelling.request import Answerer, NoAnswer, Request, Voter, voters_of
from corpus.labelling.request_cache import ANSWERS, Cached, RequestCache, open_cache
from store.artifact import Artifact, Draft
from store.errors import RecipeError, StepError
from store.executor import Progress, Watcher, ignore
from store.fs import Folder
from store.params import Json

log = logging.getLogger(__name__)


def label_pages(
    draft: Draft, params: AskParams, pages: str, work: Folder, progress: Watcher | None = None, *,
    batch: Mapping[str, Answerer] | None = None,
) -> Artifact:  # fmt: skip
    """Ask for the label of every page and commit the artifact.

    Args:
        draft: of the artifact.
        params: what is asked; prompts are real paths or built-in names.
        pages: Parquet with id and text, ids unique.
        work: a local folder that outlives the run: answers are kept in ``answers`` below it.
        progress: told of every answer.
        batch: who answers for models with ``batch``, by the model's name.

    Raises:
        InputError: the pages are not as they should be.
        StepError: pages got no answer (unanswered: fail), or max_cost; ResourceError: the server refuses or does not answer. Answers so
            far are kept; the same call goes on.
    """
    begin, file = time.perf_counter(), PagesFile.open(pages)
    with open_cache(work / ANSWERS) as cache:
        estimate = estimate_pages(params, file, work, cache).check(params)
        for line in estimate.lines():  # a warning, because nothing less reaches the terminal, and money is about to be spent
            log.warning("%s: %s", draft.identity.step, line)
        purse = Purse(params.max_cost)
        survey = Survey(draft.identity.step, params, file, cache, progress or ignore)
        answerers = {m.name: _answerer(params, m, purse, batch or {}) for m in params.models}
        try:
            asyncio.run(survey.run(answerers))
        finally:
            n_sent = sum(a.sent for a in answerers.values())
            log.info("%s: %d requests were sent, %.4f spent", draft.identity.step, n_sent, purse.spent)
    survey.check()
    made: dict[str, Json] = {
        "requests_sent": n_sent, "spent": round(purse.spent, 6), "tokens_in": survey.tokens_in, "tokens_out": survey.tokens_out,
        "estimate": estimate.json(), "asked_s": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    return write_outcome(draft, params, survey.voters, file, survey.ballot, made)


def _answerer(params: AskParams, model: ModelParams, purse: Purse, batch: Mapping[str, Answerer]) -> Answerer:
    if model.endpoint is not None:
        return Endpoint(params, model.endpoint, model.name, purse)
    if model.name not in batch:
        raise RecipeError("this model is to be run on the cluster's GPUs, which this call has not", where=model.name,
                          remedy="give the model an endpoint, or run the recipe by definemed run")  # fmt: skip
    return batch[model.name]


@dataclass
class Survey:
    """Asking all voters about all pages: answers go to the ballot, from the cache or from an answerer."""

    step: str
    params: AskParams
    file: PagesFile
    cache: RequestCache
    watch: Watcher
    tokens_in: int = 0
    tokens_out: int = 0
    _done: int = 0
    _known: int = 0
    _begin_s: float = field(default_factory=time.monotonic)
    _stopped: bool = False
    _why: str = ""

    def __post_init__(self) -> None:
        self.voters = voters_of(self.params)
        self.ballot = Ballot.empty(self.params.names, len(self.voters), len(self.file))
        self._labels = frozenset(self.params.names)
        self._under_way: dict[str, list[Request]] = {}
        self._failed = 0

    async def run(self, answerers: Mapping[str, Answerer]) -> None:
        """Models side by side; an error of one ends the others after their requests under way."""
        ends = await asyncio.gather(*(self._model(m, answerers[m.name]) for m in self.params.models), return_exceptions=True)
        for error in ends:
            if isinstance(error, BaseException):
                raise error

    async def _model(self, model: ModelParams, answerer: Answerer) -> None:
        mine = [v for v in self.voters if v.model is model]
        try:
            for attempt in range(1, self.params.tries + 1):
                if attempt > 1 and not any((self.ballot.again[v.index] == attempt - 1).any() for v in mine):
                    break
                requests = self._requests(mine, attempt)
                first = next((r for r in requests if r is not None), None)
                if first is not None:
                    await answerer.answer(itertools.chain([first], requests), self._deliver)
        except BaseException:
            self._stopped = True
            raise

    def _requests(self, voters: list[Voter], attempt: int) -> Iterator[Request | None]:
        """What the cache does not answer; None after every batch, so that answers under way are not kept waiting."""
        page = 0
        for texts in self.file.texts():
            for text in texts:
                for voter in voters:
                    if self._stopped:
                        return
                    if (request := self._request(voter, page, text, attempt)) is not None:
                        yield request
                page += 1
            yield None

    def _request(self, voter: Voter, page: int, text: str | None, attempt: int) -> Request | None:
        """The request for a page, unless it is not needed."""
        if attempt > 1 and self.ballot.again[voter.index, page] != attempt - 1:
            return None
        if text is None:
            self.ballot.refuse(voter.index, page, NO_TEXT)
            self._count(known=True)
            return None
        request = voter.request(page, text, attempt)
        known = self.cache.get(request.key)
        if known is not None:
            self._take(request, known, known=True)
        elif request.key in self._under_way:  # a page of the same text is being asked about
            self._under_way[request.key].append(request)
        else:
            self._under_way[request.key] = [request]
            return request
        return None

    def _deliver(self, request: Request, reply: Reply | NoAnswer) -> None:
        same = self._under_way.pop(request.key)
        if isinstance(reply, NoAnswer):
            self._why = reply.why
            for each in same:
                self.ballot.refuse(each.voter.index, each.page, NO_ANSWER)
                self._failed += 1
                self._count()
            return
        tokens = [-1 if n is None else n for n in (reply.tokens_in, reply.tokens_out)]
        answer = Cached(read_answer(reply, self._labels), *tokens)
        self.cache.put(request.key, answer)
        for each in same:
            self._take(each, answer)

    def _take(self, request: Request, answer: Cached, *, known: bool = False) -> None:
        """An answer into the ballot, or the page onto the list of those to ask again."""
        self.tokens_in += max(0, answer.tokens_in)
        self.tokens_out += max(0, answer.tokens_out)
        voter, page = request.voter.index, request.page
        if answer.verdict.label is None and request.attempt < self.params.tries:
            self.ballot.again[voter, page] = request.attempt
            return
        self.ballot.record(voter, page, answer.verdict)
        self._failed += answer.verdict.label is None
        self._count(known=known)

    def _count(self, *, known: bool = False) -> None:
        self._done += 1
        self._known += known
        total = len(self.voters) * len(self.file)
        if not known or self._done == total or self._done % 1000 == 0:
            counts = {"without a label": self._failed} if self._failed else {}
            self.watch(Progress(self.step, "answers", self._done, total, self._known, time.monotonic() - self._begin_s, counts))

    def check(self) -> None:
        """StepError if pages got no answer and the recipe does not leave them out."""
        n = sum(self.ballot.vote(v.index, p)[1] == NO_ANSWER for v in self.voters for p in range(len(self.file)))
        if n and self.params.unanswered == "fail":
            raise StepError(f"{n} requests got no answer, the last one: {self._why}", where=f"step {self.step}",
                            remedy="run again: answers so far are kept; unanswered: leave_out goes on without these pages")  # fmt: skip
