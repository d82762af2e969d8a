"""The quality stages against datatrove's filters: the same formulas on the same words, and the same decisions with its own words."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.stage import KEEP, Outcome, Stage
from corpus.stages.quality import FineWebQuality, GopherQuality, GopherRepetition
from corpus.stages.words import words_of

DATA = Path(os.environ.get("DEFINEMED_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))
STOP_WORDS = ("der", "die", "und", "in", "den", "von", "zu", "das", "mit", "sich", "des", "auf", "für", "ist", "im")

PIECES = st.sampled_from(
    ["a", "b.", "der", "die", "und", "Satz.", "ü", "…", "...", "#", "- ", "• ", "\n", "\n\n", " ", " ", " ", "x1", "漢", "\u2028", "!"]
)
PAGES = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=80).map("".join)


def our_words(text: str, language: str) -> list[str]:
    """Our split, in the place of datatrove's."""
    out, at = [], 0
    for n_chars in words_of(pa.array([text], pa.large_string())).n_chars.tolist():
        while text[at].isspace():
            at += 1
        out.append(text[at : at + n_chars])
        at += n_chars
    return out


def judge(stage: Stage, texts: list[str]) -> Outcome:
    return stage.open({})(pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"]))


def reason(stage: Stage, text: str) -> str | None:
    verdict = judge(stage, ["Davor.", text, ""]).verdict[1]
    return None if verdict == KEEP else stage.reasons[verdict]


def datatroves(judge_one: Callable[[Document], bool | tuple[bool, str]], text: str) -> str | None:
    answer = judge_one(Document(text=text, id="x"))
    return None if answer is True else answer[1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=200, deadline=None)
@given(PAGES, st.sampled_from([0.05, 0.3, 0.9]))
def test_formulas_are_datatroves(text: str, level: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter):
            patch.setattr(module, "split_into_words", our_words)
        check_one(text, level)


def check_one(text: str, level: float) -> None:
    scaled = {
        "dup_line_frac": level,
        "dup_para_frac": level,
        "dup_line_char_frac": level,
        "dup_para_char_frac": level,
        "top_n_grams": ((2, level), (3, level), (4, level)),
        "dup_n_grams": ((5, level), (7, level / 2), (10, level / 4)),
    }
    assert reason(GopherRepetition(**scaled), text) == datatroves(GopherRepetitionFilter(**scaled).filter, text)
    lines = {"line_punct_thr": level / 2, "short_line_thr": 1 - level / 2, "short_line_length": 5, "char_duplicates_ratio": level}
    assert reason(FineWebQuality(**lines), text) == datatroves(FineWebQualityFilter(**lines).filter, text)
    if not text:  # datatrove divides by zero
        return
    words = {"min_doc_words": 3, "min_avg_word_length": 1.5, "max_symbol_word_ratio": level, "max_bullet_lines_ratio": level}
    theirs = GopherQualityFilter(**words, max_ellipsis_lines_ratio=level, stop_words=list(STOP_WORDS))
    assert reason(GopherQuality(**words, max_ellipsis_lines_ratio=level, stop_words=STOP_WORDS), text) == datatroves(
        theirs.filter, text
    )


def test_none_is_off_and_zero_is_zero() -> None:
    page = "Zeile.\nZeile.\nNoch eine.\n" * 3
    everything = dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"))
    assert reason(GopherRepetition(**everything, top_n_grams=(), dup_n_grams=()), page) is None
    strict = GopherRepetition(**{**everything, "dup_line_frac": 0.0}, top_n_grams=(), dup_n_grams=())
    assert reason(strict, page) == "dup_line_frac"
    assert reason(strict, "Alles.\nist.\nanders.") is None


def test_value_is_the_number_that_failed() -> None:
    outcome = judge(GopherQuality(), ["zwei Worte", "wort " * 60])
    assert outcome.verdict.tolist() == [0, GopherQuality.reasons.index("gopher_enough_stop_words")]
    assert outcome.value.tolist() == [2.0, 0.0]
    outcome = judge(FineWebQuality(), ["Ein Satz.\n" * 4])
    assert (outcome.verdict[0], outcome.value[0]) == (FineWebQuality.reasons.index("short_line_ratio"), 1.0)
    outcome = judge(FineWebQuality(short_line_thr=None), ["Ein Satz.\n" * 4])
    assert (outcome.verdict[0], outcome.value[0]) == (FineWebQuality.reasons.index("char_dup_ratio"), 3 * 9 / (4 * 9))


def test_a_batch_of_long_and_empty_pages() -> None:
    long = "Ein Wort und noch eines. " * 40_000
    for stage in (GopherRepetition(), FineWebQuality(), GopherQuality()):
        assert judge(stage, [long, "", "a"]).verdict[2] == judge(stage, ["a"]).verdict[0]
        assert len(judge(stage, []).verdict) == 0


@pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="datatrove's German word split needs spaCy")
@pytest.mark.skipif(not (DATA / "web").is_dir(), reason="no real pages on this machine")
@pytest.mark.parametrize(
    ("stage", "theirs"),
    [
        (GopherRepetition(), GopherRepetitionFilter(language="deu")),
        (FineWebQuality(), FineWebQualityFilter(language="deu")),
        (GopherQuality(stop_words=STOP_WORDS), GopherQualityFilter(language="deu", stop_words=list(STOP_WORDS))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_decisions_on_real_german_pages_are_datatroves(stage: Stage, theirs: GopherQualityFilter) -> None:
    pages = pq.read_table(DATA / "web" / "00000.parquet", columns=["text", "id"])
    truth = pq.read_table(DATA / "truth" / "web.parquet", columns=["id", "lang"])
    german = set(truth.filter(pa.compute.equal(truth["lang"], "deu"))["id"].to_pylist())
    texts = [text for text, name in zip(*pages.to_pydict().values(), strict=True) if name in german][::20]
    verdict = judge(stage, texts).verdict
    same = sum((v == KEEP) == (theirs.filter(Document(text=t, id="x")) is True) for v, t in zip(verdict, texts, strict=True))
    assert same / len(texts) >= 0.99
