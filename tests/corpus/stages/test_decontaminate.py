"""Decontamination against sets of n-grams in plain Python."""

import json
import re
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.stage import KEEP, Outcome
from corpus.stages.decontaminate import MIN_WORDS, Decontaminate
from store.errors import InputError

QUESTION = "Welches Antibiotikum ist bei einer unkomplizierten Harnwegsinfektion der erwachsenen Frau das Mittel der ersten Wahl?"
FILLER = "Der Garten liegt hinter dem Haus und wird im Sommer gern besucht. "


def write(path: Path, items: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n")
    return str(path)


def apply(texts: list[str], *benchmarks: str, n: int = 13) -> Outcome:
    stage = Decontaminate(benchmarks=benchmarks, n=n)
    return stage.open({})(pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"]))


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def reference(texts: list[str], items: list[tuple[str, list[str]]], n: int) -> list[int]:
    """Overlapping n-grams of each page."""
    wanted: set[tuple[str, ...]] = set()
    for question, choices in items:
        parts = [words(question), *map(words, choices)]
        text = list(chain(*parts))
        if len(text) >= n:
            wanted |= {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
            continue
        heads = [list(chain(*parts[:k])) for k in range(1, len(parts) + 1)]
        wanted |= {
            tuple(head) for head in heads if len(head) >= MIN_WORDS and len(head) == min(len(h) for h in heads if len(h) >= MIN_WORDS)
        }
    sizes = {len(run) for run in wanted}
    return [sum(tuple(w[i : i + k]) in wanted for k in sizes for i in range(len(w) - k + 1)) for w in map(words, texts)]


WORDS = st.lists(st.sampled_from(["a", "B", "ä", "Öl", "3", "漢", "x-y", "."]), max_size=30).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=5), st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), min_size=1, max_size=4), st.integers(6, 9))
def test_overlaps_are_the_references(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], items: list[tuple[str, list[str]]], n: int
) -> None:
    file = write(tmp_path_factory.mktemp("bench") / "b.jsonl", [{"question": q, "choices": c} for q, c in items])
    outcome = apply(texts, file, n=n)
    expected = reference(texts, items, n)
    assert (outcome.verdict == 0).tolist() == [hits > 0 for hits in expected]
    assert [0 if v != v else int(v) for v in outcome.value.tolist()] == expected


def test_case_punctuation_and_line_ends_do_not_hide_an_item(tmp_path: Path) -> None:
    medical = write(tmp_path / "medical.jsonl", [{"question": QUESTION, "choices": ["Fosfomycin", "Ciprofloxacin"]}])
    general = write(tmp_path / "general.jsonl", [{"problem_text": "Wie hoch ist der höchste Berg?", "choices": ["8848 m"]}])
    changed = QUESTION.upper().replace(" ", ",\n")
    part = " ".join(QUESTION.split()[:12])
    texts = [
        FILLER + changed + FILLER,
        FILLER + part + " ja",
        FILLER,
        "wie hoch ist der höchste berg",
        "",
        QUESTION + " Wie hoch ist der höchste Berg?",
    ]
    outcome = apply(texts, medical, general)
    assert outcome.verdict.tolist() == [0, KEEP, KEEP, 0, KEEP, 0]
    assert outcome.counts == {"overlap/medical": 2, "overlap/general": 2}


def test_short_items_take_choices_until_they_can_be_told_from_chance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [
        {"question": "Zu welcher Gruppe gehört Meropenem?", "choices": ["Carbapenem", "Penicillin"]},
        {"question": "Ja?", "choices": []},
    ]
    file = write(tmp_path / "b.jsonl", items)
    outcome = apply(["Zu welcher Gruppe gehört Meropenem? A) Nein", "Zu welcher Gruppe gehört Meropenem? Carbapenem.", "Ja?"], file)
    assert outcome.verdict.tolist() == [KEEP, 0, KEEP]
    assert "1 items of benchmark 1 have fewer than 6 words" in caplog.text


@pytest.mark.parametrize("line", ["not json", "[1]", '{"answer": 1}', '{"question": "x", "choices": "y"}'])
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "b.jsonl").write_text('{"question": "x"}\n' + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        apply(["x"], str(tmp_path / "b.jsonl"))


def test_an_empty_or_absent_benchmark_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("\n")
    for name in ("b.jsonl", "absent.jsonl"):
        with pytest.raises(InputError, match=name):
            apply(["x"], str(tmp_path / name))
