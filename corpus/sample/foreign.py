"""Pages in ten other languages, from phrase lists in data/foreign.txt: enough words for language identification."""

from __future__ import annotations

from functools import cache

from corpus.sample.draw import Draw
from corpus.sample.german import capital
from corpus.sample.grammar import Template, compile_template
from corpus.sample.lexicon import data_lines

_SLOTS = {"S": "s", "V": "v", "O": "o", "T": "t", "P": "p"}


def _frame(text: str, lists: dict[str, tuple[str, ...]]) -> Template:
    """Compile a frame such as "T, S V O.": single capital letters are slots, the first word gets a capital letter."""
    words = []
    for at, word in enumerate(text.split(" ")):
        letter = word.rstrip(",.")
        slot = _SLOTS.get(letter, "")
        slot = slot.upper() if slot and at == 0 else slot
        words.append(word.replace(letter, f"{{{slot}}}", 1) if slot else word)
    return compile_template(" ".join(words), lists)


@cache
def languages() -> dict[str, tuple[Template, ...]]:
    """Sentence templates by ISO 639-3 code; whole sentences are templates without slots."""
    tables: dict[str, dict[str, str]] = {}
    code = ""
    for line in data_lines("foreign.txt"):
        if line.startswith("["):
            code = line.strip("[]")
            tables[code] = {}
        else:
            key, _, rest = line.partition(": ")
            tables[code][key] = rest
    result = {}
    for code, table in tables.items():
        lists = {slot: tuple(part.strip() for part in table[letter].split(",")) for letter, slot in _SLOTS.items()}
        frames = [_frame(frame.strip(), lists) for frame in table["F"].split("|")]
        result[code] = (*frames * 4, *(Template(text.strip(), ()) for text in table["X"].split("|")))
    return result


def foreign_page(draw: Draw, ordinal: int) -> tuple[str, str]:
    """Language code and text of the foreign page with this ordinal; languages take turns."""
    codes = tuple(languages())
    code = codes[ordinal % len(codes)]
    templates = languages()[code]
    spent: set[str] = set()
    paragraphs: list[list[str]] = [[]]
    for _ in range(draw.between(8, 26)):
        sentence = draw.pick(templates).render(draw.unit)
        if sentence in spent:
            continue
        spent.add(sentence)
        paragraphs[-1].append(capital(sentence))
        if draw.chance(0.25):
            paragraphs.append([])
    return code, "\n".join(" ".join(sentences) for sentences in paragraphs if sentences)
