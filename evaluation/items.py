"""Benchmark items and open questions from JSONL files, checked line by line.

A multiple-choice line is ``{"question", "choices": [...], "answer": 2}``; ``id`` is optional. Also read: the answer as a list of
one (``[2]``), as a letter (``"c"``, ``["c"]``), and ``problem_text`` / ``problem_id`` for ``question`` / ``id``. An open question is
``{"question"}`` with optional ``id`` and ``reference`` (a string, or several any of which is right).

Whatever is wrong is an InputError with file and line: a benchmark with a silently skipped item is another benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from store.errors import InputError
from store.fs import open_input
from store.params import Json

MIN_CHOICES = 2
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """A multiple-choice item. ``answer`` indexes ``choices``; ``line`` (from 1) is unique in its file, ``id`` need not be."""

    line: int
    id: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Question:
    """An open question. Any of ``references`` is a right answer; none means it is not known."""

    line: int
    id: str
    question: str
    references: tuple[str, ...]


def read_items(file: str, duplicates: Literal["error", "first"] = "error") -> list[Item]:
    """All items of a benchmark; InputError names the first line that is wrong.

    An item is a duplicate if question and choices are those of an earlier line (the order of choices aside). With ``first`` it is
    left out, unless its answer is another: then one of the two is wrong, and that is always an error.
    """
    seen: dict[tuple[object, ...], Item] = {}
    for line, body in _lines(file):
        item = _item(file, line, body)
        first = seen.setdefault((item.question, *sorted(item.choices)), item)
        if first.choices[first.answer] != item.choices[item.answer]:
            raise InputError(f"the item is that of line {first.line} with another answer", where=f"{file}, line {line}",
                             remedy="correct the answer of one of them")  # fmt: skip
        if first is not item and duplicates == "error":
            raise InputError(f"the item is the same as that of line {first.line}", where=f"{file}, line {line}",
                             remedy="remove one of them, or set the benchmark's duplicates: first")  # fmt: skip
    return _not_empty(list(seen.values()), file)


def read_questions(file: str) -> list[Question]:
    """All open questions of a file; InputError names the first line that is wrong."""
    questions: list[Question] = []
    for line, body in _lines(file):
        where = f"{file}, line {line}"
        given = body.get("reference")
        references = given if isinstance(given, list) else [] if given is None else [given]
        if not all(isinstance(r, str) and r.strip() for r in references):
            raise InputError("the reference is not a text", where=where, expected="a string, a list of strings, or null")
        texts = tuple(str(r).strip() for r in references)
        questions.append(Question(line, _identifier(body, line), _text(body, where), texts))
    return _not_empty(questions, file)


def spaced(n: int, limit: int | None) -> list[int]:
    """``limit`` indices spread evenly over ``range(n)``: files are often ordered by subject, so the first ones are no sample."""
    if limit is None or limit >= n:
        return list(range(n))
    return [i * n // limit for i in range(limit)]


def _lines(file: str) -> Iterator[tuple[int, dict[str, Json]]]:
    with open_input(file) as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            try:
                body = json.loads(raw)
            except ValueError as error:
                raise InputError(f"this is not JSON ({error})", where=f"{file}, line {number}") from error
            if not isinstance(body, dict):
                raise InputError("this is not a JSON object", where=f"{file}, line {number}", expected='{"question": ...}')
            yield number, body


def _item(file: str, line: int, body: dict[str, Json]) -> Item:
    where = f"{file}, line {line}"
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(c, str) and c.strip() for c in choices):
        raise InputError("choices is not a list of non-empty texts", where=where, expected='"choices": ["...", "..."]')
    if len(choices) < MIN_CHOICES:
        raise InputError(f"the item has {len(choices)} choice", where=where, expected=f"at least {MIN_CHOICES}")
    texts = tuple(str(c).strip() for c in choices)
    if len(set(texts)) < len(texts):
        raise InputError("the item offers the same choice twice", where=where, remedy="remove the item or correct the choice")
    return Item(line, _identifier(body, line), _text(body, where), texts, _answer(body.get("answer"), len(texts), where))


def _answer(given: Json, n_choices: int, where: str) -> int:
    value = given[0] if isinstance(given, list) and len(given) == 1 else given
    if isinstance(value, str) and len(value) == 1 and value.isascii() and value.isalpha():
        value = ord(value.lower()) - ord("a")
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"the answer {given!r} does not name one choice", where=where,
                         expected="an index from 0, or a letter from a")  # fmt: skip
    if not 0 <= value < n_choices:
        raise InputError(f"the answer {given!r} is out of range", where=where, expected=f"one of {n_choices} choices, counted from 0")
    return value


def _text(body: dict[str, Json], where: str) -> str:
    question = body.get("question", body.get("problem_text"))
    if not isinstance(question, str) or not question.strip():
        raise InputError("the question is missing or empty", where=where, expected='"question": "..."')
    return question.strip()


def _identifier(body: dict[str, Json], line: int) -> str:
    found = body.get("id", body.get("problem_id"))
    return str(line if found is None else found)


def _not_empty(found: list[T], file: str) -> list[T]:
    if not found:
        raise InputError("the file holds no items", where=file)
    return found
