"""German pages: seven page types that weave statements of facts into filler sentences of one or two fields.

A page is a pure function of its draw and the facts it is given. Its type is a key of PAGE_TYPES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corpus.sample.draw import Draw
from corpus.sample.facts import Fact
from corpus.sample.german import capital
from corpus.sample.lexicon import Field, Words, fields, words


@dataclass(slots=True)
class Scribe:
    """What the page types write with: draws, a field, and sentences that a page does not say twice."""

    draw: Draw
    topic: str
    field: Field
    other: Field
    lists: Words
    spent: set[str]

    def word(self, slot: str) -> str:
        """One entry of a slot of the page's field."""
        return self.draw.pick(self.field.slots[slot])

    def filler(self) -> str:
        """A sentence without a fact."""
        field = self.field if self.draw.chance(0.75) else self.other
        return self.draw.pick(field.frames).render(self.draw.unit)

    def fillers(self, low: int, high: int) -> str:
        """Some sentences without a fact."""
        return " ".join(self.filler() for _ in range(self.draw.between(low, high)))

    def _fresh(self, phrasings: Sequence[str]) -> str:
        """A phrasing that the page has not used yet, if one is found in three draws."""
        text = self.draw.pick(phrasings)
        for _ in range(2):
            if text not in self.spent:
                break
            text = self.draw.pick(phrasings)
        self.spent.add(text)
        return text

    def state(self, fact: Fact) -> str:
        """A sentence that states the fact, sometimes after a lead-in."""
        text = self._fresh(fact.statements)
        return f"{self.draw.pick(self.lists['merke'])} {text}" if self.draw.chance(0.15) else text

    def line(self, fact: Fact) -> str:
        """A list line with the fact."""
        return self._fresh(fact.lines)

    def ask(self, fact: Fact) -> str:
        """Question, in a wording new to the page if there is one, and answer: mostly the attribute alone or first."""
        wording = self.draw.below(len(fact.questions))
        for _ in fact.questions:
            if f"{fact.relation}/{wording}" not in self.spent:
                break
            wording = (wording + 1) % len(fact.questions)
        self.spent.add(f"{fact.relation}/{wording}")
        # Half of the short answers go on: a page of bare ones has more punctuation than the quality rules let pass.
        short = f"{fact.answer}." if self.draw.chance(0.5) else f"{fact.answer} {self.draw.pick(self.lists['richtig'])}."
        answer = short if self.draw.chance(0.85) else self.draw.pick(fact.statements)
        return f"Frage: {fact.questions[wording]} Antwort: {answer}"

    def date(self) -> str:
        """A day such as 3. Mai 1998."""
        return f"{self.draw.pick(self.lists['d'])}. {self.draw.pick(self.lists['monat'])} {self.word('jahr')}"


