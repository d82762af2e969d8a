"""Composition and variety of the pages, against the parameters and against FineWeb2's German quality rules."""

import random
import re
from collections import Counter, defaultdict

import pytest

from corpus.sample.document import Document
from corpus.sample.foreign import languages
from corpus.sample.german import parse_noun
from corpus.sample.junk import KINDS
from corpus.sample.layout import Layout
from corpus.sample.params import SampleParams

STOP_WORDS = {"der", "die", "und", "in", "von", "im", "den", "des", "mit", "das", "er", "dem", "als", "wurde", "für"}


def word_5_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return set(zip(*(words[at:] for at in range(5)), strict=False))


def test_shares_of_kinds_are_exact(params: SampleParams, pages: list[Document]) -> None:
    n = params.n_docs
    kinds = Counter("junk" if page.junk else page.dup_kind if page.dup_kind != "none" else page.topic for page in pages)
    assert kinds["junk"] == round(params.junk_share * n)
    assert kinds["exact"] == round(params.exact_share * n)
    assert kinds["near"] == round(params.near_share * n)
    assert kinds["none"] == round(params.foreign_share * n)
    assert abs(kinds["medical"] - params.medical_share * n) <= params.leak_share * n
    assert abs(kinds["general"] - 0.42 * n) <= params.leak_share * n
    assert sum(bool(page.leaked) and page.dup_kind == "none" for page in pages) == round(params.leak_share * n) == 12


def test_ids_are_unique_and_look_like_record_ids(pages: list[Document]) -> None:
    assert len({page.id for page in pages}) == len(pages)
    assert all(re.fullmatch(r"<urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}>", page.id) for page in pages)


def test_languages_and_junk_kinds_are_spread(pages: list[Document]) -> None:
    assert Counter(page.language for page in pages if page.page_type == "foreign") == dict.fromkeys(languages(), 60)
    assert Counter(page.junk for page in pages if page.junk) == dict.fromkeys(KINDS, 60)
    assert all(len(page.text.split()) >= 40 for page in pages if page.page_type == "foreign")


def test_german_pages_have_80_to_650_words(pages: list[Document]) -> None:
    lengths = [len(page.text.split()) for page in pages if page.topic != "none"]
    assert min(lengths) >= 80
    assert max(lengths) <= 700
    assert 180 <= sum(lengths) / len(lengths) <= 300


def test_independent_pages_share_few_word_5_grams(pages: list[Document]) -> None:
    groups: dict[tuple[str, str], list[set[tuple[str, ...]]]] = defaultdict(list)
    for page in pages:
        if page.dup_kind == "none" and not page.junk:
            groups[page.topic + page.language, page.page_type].append(word_5_grams(page.text))
    assert len(groups) == 24  # seven types of two topics, ten languages
    draw = random.Random(1)
    for grams in groups.values():
        pairs = [draw.sample(grams, 2) for _ in range(2000 if len(grams) > 100 else 200)]
        overlaps = [len(a & b) / len(a | b) for a, b in pairs]
        assert sum(overlaps) / len(overlaps) < 0.05
        assert max(overlaps) < 0.4


def test_fewer_than_one_unique_page_in_a_hundred_repeats_a_text(pages: list[Document]) -> None:
    texts = Counter(page.text for page in pages if page.dup_kind == "none" and page.junk != "short")
    assert max(texts.values()) == 1


def repeated_share(tokens: list[str], n: int) -> float:
    """Characters in repeated n-grams over all characters, as in Gopher's rule (datatrove's find_all_duplicate)."""
    seen: set[str] = set()
    repeated, at = 0, 0
    while at < len(tokens) - n + 1:
        gram = "".join(tokens[at : at + n])
        if gram in seen:
            repeated += len(gram)
            at += n
        else:
            seen.add(gram)
            at += 1
    return repeated / max(1, sum(map(len, tokens)))


def passes_quality_rules(text: str) -> bool:
    """FineWeb2's German thresholds that a page could plausibly break; punctuation marks count as words, as in spaCy."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    lines = text.split("\n")
    bounds = ((5, 0.141), (6, 0.134), (7, 0.126), (8, 0.117), (9, 0.108), (10, 0.098))
    return (
        len(tokens) >= 50
        and sum(any(map(str.isalpha, token)) for token in tokens) / len(tokens) >= 0.774
        and len(STOP_WORDS & set(tokens)) >= 2
        and text.count("\n") / len(tokens) <= 0.152
        and 1 - len(set(lines)) / len(lines) <= 0.263
        and all(repeated_share(tokens, n) <= bound for n, bound in bounds)
    )


def test_german_pages_mostly_pass_quality_rules_and_junk_does_not(pages: list[Document]) -> None:
    for topic in ("general", "medical"):
        sample = [page for page in pages if page.topic == topic][:600]
        assert sum(passes_quality_rules(page.text) for page in sample) / len(sample) >= 0.9
    junk = [page for page in pages if page.junk]
    assert sum(passes_quality_rules(page.text) for page in junk) / len(junk) <= 0.1


@pytest.mark.parametrize(("n_docs", "seed"), [(1, 1), (2, 9), (7, 3), (100, 1), (1001, 5)])
def test_layout_places_every_page_once(n_docs: int, seed: int) -> None:
    plan = Layout(SampleParams(n_docs=n_docs, seed=seed))
    places = [plan.kind(index) for index in range(n_docs)]
    assert len(set(places)) == n_docs == sum(plan.counts.values())
    assert [plan.index(kind, ordinal) for kind, ordinal in places] == list(range(n_docs))


def test_noun_phrases_inflect() -> None:
    assert parse_noun("Garten:m").definite("acc", "alt") == "den alten Garten"
    assert parse_noun("Hecke:f").indefinite("dat", "alt") == "einer alten Hecke"
    assert parse_noun("Beet:n").indefinite("nom", "groß") == "ein großes Beet"
    assert parse_noun("Herz:n:Herzens:Herzen").form("dat") == "dem Herzen"
    assert parse_noun("Schweiz:f").form("von") == "der Schweiz"
    assert parse_noun("Paris").form("von") == "von Paris"
