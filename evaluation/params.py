"""Parameters of an evaluation: benchmarks, open questions, held-out texts, and how answers are asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from store.params import Execution, FileByContent, Params

Group = Literal["domain", "general"]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^\w[\w .-]*$")]
DEFAULT_TEMPLATE = "Frage: {question}\nAntwort:"


def _has_question(template: str) -> str:
    if "{question}" not in template:
        raise ValueError("the template must contain {question}")
    return template


class Benchmark(Params):
    """A multiple-choice benchmark in a local JSONL file (formats: evaluation.items)."""

    name: Name = Field(description="what the benchmark is called in scores and reports")
    file: FileByContent = Field(description="JSONL file of the items; its content is part of the evaluation's identity")
    group: Group = Field("domain", description="domain: what the model was specialised in; general: what it should not forget")
    template: str | None = Field(None, description="prompt with {question}, where it differs from evaluation.template")

    duplicates: Literal["error", "first"] = Field(
        "error", description="what an item that occurs twice means: error stops; first keeps its first occurrence and counts the rest"
    )

    @field_validator("template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        return value if value is None else _has_question(value)


class OpenQuestions(Params):
    """Questions that are answered in free text: JSONL lines {"question", optional "id", optional "reference"}."""

    name: Name = Field(description="what the set is called in scores and reports")
    file: FileByContent = Field(description="JSONL file of the questions; its content is part of the evaluation's identity")


class EvaluationParams(Params):
    """What is measured of every model, and how."""

    benchmarks: tuple[Benchmark, ...] = Field((), description="multiple-choice benchmarks, scored by log-likelihood")
    template: str = Field(
        DEFAULT_TEMPLATE, description="prompt of a multiple-choice item and of an open question to a model without chat template"
    )
    n_shot: int = Field(0, ge=0, le=32, description="solved items of the same benchmark put before each item")
    max_items: int | None = Field(None, ge=1, description="items used of each benchmark, evenly spaced; null: all")
    open_questions: tuple[OpenQuestions, ...] = Field((), description="sets of questions answered in free text, greedily")
    max_new_tokens: int = Field(256, ge=1, le=32_768, description="longest answer in tokens; a longer one counts as truncated")
    system_prompt: str | None = Field(None, description="system message before each open question; null: none")
    expected_language: str | None = Field(None, description="language code the answers should be in (de); null: not measured")
    heldout_groups: dict[str, Group] = Field(
        {"general": "general"}, description="group of each held-out set by name; sets not listed are of the domain"
    )
    max_docs: int | None = Field(500, ge=1, description="documents used of each held-out set, evenly spaced; null: all")
    context: int = Field(2048, ge=2, description="longest window in tokens when texts are scored; at most what the model was made for")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format the models are loaded in; auto: the format they are stored in"
    )
    tokens_per_batch: Annotated[int, Execution] = Field(
        4096, ge=1, description="tokens scored at once, padding included; changes round-off at most"
    )
    batch_size: Annotated[int, Execution] = Field(16, ge=1, description="items or answers processed at once; changes round-off at most")

    @field_validator("template")
    @classmethod
    def _template(cls, value: str) -> str:
        return _has_question(value)

    @model_validator(mode="after")
    def _names_are_unique(self) -> EvaluationParams:
        names = [b.name for b in self.benchmarks] + [q.name for q in self.open_questions]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two benchmarks or question sets are called {twice[0]!r}")
        return self
