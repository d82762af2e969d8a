"""Free answers: what a model writes to open questions, greedily, and what can be measured of it without a judge.

Measured: the language of the answer, its length, whether it ended by itself (truncated: no end token within max_new_tokens), whether
it is empty, and, where a reference is known, whether the answer holds it as whole words (case folded, Unicode NFKC). Holding the
reference is a coarse sign of being right: it misses paraphrases and cannot see a contradiction. Lengths are reported beside it, because
longer answers hold more.

Questions go through the model's chat template; a model without one gets the plain template of the recipe. Prompts are sorted by
length, padded on the left and decoded in batches. Decoding is greedy; the sampling settings and penalties of the model's
generation_config.json do not apply.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.choice import prompt_of
from evaluation.items import Question
from evaluation.model import OpenModel
from store.errors import InputError

if TYPE_CHECKING:
    from transformers import GenerationConfig

Identify = Callable[[list[str]], list[tuple[str, float]]]
"""Texts -> (language code, probability) of each, in order."""
LABEL_PREFIX = "__label__"  # fastText's; codes with and without it mean the same


@dataclass(frozen=True)
class Answer:
    """One answer. ``language`` is None if it was not identified or the answer is empty; ``correct`` is None without a reference."""

    question: Question
    text: str
    n_tokens: int
    truncated: bool
    language: str | None
    language_probability: float | None

    @property
    def empty(self) -> bool:
        return not self.text

    @property
    def correct(self) -> bool | None:
        if not self.question.references:
            return None
        return any(holds(self.text, r) for r in self.question.references)


def answer_questions(
    lm: OpenModel,
    questions: Sequence[Question],
    *,
    template: str,
    system_prompt: str | None = None,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    identify: Identify | None = None,
) -> list[Answer]:
    """Greedy answers in the order of the questions. InputError if a prompt leaves no room for an answer."""
    prompts = [_prompt_ids(lm, q.question, template, system_prompt) for q in questions]
    for question, ids in zip(questions, prompts, strict=True):
        if len(ids) + max_new_tokens > lm.max_context:
            raise InputError(f"the prompt of {len(ids)} tokens and {max_new_tokens} new ones exceed the model's context",
                             where=f"question {question.id}", expected=f"at most {lm.max_context} tokens together",
                             remedy="lower evaluation.max_new_tokens or shorten the question")  # fmt: skip
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    written: dict[int, list[int]] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        written.update(zip(batch, _generate(lm, [prompts[i] for i in batch], max_new_tokens), strict=True))
    ends = end_ids(lm)
    bodies = [_until_end(written[i], ends) for i in range(len(prompts))]
    texts = [str(lm.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids, _ in bodies]
    languages = _languages(texts, identify)
    return [
        Answer(q, text, len(ids), not ended, *language)
        for q, text, (ids, ended), language in zip(questions, texts, bodies, languages, strict=True)
    ]


def holds(text: str, reference: str) -> bool:
    """Whether ``text`` contains ``reference`` as whole words, case and compatibility forms aside."""
    pattern = r"(?<!\w)" + r"\s+".join(re.escape(w) for w in _folded(reference).split()) + r"(?!\w)"
    return re.search(pattern, _folded(text)) is not None


def end_ids(lm: OpenModel) -> list[int]:
    """The tokens that end an answer: those of generation_config.json (an instruct model may name several) and the tokenizer's EOS."""
    named = lm.model.generation_config.eos_token_id
    found = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({int(i) for i in (*found, lm.tokenizer.eos_token_id) if i is not None})


def _prompt_ids(lm: OpenModel, question: str, template: str, system_prompt: str | None) -> list[int]:
    if not lm.has_chat_template:
        text = prompt_of(template, question)
        return [int(i) for i in lm.tokenizer(text if system_prompt is None else f"{system_prompt}\n\n{text}")["input_ids"]]
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    messages = [*system, {"role": "user", "content": question}]
    chat = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return [int(i) for i in lm.tokenizer(str(chat), add_special_tokens=False)["input_ids"]]  # the template has written them


def _generate(lm: OpenModel, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """New tokens of each prompt. Shapes: B prompts, T longest prompt."""
    import torch
    from transformers import GenerationConfig

    width, ends = max(len(p) for p in prompts), end_ids(lm)
    pad = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else (ends or [0])[0]
    ids_BT = torch.full((len(prompts), width), int(pad), dtype=torch.long)
    mask_BT = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, ids in enumerate(prompts):
        ids_BT[row, width - len(ids) :] = torch.tensor(ids)
        mask_BT[row, width - len(ids) :] = 1
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, eos_token_id=ends or None, pad_token_id=int(pad), use_cache=True,
        bos_token_id=lm.tokenizer.bos_token_id,
    )  # fmt: skip
    with torch.inference_mode(), _configured(lm, greedy):
        out = lm.model.generate(ids_BT.to(lm.model.device), attention_mask=mask_BT.to(lm.model.device))  # type: ignore[operator]
    return [[int(i) for i in row] for row in out[:, width:].cpu()]


@contextmanager
def _configured(lm: OpenModel, config: GenerationConfig) -> Iterator[None]:
    """The model with another generation config. Passing one to generate is not enough: what it leaves open is filled in from the
    model's own, and Qwen2.5's repetition penalty of 1.05 would stay."""
    before = lm.model.generation_config
    lm.model.generation_config = config
    try:
        yield
    finally:
        lm.model.generation_config = before


def _until_end(ids: list[int], ends: list[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there was one."""
    at = next((i for i, token in enumerate(ids) if token in ends), None)
    return (ids, False) if at is None else (ids[:at], True)


def _languages(texts: list[str], identify: Identify | None) -> list[tuple[str | None, float | None]]:
    if identify is None:
        return [(None, None)] * len(texts)
    asked = [i for i, text in enumerate(texts) if text]
    found = identify([" ".join(texts[i].split()) for i in asked])  # fastText reads one line
    by_index = {i: (label.removeprefix(LABEL_PREFIX), float(p)) for i, (label, p) in zip(asked, found, strict=True)}
    return [by_index.get(i, (None, None)) for i in range(len(texts))]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
