"""What a model said, as a label of the set or the reason why it is none. Never a guess.

An answer is read as JSON: the whole text, or the only JSON object in it (a block of thoughts in ``<think>`` tags in front is passed
over). The object must have the key ``label`` once, with exactly a label of the set.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

READER = 1
"""Raised when answers are read differently: cached failures are then asked again, cached labels stay."""
FAILURES = {
    "cut_off": "the answer was longer than max_tokens",
    "refused": "the model or a filter of the server refused",
    "empty": "the answer was empty",
    "no_json": "no JSON object in the answer",
    "ambiguous": "several JSON objects, or a key twice",
    "no_label": "the object has no label, or one that is no text",
    "unknown_label": "the label is not one of the set",
}
NO_TEXT, NO_ANSWER = "no_text", "no_answer"
KEY = "label"
MOST_BRACES = 100
"""Braces of an answer at which an object is looked for: a text of nothing but braces must not cost a second."""
DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: _unique(pairs))


class _TwiceError(ValueError):
    """A key occurs twice."""


@dataclass(frozen=True)
class Reply:
    """What a server sent back: the text, why it ended, and the tokens it counted (None: not said)."""

    text: str
    finish: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None
    refused: bool = False


@dataclass(frozen=True)
class Verdict:
    """A label, or the name of a failure."""

    label: str | None
    failure: str | None = None


def read_answer(reply: Reply, labels: Collection[str]) -> Verdict:
    """The verdict of a reply."""
    found = _read(reply.text, labels)
    if found.label is not None:
        return found
    if reply.refused or reply.finish == "content_filter":
        return Verdict(None, "refused")
    return Verdict(None, "cut_off") if reply.finish == "length" else found


def answer_schema(labels: Collection[str]) -> dict[str, object]:
    """The JSON Schema of a right answer."""
    return {
        "type": "object",
        "properties": {KEY: {"type": "string", "enum": list(labels)}},
        "required": [KEY],
        "additionalProperties": False,
    }


def _read(text: str, labels: Collection[str]) -> Verdict:
    text = _without_thoughts(text).strip()
    if not text:
        return Verdict(None, "empty")
    try:
        objects = _objects(text)
    except _TwiceError:
        return Verdict(None, "ambiguous")
    if len(objects) != 1:
        return Verdict(None, "ambiguous" if objects else "no_json")
    label = objects[0].get(KEY)
    if not isinstance(label, str):
        return Verdict(None, "no_label")
    return Verdict(label) if label in labels else Verdict(None, "unknown_label")


def _without_thoughts(text: str) -> str:
    """What follows the last thought; nothing, if a thought never ends. Some templates open the first one in the prompt."""
    _, closed, rest = text.rpartition("</think>")
    return "" if "<think>" in rest else rest if closed else text


def _objects(text: str) -> list[dict[str, object]]:
    """The outermost JSON objects of a text, two at most; a brace that begins none is text."""
    found: list[dict[str, object]] = []
    at, n_tried = text.find("{"), 0
    while at >= 0 and len(found) < 2 and n_tried < MOST_BRACES:
        n_tried += 1
        try:
            value, end = DECODER.raw_decode(text, at)
            found.append(value)
        except _TwiceError:
            raise
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise _TwiceError
    return dict(pairs)
