"""The words of the German filler sentences: word lists, fields (garden, clinic) and sentence frames from data files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from corpus.sample.german import Noun, parse_noun
from corpus.sample.grammar import Template, compile_template

_SUBJECT_ADJECTIVES = ("erfahren", "neu", "engagiert", "zuständig", "örtlich", "bekannt", "freundlich", "befragt")

Words = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Field:
    """A subject area: its name, its slots and the sentence frames filled from them."""

    name: str
    slots: Words
    frames: tuple[Template, ...]


def data_lines(name: str) -> list[str]:
    """The lines of a data file, without comments and empty lines."""
    text = resources.files("corpus.sample.data").joinpath(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _entries(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(","))


@cache
def words() -> Words:
    """Lists shared by all fields, with names, numbers and years."""
    lists = {}
    for line in data_lines("words.txt"):
        name, _, rest = line.partition(":")
        lists[name] = _entries(rest)
    lists["name"] = tuple(f"{first} {last}" for first in lists["vorname"] for last in lists["nachname"])
    lists["n"] = tuple(str(n) for n in range(3, 98))
    lists["jahr"] = tuple(str(year) for year in range(1951, 2024))
    lists["d"] = tuple(str(day) for day in range(1, 29))
    return lists


def _subject(nouns: list[Noun], case: str) -> tuple[str, ...]:
    plain = [noun.definite(case) for noun in nouns]
    return (*plain, *plain, *(noun.definite(case, adjective) for noun in nouns for adjective in _SUBJECT_ADJECTIVES))


def _object(nouns: list[Noun], adjectives: tuple[str, ...], case: str) -> tuple[str, ...]:
    forms: list[str] = []
    for noun in nouns:
        forms += [noun.definite(case), noun.indefinite(case)] * (len(adjectives) // 3)
        for adjective in adjectives:
            forms += [noun.definite(case, adjective), noun.indefinite(case, adjective)]
    return tuple(forms)


def _field(name: str, lists: dict[str, str], frames: list[str]) -> Field:
    subjects = [parse_noun(spec) for spec in _entries(lists["S"])]
    objects = [parse_noun(spec) for spec in _entries(lists["O"])]
    adjectives = _entries(lists["A"])
    verbs = [verb.split("/") for verb in _entries(lists["V"])]
    slots = dict(words())
    slots |= {
        "s": _subject(subjects, "nom"),
        "sd": _subject(subjects, "dat"),
        "o": _object(objects, adjectives, "acc"),
        "on": _object(objects, adjectives, "nom"),
        "od": _object(objects, adjectives, "dat"),
        "p": _entries(lists["P"]),
    }
    for at, slot in enumerate(("v", "vp", "inf", "ptc")):
        slots[slot] = tuple(forms[at] for forms in verbs)
    return Field(name, slots, tuple(compile_template(frame, slots) for frame in frames))


@cache
def fields(topic: str) -> tuple[Field, ...]:
    """The fields of a topic ("general" or "medical")."""
    frames = data_lines("frames.txt")
    tables: dict[str, dict[str, str]] = {}
    name = ""
    for line in data_lines(f"fields_{topic}.txt"):
        if line.startswith("["):
            name = line.strip("[]")
            tables[name] = {}
        else:
            key, _, rest = line.partition(":")
            tables[name][key] = rest
    return tuple(_field(name, lists, frames) for name, lists in tables.items())
