"""Page `i` with its truth, as a pure function of (params, i), whatever the file, the order or the process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

from corpus.sample.draw import Draw, Permutation
from corpus.sample.edits import edit
from corpus.sample.facts import Fact, entities, facts
from corpus.sample.foreign import foreign_page
from corpus.sample.junk import footer_line, junk_page, menu_line
from corpus.sample.layout import layout
from corpus.sample.pages import german_page
from corpus.sample.params import SampleParams
from corpus.sample.personal import plant, plant_lookalike
from corpus.sample.quiz import items, quote

_FOCUS = 4  # entities a page is about; with the sizes of the worlds each fact gets dozens of mentions in 6,000 pages


@dataclass(frozen=True, slots=True)
class Document:
    """A page and what is known about it; `facts` are numbers of facts of its topic, in order of mention."""

    id: str
    text: str
    page_type: str
    language: str
    topic: str
    dup_group: str
    dup_kind: str = "none"
    edit_rate: float = 0.0
    junk: str = ""
    leaked: str = ""
    pii: tuple[tuple[str, str], ...] = ()
    lookalikes: tuple[tuple[str, str], ...] = ()
    facts: tuple[int, ...] = ()


def document_id(params: SampleParams, index: int) -> str:
    """The page's identifier, in the form of Common Crawl's record identifiers."""
    digest = hashlib.blake2b(f"{params.seed}/{params.n_docs}/{index}".encode(), digest_size=16).hexdigest()
    return f"<urn:uuid:{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}>"


@lru_cache(maxsize=64)
def _round(seed: int, topic: str, number: int) -> Permutation:
    return Permutation(len(entities(topic)), seed, "facts", topic, number)


def _page_facts(params: SampleParams, topic: str, ordinal: int, n_mentions: int, draw: Draw) -> list[Fact]:
    """Facts of the page in order of mention: its focus entities take turns over the corpus, the rest is drawn."""
    groups = entities(topic)
    chosen: list[Fact] = []
    for at in range(ordinal * _FOCUS, (ordinal + 1) * _FOCUS):
        turn, place = divmod(at, len(groups))
        chosen += groups[_round(params.seed, topic, turn).forward(place)]
    first = [fact for fact in chosen if fact.entity == chosen[0].entity]
    while len(chosen) < n_mentions:
        chosen.append(draw.pick(first) if draw.chance(0.2) else draw.pick(facts(topic)))
    return draw.shuffled(chosen) if draw.chance(0.5) else chosen


def _insert(paragraphs: list[str], sentence: str, draw: Draw) -> None:
    """Append the sentence to a paragraph other than the title."""
    at = draw.between(min(1, len(paragraphs) - 1), len(paragraphs) - 1)
    end = "" if paragraphs[at].endswith((".", "!", "?", "“", ":")) else "."
    paragraphs[at] += f"{end} {sentence}"


def _german(params: SampleParams, index: int, topic: str, ordinal: int, leak: str = "") -> Document:
    draw = Draw(params.seed, params.n_docs, index)
    n_mentions = 13 + int(26 * draw.unit() * draw.unit())
    chosen = _page_facts(params, topic, ordinal, n_mentions, draw)
    n_filler = 3 + int(13 * draw.unit() * draw.unit())
    page_type, paragraphs = german_page(draw, topic, chosen, n_filler)
    pii: list[tuple[str, str]] = []
    lookalikes: list[tuple[str, str]] = []
    if draw.chance(params.pii_share):
        for _ in range(1 + draw.below(2)):
            kind, value, sentence = plant(draw)
            pii.append((kind, value))
            _insert(paragraphs, sentence, draw)
    if draw.chance(params.lookalike_share):
        kind, value, sentence = plant_lookalike(draw)
        lookalikes.append((kind, value))
        _insert(paragraphs, sentence, draw)
    if leak:
        _insert(paragraphs, leak, draw)
    if draw.chance(params.boilerplate_share):
        if draw.chance(0.6):
            paragraphs.insert(0, menu_line(draw))
        if draw.chance(0.6):
            paragraphs.append(footer_line(draw))
    identity = document_id(params, index)
    return Document(
        id=identity,
        text="\n".join(paragraphs),
        page_type=page_type,
        language="deu",
        topic=topic,
        dup_group=identity,
        pii=tuple(pii),
        lookalikes=tuple(lookalikes),
        facts=tuple(fact.number for fact in chosen),
    )


def _leaking(params: SampleParams, index: int, topic: str, ordinal: int) -> Document:
    quiz = items(topic, params.seed, params.n_bench_items)
    item = quiz[ordinal % len(quiz)]
    # Ordinals of leaking pages follow those of the other pages of the topic, so the facts' turns go on.
    page = _german(params, index, topic, layout(params).counts[topic] + ordinal, leak=quote(item))
    return replace(page, leaked=item.id)


def _copy(params: SampleParams, index: int, kind: str, ordinal: int) -> Document:
    source = layout(params).original(kind, ordinal)
    original = build_document(params, source)
    page = replace(original, id=document_id(params, index), dup_kind=kind)
    if kind == "exact":
        return page
    rate = params.edit_rates[ordinal % len(params.edit_rates)]
    keep = [value for _, value in (*original.pii, *original.lookalikes)]
    return replace(page, text=edit(original.text, rate, Draw(params.seed, "edit", index), keep), edit_rate=rate)


def build_document(params: SampleParams, index: int) -> Document:
    """Page `index` of the sample with its truth."""
    kind, ordinal = layout(params).kind(index)
    if kind in ("exact", "near"):
        return _copy(params, index, kind, ordinal)
    if kind in ("leak_general", "leak_medical"):
        return _leaking(params, index, kind.removeprefix("leak_"), ordinal)
    if kind in ("general", "medical"):
        return _german(params, index, kind, ordinal)
    draw, identity = Draw(params.seed, params.n_docs, index), document_id(params, index)
    if kind == "foreign":
        language, text = foreign_page(draw, ordinal)
        return Document(identity, text, "foreign", language, "none", identity)
    junk, language, text = junk_page(draw, ordinal)
    return Document(identity, text, "junk", language, "none", identity, junk=junk)
