"""Parameters of asking language models for labels: which labels, prompts and models, how votes are counted, how requests are sent.

The name of a model bears identity; where it is served, how fast it may be asked and what it costs do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from corpus.labelling.prompt import BUILT_IN, Prompt, built_in_digest
from store.params import ByContent, Execution, Json, Params, identity_of

OWN_FIELDS = ("model", "messages", "temperature", "seed", "max_tokens", "response_format", "stream", "n")


class LabelParams(Params):
    """A label and what it means: both are written into the prompt."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^\s\"\\<>{}](?:[^\n\"\\<>{}]*[^\s\"\\<>{}])?$",
                      description="The label, as it is asked for and written.")  # fmt: skip
    about: str = Field(min_length=1, description="What pages of this label are like, in the language of the prompt.")


class EndpointParams(Params):
    """A server that speaks OpenAI's /v1/chat/completions: where it is, how it may be asked, what it costs."""

    url: str = Field(description="Address up to and including /v1, e.g. http://127.0.0.1:8000/v1; pages are sent to it.")
    api_key_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable that holds the API key; null: no key."
    )
    check_model: bool = Field(
        default=True, description="Before the first request, look whether the server lists the model, where it lists any."
    )
    concurrency: int = Field(default=8, ge=1, le=4096, description="Requests under way at the same time.")
    requests_per_minute: float | None = Field(default=None, gt=0.0, description="Requests sent in a minute at most; null: no limit.")
    tokens_per_minute: float | None = Field(
        default=None, gt=0.0, description="Tokens (in, and out at most) asked for in a minute at most; null: no limit."
    )
    timeout_s: float = Field(default=120.0, gt=0.0, description="Seconds until a request without a whole answer is given up.")
    attempts: int = Field(default=8, ge=1, le=100, description="Times a request is sent until the server answers it.")
    max_wait_s: float = Field(default=300.0, gt=0.0, description="Longest pause the server may ask for (Retry-After), in seconds.")
    stop_after: int = Field(default=10, ge=1, description="Stop when so many pages in a row got no answer.")
    input_price: float = Field(default=0.0, ge=0.0, description="Price of a million tokens in, in your currency.")
    output_price: float = Field(default=0.0, ge=0.0, description="Price of a million tokens out.")
    answer_s: float | None = Field(default=None, gt=0.0, description="Seconds an answer takes, for estimates; null: not known.")

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        _ = parts.port  # a ValueError if it is none
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an endpoint is an address that begins with http:// or https://")
        if parts.username or parts.password or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("an address holds no user, password, query or fragment; keys come from the environment (api_key_env)")
        return url.rstrip("/")


class BatchParams(Params):
    """The cluster's own GPUs: vLLM through ray.data.llm."""

    folder: str | None = Field(
        default=None, description="Folder of the model, seen by every GPU node; null: the model's name, as on the hub."
    )
    replicas: int = Field(default=1, ge=1, description="Copies of the model that answer side by side.")
    gpus: int = Field(default=1, ge=1, description="GPUs of a copy (tensor parallel).")
    batch_rows: int = Field(default=64, ge=1, description="Requests handed to a copy at a time.")
    max_model_len: int | None = Field(default=None, ge=128, description="Tokens of prompt and answer at most; null: the model's own.")
    accelerator_type: str | None = Field(default=None, description="Kind of GPU in Ray's words, e.g. H100; null: any.")


class ModelParams(Params):
    """A language model that votes, by one of two ways to reach it."""

    name: str = Field(
        min_length=1, description="Name of the model, as the endpoint knows it; it bears identity, the endpoint does not."
    )
    endpoint: Annotated[EndpointParams | None, Execution] = Field(default=None, description="Server to ask; null: batch.")
    batch: Annotated[BatchParams | None, Execution] = Field(default=None, description="The cluster's GPUs; null: endpoint.")
    extra: dict[str, Json] = Field(
        default={}, description="Further fields of the request's body, e.g. chat_template_kwargs: {enable_thinking: false}."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ModelParams:
        if (self.endpoint is None) == (self.batch is None):
            raise ValueError("give either endpoint or batch")
        if taken := sorted(set(self.extra) & set(OWN_FIELDS)):
            raise ValueError(f"extra holds {', '.join(taken)}, which other parameters give")
        if wrong := [k for k in self.extra if re.search(r"key|auth|secret|password|bearer", k, re.IGNORECASE)]:
            raise ValueError(f"extra holds {wrong[0]}, which looks like a secret; keys come from the environment (api_key_env)")
        return self


class AskParams(Params):
    """What language models are asked, and when their answers make a label."""

    labels: tuple[LabelParams, ...] = Field(min_length=2, description="The labels to choose from, in the order of the prompt.")
    prompts: Annotated[tuple[str, ...], ByContent] = Field(
        default=("en",),
        min_length=1,
        description="Prompts: built-in ones by name (en, de), or files; each of them is a vote of each model.",
    )
    models: tuple[ModelParams, ...] = Field(min_length=1, description="Language models; each of them is a vote for each prompt.")
    vote: Literal["majority", "unanimous"] = Field(
        default="majority", description="A page gets the label that more than half of all voters gave, or that all of them gave."
    )
    structured: Literal["auto", "schema", "text"] = Field(
        default="auto",
        description="Ask for JSON by response_format where the server takes it (auto), always (schema), or never (text).",
    )
    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description="Sampling temperature.")
    seed: int | None = Field(default=1, ge=0, description="Seed sent with a request; a further try sends the next one; null: none.")
    max_tokens: int = Field(default=64, ge=1, description="Tokens of an answer at most; a model that thinks first needs thousands.")
    max_chars: int = Field(default=4000, ge=100, description="Characters of a page that are sent.")
    tries: int = Field(default=2, ge=1, le=10, description="Times a model is asked until its answer is a label.")
    unanswered: Literal["fail", "leave_out"] = Field(
        default="fail", description="Pages the server never answers: fail the step at its end, or leave them without a label, counted."
    )
    chars_per_token: Annotated[float, Execution] = Field(
        default=3.0, gt=0.0, description="Characters of a token, by which estimates and the limit of tokens count."
    )
    max_cost: Annotated[float | None, Execution] = Field(
        default=None,
        ge=0.0,
        description="Most a run may spend, in your currency: refused before it, stopped during it; null: no limit.",
    )

    @model_validator(mode="after")
    def _voters_differ(self) -> AskParams:
        for what, names in (
            ("label", [x.name for x in self.labels]),
            ("prompt", list(self.prompts)),
            ("model", [m.name for m in self.models]),
        ):
            if len({n.casefold() if what == "label" else n for n in names}) < len(names):
                raise ValueError(f"a {what} is listed twice")
        return self

    def identity(self, digest: Callable[[str], str]) -> dict[str, Json]:
        """As of any parameters; a built-in prompt is its content too."""
        return identity_of(self, lambda name: built_in_digest(name) if name in BUILT_IN else digest(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(x.name for x in self.labels)


def prompts_of(params: AskParams) -> tuple[Prompt, ...]:
    """The prompts, read and checked; RecipeError if one is no prompt or two bear one name."""
    from store.errors import RecipeError

    found = tuple(Prompt.read(name) for name in params.prompts)
    names = [p.name for p in found]
    if len(set(names)) < len(names):
        raise RecipeError(f"two prompts bear the name {next(n for n in names if names.count(n) > 1)}", where=", ".join(params.prompts),
                          remedy="give each file a name of its own")  # fmt: skip
    return found
