"""Edits that turn a page into a near duplicate: words replaced, inserted or deleted at a given rate."""

from __future__ import annotations

import re
from collections.abc import Sequence

from corpus.sample.draw import Draw
from corpus.sample.lexicon import words

_TOKEN = re.compile(r"\S+")


def _protected(text: str, values: Sequence[str]) -> list[tuple[int, int]]:
    spans = []
    for value in values:
        start = text.find(value)
        if start >= 0:
            spans.append((start, start + len(value)))
    return spans


def edit(text: str, rate: float, draw: Draw, keep: Sequence[str] = ()) -> str:
    """A copy of `text` with round(rate * words), at least one, words replaced (3/5), inserted or deleted (1/5 each).

    The strings in `keep` stay as they are; line breaks stay where they are.
    """
    spans = _protected(text, keep)
    tokens = [m for m in _TOKEN.finditer(text) if all(m.end() <= start or m.start() >= end for start, end in spans)]
    n_edits = min(len(tokens), max(1, round(rate * len(tokens))))
    chosen = sorted(draw.shuffled(range(len(tokens)))[:n_edits])
    fill = words()["vorname"] + words()["stadt"] + words()["kon"] + words()["gut"][:6]
    parts: list[str] = []
    at = 0
    for index in chosen:
        token = tokens[index]
        parts.append(text[at : token.start()])
        word, action = draw.pick(fill), draw.below(5)
        if action < 3 or (action == 4 and len(tokens) < 2):
            parts.append(word if word != token.group() else word + "er")
        elif action == 3:
            parts.append(f"{token.group()} {word}")
        at = token.end()
    parts.append(text[at:])
    return re.sub(r" {2,}", " ", "".join(parts)).strip()
