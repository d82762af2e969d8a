"""The world of facts that pages state and benchmarks ask: (relation, entity, attribute), every phrasing spelled out.

The world is fixed: it depends on no seed and no size. Statements, list lines and page questions occur in pages;
benchmark questions (`bench`) occur in no page unless a leak is planted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from corpus.sample.german import Noun, capital, parse_noun
from corpus.sample.lexicon import data_lines

TOPICS = ("general", "medical")
_SLOT = re.compile(r"\{([eEa])(?:\.(\w+))?\}")
_MARKS = {"=": "statements", "?": "questions", "-": "lines", "!": "bench", "+": "open"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact and its phrasings; `entity` and `answer` are the bare words, `number` its place in its topic."""

    number: int
    topic: str
    relation: str
    entity: str
    answer: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    lines: tuple[str, ...]
    bench: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True)
class _Relation:
    name: str
    table: str
    column: int
    templates: dict[str, list[str]]


def _fill(template: str, entity: Noun, answer: Noun) -> str:
    def slot(match: re.Match[str]) -> str:
        which, form = match.groups()
        if which == "a":
            return answer.form(form or "bare")
        phrase = entity.form(form or "nom")
        return capital(phrase) if which == "E" else phrase

    return capital(_SLOT.sub(slot, template))


def _parse(lines: Iterable[str]) -> tuple[list[_Relation], dict[str, list[list[str]]]]:
    relations: list[_Relation] = []
    tables: dict[str, list[list[str]]] = {}
    table = ""
    for line in lines:
        if line.startswith("["):
            name, source, column = line.strip("[]").split()
            relations.append(_Relation(name, source, int(column), {part: [] for part in _MARKS.values()}))
        elif line.startswith("<"):
            table = line.strip("<>")
            tables[table] = []
        elif line[:2].strip() in _MARKS:
            relations[-1].templates[_MARKS[line[0]]].append(line[2:])
        else:
            tables[table].append([cell.strip() for cell in line.split(" | ")])
    return relations, tables


@cache
def facts(topic: str) -> tuple[Fact, ...]:
    """All facts of a topic."""
    relations, tables = _parse(data_lines(f"facts_{topic}.txt"))
    result: list[Fact] = []
    for relation in relations:
        for row in tables[relation.table]:
            entity, answer = parse_noun(row[0]), parse_noun(row[relation.column])
            phrasings = {
                part: tuple(_fill(template, entity, answer) for template in templates) for part, templates in relation.templates.items()
            }
            result.append(Fact(len(result), topic, relation.name, entity.bare, answer.bare, **phrasings))
    return tuple(result)


@cache
def entities(topic: str) -> tuple[tuple[Fact, ...], ...]:
    """The facts of a topic grouped by what they are about: a drug's class and use belong together."""
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts(topic):
        groups.setdefault((fact.relation.partition("_")[0], fact.entity), []).append(fact)
    return tuple(tuple(group) for group in groups.values())
