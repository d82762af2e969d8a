"""Benchmarks and conversations about the world of facts: multiple choice, open questions, instruction chats.

Items are a pure function of (seed, number of items). The question's wording occurs in no page unless a leak is planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from corpus.sample.draw import Draw, Permutation
from corpus.sample.facts import Fact, facts

_SYSTEM = (
    "Du bist ein hilfreicher Assistent. Antworte kurz und auf Deutsch.",
    "Antworte in einem Satz.",
    "Du beantwortest Fragen knapp, höflich und auf Deutsch.",
    "Beantworte die Prüfungsfrage.",
)


@dataclass(frozen=True, slots=True)
class Item:
    """A multiple-choice question with four choices of one type; `answer` is the index of the right one."""

    id: str
    topic: str
    question: str
    choices: tuple[str, ...]
    answer: int


def _wrong_answers(fact: Fact, draw: Draw) -> list[str]:
    """Three other attributes of the relation, drawn by the frequency at which facts have them."""
    others = [other.answer for other in facts(fact.topic) if other.relation == fact.relation]
    wrong: list[str] = []
    for candidate in draw.shuffled(others):
        if candidate != fact.answer and candidate not in wrong:
            wrong.append(candidate)
        if len(wrong) == 3:
            return wrong
    raise ValueError(f"relation {fact.relation} has fewer than four different attributes: add facts to it")


def _choices(fact: Fact, position: int, draw: Draw) -> tuple[str, ...]:
    choices = _wrong_answers(fact, draw)
    choices.insert(position, fact.answer)
    return tuple(choices)


@cache
def items(topic: str, seed: int, n_items: int) -> tuple[Item, ...]:
    """The benchmark of a topic: at most `n_items` facts, one item each; positions of the right answer are balanced."""
    world = facts(topic)
    order = Permutation(len(world), seed, "bench", topic)
    result = []
    for at in range(min(n_items, len(world))):
        fact = world[order.forward(at)]
        draw = Draw(seed, "item", topic, at)
        question = draw.pick(fact.bench)
        result.append(Item(f"{topic}-{at:04d}", topic, question, _choices(fact, at % 4, draw), at % 4))
    return tuple(result)


def quote(item: Item) -> str:
    """The item as a leaking page quotes it: question, choices and right answer."""
    listed = " ".join(f"{letter}) {choice}" for letter, choice in zip("ABCD", item.choices, strict=True))
    return f"Aus einer Prüfung: {item.question} {listed} Richtig ist {item.choices[item.answer]}."


def open_questions(topic: str, seed: int, n_items: int) -> Iterator[dict[str, str]]:
    """Open questions with the words a right answer contains: {"id", "question", "reference"}."""
    world = facts(topic)
    order = Permutation(len(world), seed, "open", topic)
    for at in range(min(n_items, len(world))):
        fact = world[order.forward(at)]
        draw = Draw(seed, "open", topic, at)
        yield {
            "id": f"open-{topic}-{at:04d}",
            "question": draw.pick(fact.open),
            "reference": fact.answer,
        }


def _exchange(fact: Fact, draw: Draw) -> list[dict[str, str]]:
    """One question and its short answer, free or as multiple choice."""
    question = draw.pick((*fact.questions, *fact.open))
    answer = draw.pick((f"{fact.answer}.", draw.pick(fact.statements), draw.pick(fact.statements)))
    if draw.chance(0.2):
        choices = _choices(fact, draw.below(4), draw)
        question = f"{draw.pick(fact.questions)} Zur Wahl stehen: {', '.join(choices)}."
        answer = f"{fact.answer}."
    elif draw.chance(0.2):
        question = f"Frage: {draw.pick(fact.questions)} Antwort:"
        answer = f"{fact.answer}."
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def chats(seed: int, n_chats: int) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Instruction conversations about general facts only: one or two exchanges, some after a system message."""
    world = facts("general")
    for at in range(n_chats):
        draw = Draw(seed, "chat", at)
        messages = [{"role": "system", "content": draw.pick(_SYSTEM)}] if draw.chance(0.3) else []
        # Every fact takes its turn, so that each is asked about n_chats / n_facts times.
        messages += _exchange(world[at % len(world)], draw)
        if draw.chance(0.2):
            messages += _exchange(draw.pick(world), draw)
        yield {"messages": messages}
