"""Templates with slots, compiled to one %-format and one list of choices per slot, so a sentence costs microseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corpus.sample.german import capital

_SLOT = re.compile(r"\{([A-Za-z]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with choices: `pattern % (one of choices[0], one of choices[1], ...)`."""

    pattern: str
    choices: tuple[Sequence[str], ...]

    def render(self, unit: Callable[[], float]) -> str:
        """Fill every slot by an independent draw."""
        return self.pattern % tuple([items[int(unit() * len(items))] for items in self.choices])


def compile_template(text: str, slots: Mapping[str, Sequence[str]]) -> Template:
    """Compile `{slot}` references; `{Slot}` asks for the entries with a capital first letter."""
    choices: list[Sequence[str]] = []
    for name in _SLOT.findall(text):
        items = slots[name[0].lower() + name[1:]]
        choices.append(tuple(map(capital, items)) if name[0].isupper() else tuple(items))
    return Template(_SLOT.sub("%s", text.replace("%", "%%")), tuple(choices))
