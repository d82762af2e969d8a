"""Benchmark files of every format give the same items; what cannot be read is named."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from corpus.stages.benchmark_items import AnyBenchmark, Benchmark, read_items
from store.errors import InputError

ROWS = [
    {"question": "Wie heißt\nder Berg?", "choices": ["Zugspitze", "Brocken"], "answer": 0, "easy": True},
    {"question": "Ja?", "choices": {"text": ["a, \"b\"", "c"], "label": ["A", "B"]}, "answer": 1, "easy": None},
]  # fmt: skip


def texts(file: Path, **options: object) -> list[list[str]]:
    return [[text for text, _ in item] for item in read_items(Benchmark.model_validate({"file": str(file), **options}))]


def test_json_lines_json_and_gzip(tmp_path: Path) -> None:
    expected = [["Wie heißt\nder Berg?", "Zugspitze", "Brocken"], ["Ja?", 'a, "b"', "c", "A", "B"]]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    (tmp_path / "b.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=1))
    for name in ("b.jsonl", "b.jsonl.gz", "b.json"):
        assert texts(tmp_path / name) == expected
        assert texts(tmp_path / name, fields=("choices", "question"))[0] == ["Zugspitze", "Brocken", "Wie heißt\nder Berg?"]
    first = next(read_items(Benchmark.model_validate({"file": str(tmp_path / "b.json")})))
    assert [alone for _, alone in first] == [True, False, False]


def test_parquet_csv_and_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "q": ["x", "y"], "c": [["a", "b"], []]}), tmp_path / "b.parquet")
    assert texts(tmp_path / "b.parquet") == [["x", "a", "b"], ["y"]]
    with open(tmp_path / "b.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["q", "c"], ["x, y", "a\nb"], ["z", ""]])
    assert texts(tmp_path / "b.csv") == [["x, y", "a\nb"], ["z", ""]]
    (tmp_path / "b.tsv").write_text("q\tc\nx, y\ta\n")
    assert texts(tmp_path / "b.tsv", fields=("q",)) == [["x, y"]]
    (tmp_path / "b.txt").write_text("erste Frage\n\nzweite Frage\n")
    assert texts(tmp_path / "b.txt") == [["erste Frage"], ["zweite Frage"]]


def test_names_come_from_files_unless_given() -> None:
    adapter = TypeAdapter(AnyBenchmark)
    for value, name in (("a/b/mmlu-1.2.jsonl.gz", "mmlu-1.2"), ("s3://x/ä b.parquet", "ä_b"), ({"file": "x.csv", "name": "y"}, "y")):
        assert adapter.validate_python(value).name == name
    assert {"type": "string"} in adapter.json_schema()["anyOf"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.jsonl", b'{"q": "x"}\nnot json', "line 2: this is not JSON"),
        ("b.jsonl", b'{"q": "x"}\n[1]', "line 2: the line is not a benchmark item"),
        ("b.jsonl", b'{"q": "x"}\n{"answer": 1}', "line 2: the item has no text"),
        ("b.jsonl", b"\n", "no items"),
        ("b.jsonl", b'{"q": "\xff"}', "not UTF-8"),
        ("b.jsonl.gz", gzip.compress(b'{"q": "x"}\n' * 999, mtime=0)[:-9], "damaged"),
        ("b.json", b"{}", "not a JSON array"),
        ("b.parquet", b"PAR1", "cannot be read"),
        ("b.csv", b'q\n"x" y\n', "line 2"),
        ("b.xlsx", b"", "not a format of benchmarks"),
        ("absent.jsonl", None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        texts(tmp_path / name)
    assert name in str(error.value)


def test_fields_that_no_item_has_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"q": "x"}\n')
    with pytest.raises(InputError, match="no item has text in question"):
        texts(tmp_path / "b.jsonl", fields=("question",))
