"""A request to a language model, its key in the cache, and the port by which requests are answered.

The port has two implementations: an endpoint over HTTP (corpus.labelling.endpoint) and the cluster's GPUs (cluster.labelling_batch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from corpus.labelling.answer import NO_ANSWER, Reply, answer_schema
from corpus.labelling.ask_params import AskParams, ModelParams, prompts_of
from corpus.labelling.prompt import Message, Prompt
from store.fingerprint import canonical_json, sha256_hex
from store.params import Json

MESSAGE_TOKENS = 8
"""Tokens counted for a message beside its text: the chat template's own."""


@dataclass(frozen=True)
class Voter:
    """A model with a prompt. ``index`` is its place among all voters of a recipe."""

    index: int
    model: ModelParams
    prompt: Prompt
    params: AskParams

    @property
    def name(self) -> str:
        """By names of content only: the model's, and the prompt's own."""
        return f"{self.model.name}/{self.prompt.name}"

    def request(self, page: int, text: str, attempt: int) -> Request:
        """The request for a page; ``text`` is cut to max_chars."""
        described = [(x.name, x.about) for x in self.params.labels]
        return Request(self, page, attempt, tuple(self.prompt.messages(described, text[: self.params.max_chars], attempt)))


@dataclass(frozen=True)
class Request:
    """What is sent for a page: the ``attempt``-th time (from 1) that this voter is asked."""

    voter: Voter
    page: int
    attempt: int
    messages: tuple[Message, ...]

    @cached_property
    def key(self) -> str:
        """sha256 of all that decides the answer: model, messages, sampling, prompt, attempt. No address, no limit, no time."""
        params, model = self.voter.params, self.voter.model
        return sha256_hex(canonical_json({
            "model": model.name, "extra": model.extra, "messages": [dict(m) for m in self.messages], "prompt": self.voter.prompt.digest,
            "labels": list(params.names), "structured": params.structured, "sampling": self.sampling, "attempt": self.attempt,
        }))  # fmt: skip

    @property
    def sampling(self) -> dict[str, Json]:
        """Temperature, tokens at most, and the seed, another one for each attempt."""
        params = self.voter.params
        seed: dict[str, Json] = {} if params.seed is None else {"seed": params.seed + self.attempt - 1}
        return {"temperature": params.temperature, "max_tokens": params.max_tokens, **seed}

    def body(self, structured: bool) -> dict[str, Json]:
        """The body of a chat completion."""
        model = self.voter.model
        form: dict[str, Json] = {}
        if structured:
            schema = {"name": "label", "strict": True, "schema": answer_schema(self.voter.params.names)}
            form["response_format"] = {"type": "json_schema", "json_schema": schema}  # type: ignore[dict-item]
        return {"model": model.name, "messages": [dict(m) for m in self.messages], **self.sampling, **form, **model.extra}

    @property
    def tokens_in(self) -> int:
        """Tokens of the messages by the stated rule: characters by chars_per_token, and some for the chat template."""
        n_chars = sum(len(m["content"]) for m in self.messages)
        return int(-(-n_chars // self.voter.params.chars_per_token)) + MESSAGE_TOKENS * len(self.messages)


@dataclass(frozen=True)
class NoAnswer:
    """A request the server never answered, after all attempts; ``why`` holds no text of the server's."""

    why: str
    reason: str = NO_ANSWER


Deliver = Callable[[Request, Reply | NoAnswer], None]


class Answerer(Protocol):
    """Answers the requests of one model.

    Takes requests from ``requests`` when it is ready for them (None: nothing yet, take a breath), and calls ``deliver`` once for each,
    in any order. Raises a DefinemedError if going on is useless. ``sent`` counts requests that went out.
    """

    sent: int

    async def answer(self, requests: Iterator[Request | None], deliver: Deliver) -> None: ...


def voters_of(params: AskParams) -> tuple[Voter, ...]:
    """Every model with every prompt, in the order of the recipe."""
    pairs = [(m, p) for m in params.models for p in prompts_of(params)]
    return tuple(Voter(i, m, p, params) for i, (m, p) in enumerate(pairs))