def _mixed(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    """Statements of the facts in order with the filler sentences spread between them."""
    sentences, left = [], n_filler
    for done, fact in enumerate(facts):
        while left and scribe.draw.chance(left / (left + len(facts) - done)):
            sentences.append(scribe.filler())
            left -= 1
        sentences.append(scribe.state(fact))
    return sentences + [scribe.filler() for _ in range(left)]


def _paragraphs(scribe: Scribe, sentences: Sequence[str], low: int = 2, high: int = 6) -> list[str]:
    result, at = [], 0
    while at < len(sentences):
        step = scribe.draw.between(low, high)
        result.append(" ".join(sentences[at : at + step]))
        at += step
    return result


def _article(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    name, on = facts[0].entity, capital(scribe.word("on"))
    title = scribe.draw.pick((f"{name}: ein Überblick", name, f"{on} und mehr", f"Wissen: {name}", f"{on} und: {name}"))
    return [title, *_paragraphs(scribe, _mixed(scribe, facts, n_filler), 3, 7)]


def _faq(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    draw, share = scribe.draw, n_filler / len(facts)
    result = [draw.pick((f"Häufige Fragen: {scribe.field.name}", "Sie fragen, wir antworten.", scribe.filler()))]
    for at in range(0, len(facts), 2):
        rest = [scribe.state(fact) for fact in facts[at + 1 : at + 2]]
        n = int(2 * share + draw.unit())
        result.append(" ".join([scribe.ask(facts[at]), *rest, *(scribe.filler() for _ in range(n))]))
    return result


def _news(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    body = _paragraphs(scribe, _mixed(scribe, facts, n_filler), 2, 5)
    body[0] = f"{scribe.word('stadt')}, {scribe.date()}. {scribe.filler()} {body[0]}"
    return [scribe.filler().rstrip("."), *body]


def _advice(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    draw, name = scribe.draw, scribe.word("name")
    question = f"{name} aus {scribe.word('stadt')} fragt: {draw.pick(facts[0].questions)} {scribe.fillers(1, 2)}"
    head = draw.pick((f"Antwort von {scribe.word('name')}:", "Unser Rat dazu:", "Die Redaktion antwortet:"))
    body = _paragraphs(scribe, _mixed(scribe, facts, n_filler))
    return [f"Ratgeber {scribe.field.name}", question, f"{head} {body[0]}", *body[1:]]


def _forum(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    draw, result = scribe.draw, []
    for post in _paragraphs(scribe, _mixed(scribe, facts, n_filler), 2, 5):
        od, name = scribe.word("od"), scribe.word("vorname")
        opening = draw.pick(
            (
                f"Hat jemand Erfahrung mit {od}?",
                f"Hallo zusammen, ich habe {scribe.word('tp')} {scribe.word('o')} {scribe.word('ptc')}.",
                f"Danke, {name}!",
                f"Da bin ich anderer Meinung als {name}.",
                f"Zu {od} kann ich etwas sagen.",
            )
        )
        result.append(f"Beitrag von {scribe.word('name')} am {scribe.date()}. {opening} {post}")
    return result


def _course(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    draw = scribe.draw
    result = [f"Kursprogramm {scribe.field.name} in {scribe.word('stadt')}", scribe.fillers(1, 2)]
    for number, sentences in enumerate(_paragraphs(scribe, _mixed(scribe, facts, n_filler), 1, 4)):
        when = f"am {draw.pick(scribe.lists['tag'])} um {draw.between(8, 20)} Uhr mit {scribe.word('name')}"
        result.append(f"Termin {number + 1} {when}. {sentences}")
    return result


def _profile(scribe: Scribe, facts: Sequence[Fact], n_filler: int) -> list[str]:
    half = min(5, (len(facts) + 1) // 2)
    title = f"{scribe.draw.pick(('Steckbrief', 'Übersicht', 'Merkblatt', 'Lernkarten'))}: {facts[0].entity}"
    listed = [f"- {scribe.line(fact)}" for fact in facts[:half]]
    result = [title, scribe.fillers(1, 2), *listed]
    return result + _paragraphs(scribe, _mixed(scribe, facts[half:] or facts[:1], n_filler), 3, 6)


PAGE_TYPES: dict[str, Callable[[Scribe, Sequence[Fact], int], list[str]]] = {
    "article": _article,
    "faq": _faq,
    "news": _news,
    "advice": _advice,
    "forum": _forum,
    "course": _course,
    "profile": _profile,
}
_TURN = ("article", "faq", "news", "faq", "advice", "faq", "profile", "forum", "faq", "course")


def german_page(draw: Draw, topic: str, facts: Sequence[Fact], n_filler: int) -> tuple[str, list[str]]:
    """Page type and paragraphs of a German page that states each of the facts at least once (repeats allowed)."""
    page_type = draw.pick(_TURN)
    scribe = Scribe(draw, topic, draw.pick(fields(topic)), draw.pick(fields(topic)), words(), set())
    return page_type, PAGE_TYPES[page_type](scribe, facts, n_filler)
