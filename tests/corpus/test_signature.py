"""Simplified text against datatrove's simplify_text; the signature stage's columns."""

import unicodedata
from itertools import pairwise

import pyarrow as pa
import pytest
from datatrove.utils.text import PUNCTUATION as DATATROVE_PUNCTUATION
from datatrove.utils.text import simplify_text
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.columns import text_buffers
from corpus.minhash import NEVER, hash_family, minima
from corpus.shingles import Grams
from corpus.signature import Signature
from corpus.simplify import PUNCTUATION, simplify
from store.schema import EXACT, band_name, signature_schema

SENTENCE = "Die 2 Patienten erhielten täglich 12,5 mg über 4 Wochen; danach wurde die Dosis auf 25 mg erhöht."


def simplified(texts: list[str]) -> list[str]:
    offsets, data = simplify(*text_buffers(pa.array(texts, pa.large_string())))
    return [bytes(data[a:b]).decode() for a, b in pairwise(offsets)]


def expected(text: str) -> str:
    """datatrove's answer, less the differences that corpus/simplify.py states."""
    return " ".join(simplify_text(text).replace("ς", "σ").split())


def known(code: int) -> bool:
    """Assigned in this Unicode version, and not a spacing mark that NFD would move."""
    char = chr(code)
    return unicodedata.category(char) not in ("Cn", "Cs") and not (unicodedata.category(char) == "Mc" and unicodedata.combining(char))


def test_punctuation_is_datatroves() -> None:
    assert set(PUNCTUATION) == set(DATATROVE_PUNCTUATION)


def test_every_code_point_is_simplified_as_by_datatrove() -> None:
    codes = [c for a, b in ((0, 0xD800), (0xE000, 0x20000), (0x2F800, 0x30000), (0xE0000, 0xE1000)) for c in range(a, b) if known(c)]
    # Han ideographs without a decomposition are alike: every fiftieth will do.
    codes = [c for c in codes if not 0x3400 <= c < 0xA000 or c % 50 == 0]
    texts = [f"ab{chr(c)}Cd 1{chr(c)}2 {chr(c)}" for c in codes]
    different = [hex(c) for c, found, text in zip(codes, simplified(texts), texts, strict=True) if found != expected(text)]
    assert not different


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8").filter(lambda c: known(ord(c)))), max_size=8))
def test_random_unicode_is_simplified_as_by_datatrove(texts: list[str]) -> None:
    assert simplified(texts) == [expected(t) for t in texts]


@settings(max_examples=300, deadline=None)
@given(st.text("0 1٣५.,،٫-ÄäÀß\u0301İΣσ aB\n"))
def test_numbers_accents_and_blanks_are_simplified_as_by_datatrove(text: str) -> None:
    assert simplified([text]) == [expected(text)]


def test_columns_are_those_of_the_signature_schema() -> None:
    stage = Signature(buckets=5, hashes_per_bucket=3)
    columns = apply(stage, [SENTENCE, "", "!?"])
    wanted = signature_schema(5)
    assert [pa.field(n, c.type) for n, c in columns.items()] == [pa.field(f.name, f.type) for f in wanted if f.name != "doc_key"]
    assert [f.name for f in stage.writes] == list(columns)
    assert columns["n_chars"].to_pylist() == [len(SENTENCE), 0, 2]


def test_exact_hash_ignores_case_numbers_punctuation_and_blanks_only() -> None:
    same = [SENTENCE, SENTENCE.upper().replace("ẞ", "SS"), SENTENCE.replace("12,5", "7").replace(";", " --\n ")]
    hashes = apply(Signature(), [*same, SENTENCE.replace("täglich", "wöchentlich")])
    hashes = list(zip(*(hashes[name].to_pylist() for name in EXACT), strict=True))
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


def test_a_text_without_words_has_the_hash_that_never_matches() -> None:
    columns = apply(Signature(), ["", " \n", "?!…", "a"])
    for name in (*EXACT, *map(band_name, range(14))):
        rows = columns[name].to_numpy()
        assert (rows[:3] == NEVER).all() and rows[3] != NEVER


def test_a_slice_of_a_batch_is_signed_as_the_whole() -> None:
    texts = [SENTENCE, "kurz", "", SENTENCE[::-1], "Ein anderer Text, der länger ist als fünf Wörter."]
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    whole, part = Signature().open({})(batch).columns, Signature().open({})(batch.slice(1, 3)).columns
    assert all(whole[n].slice(1, 3).equals(part[n]) for n in whole)


def test_another_seed_gives_other_bands_and_the_same_exact_hash() -> None:
    one, two = apply(Signature(seed=1), [SENTENCE]), apply(Signature(seed=2), [SENTENCE])
    assert all(one[name].equals(two[name]) for name in EXACT)
    assert not any(one[band_name(b)].equals(two[band_name(b)]) for b in range(14))


def test_minima_are_kept_if_asked_for_and_change_nothing_else() -> None:
    stage, texts = Signature(buckets=5, hashes_per_bucket=3, keep_minima=True), [SENTENCE, "", "!?"]
    columns, without = apply(stage, texts), apply(Signature(buckets=5, hashes_per_bucket=3), texts)
    assert [pa.field(n, c.type) for n, c in columns.items()] == [pa.field(f.name, f.type) for f in stage.writes]
    assert all(columns[n].equals(without[n]) for n in without) and set(columns) - set(without) == {"minima"}
    offsets, data = simplify(*text_buffers(pa.array(texts, pa.large_string())))
    assert columns["minima"].to_pylist() == minima(offsets, data, Grams(5), hash_family(15, 1)).tolist()
    assert columns["minima"].to_pylist()[1:] == [[2**32 - 1] * 15] * 2
    assert apply(stage, [])["minima"].type == pa.list_(pa.uint32(), 15)


def test_characters_find_what_words_do_not() -> None:
    """A language written without blanks: one word changed in a text that is, to words, one shingle."""
    texts = ["患者さんは毎日薬を飲みました" * 4, "患者さんは毎日薬を飲みました" * 3 + "患者さんは毎日茶を飲みました"]
    words, chars = apply(Signature(), texts), apply(Signature(unit="char", ngram=3), texts)
    shared = [sum(c[band_name(b)][0] == c[band_name(b)][1] for b in range(14)) for c in (words, chars)]
    assert shared[0] == 0 < shared[1]


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ValidationError):
        Signature(bands=14)


def apply(stage: Signature, texts: list[str]) -> dict[str, pa.Array]:
    return dict(stage.open({})(pa.record_batch({"text": pa.array(texts, pa.large_string())})).columns)
