"""Sheets: drawn evenly, safe in spreadsheets, and read back as spreadsheets save them."""

import csv
import io
import json
import re
import tempfile

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.labelling.people import read_people
from corpus.labelling.sheet import SEPARATORS, SheetRow, as_csv, as_jsonl, balanced, cell, read_sheet
from store.errors import InputError

LABELS = ("medical", "other")
UMLAUT = "<urn:uuid:1>"
some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
hostile = st.one_of(some_text, st.sampled_from([
    "=HYPERLINK(\"http://x\")", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "'=1", "1e5", "00123", "2024-03-01", "MARCH1",
    "a;b\"c,d",
    "\x00=1", "\x1b[31m", "\u202ehidden", "＝1", "Zeile\nZeile",
]))  # fmt: skip
ids = st.one_of(some_text, hostile).map(
    lambda t: re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", t).strip()
)
ids = ids.filter(bool)


def cells(data, separator=";"):
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=separator, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ids, hostile, st.one_of(st.none(), st.sampled_from(LABELS))), max_size=5, unique_by=lambda r: r[0]),
       st.booleans(), st.sampled_from(SEPARATORS))  # fmt: skip
def test_no_cell_of_a_csv_is_a_formula_or_more_than_a_line(rows, blind, separator):
    data = as_csv([SheetRow(*r) for r in rows], blind, separator)
    assert data.startswith(b"\xef\xbb\xbf")
    found = cells(data, separator)
    assert len(found) == len(rows) + 1 and ("model_label" in found[0]) is not blind
    for line in found[1:]:
        assert len(line) == len(found[0])
        for one in line:
            assert not one.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "|", "%", "＝"))
            assert not any(c in one for c in "\n\r\x00\x1b\u202e\u2028")
    assert [line[0] for line in found[1:] if line[0][:1].isdigit()] == []


@settings(max_examples=100, deadline=None)
@given(st.lists(ids, min_size=1, max_size=5, unique=True), st.sampled_from(["csv", "jsonl"]))
def test_ids_come_back(names, kind):
    rows = [SheetRow(name, "text", "medical") for name in names]
    with tempfile.NamedTemporaryFile(suffix=f".{kind}") as file:
        file.write(as_csv(rows, False) if kind == "csv" else as_jsonl(rows, False))
        file.flush()
        found = read_sheet(file.name)
    assert found["id"].to_list() == names and found["label"].null_count() == len(names)


@pytest.mark.parametrize("name", ["a\nb", "a\x00", " a", "a\u202eb"])
def test_an_id_that_no_spreadsheet_keeps_is_refused(name):
    with pytest.raises(InputError, match="jsonl"):
        as_csv([SheetRow(name, "text")], False)


def test_a_long_text_fits_a_cell():
    assert len(cells(as_csv([SheetRow("a", "x" * 40_000)], True))[1][1]) < 32_767


def test_jsonl_keeps_the_text_and_its_lines():
    line = json.loads(as_jsonl([SheetRow("a", "=1\nzwei", None)], True))
    assert line == {"id": "a", "text": "=1\nzwei", "label": None, "annotator": None, "note": None}
    assert cell("=1\r\n\r\nzwei\tdrei") == "'=1 ¶ zwei drei"


@pytest.mark.parametrize("how", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("first", ["", "sep={}\r\n"])
def test_sheets_are_read_as_spreadsheets_save_them(tmp_path, how, separator, first):
    lines = [
        ["ID ", "Text", "Label", "annotator"],
        [UMLAUT, 'Größe; "x", y', " Medical", "ä"],
        ["'12", "", "other", ""],
        ["", "", "", ""],
    ]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(lines)
    (tmp_path / "a.csv").write_bytes((first.format(separator) + out.getvalue()).encode(how))
    found = read_sheet(str(tmp_path / "a.csv"))
    assert found.rows() == [(UMLAUT, "Medical", "ä", 2), ("12", "other", None, 3)]
    assert read_people([str(tmp_path / "a.csv")], LABELS).decided().rows() == [("12", "other"), (UMLAUT, "medical")]


def labelled(n, share=0.1):
    names = ["medical" if i < n * share else None if i >= n * 0.95 else "other" for i in range(n)]
    return pl.DataFrame({"id": [f"p{i}" for i in range(n)], "model_label": names}, schema={"id": pl.String, "model_label": pl.String})


def test_a_sheet_is_balanced_by_the_models_label_and_the_same_in_any_order():
    pages = labelled(1000)
    found = balanced(pages, 200, 1)
    assert dict(found.group_by("model_label").len().iter_rows()) == {"medical": 75, "other": 75, None: 50}
    assert found.equals(balanced(pages.sample(fraction=1, shuffle=True, seed=4), 200, 1))
    assert set(found["id"]) <= set(balanced(pages, 300, 1)["id"])  # a larger sheet holds the smaller one
    assert set(found["id"]) != set(balanced(pages, 200, 2)["id"])
    assert found["model_label"].to_list() != found.sort("model_label")["model_label"].to_list()
    assert balanced(pages, 5000, 1).height == 1000 and balanced(pages.clear(), 5, 1).height == 0


def test_every_page_of_a_label_is_drawn_alike():
    pages, counts = labelled(60, 0.5), {}
    for seed in range(400):
        for name in balanced(pages, 20, seed)["id"]:
            counts[name] = counts.get(name, 0) + 1
    medical = [counts.get(f"p{i}", 0) for i in range(30)]
    assert min(medical) > 60 and max(medical) < 170  # 89 to 123 are expected, by what the few without a label leave


BAD = [
    ("no columns", "a.csv", "page;answer\n1;medical\n", "the columns id and label are missing"),
    ("no label", "a.csv", "id;text\np1;x\n", "the column label is missing"),
    ("no label in jsonl", "a.jsonl", '{"id": "p1"}\n', "the column label is missing"),
    ("unknown id", "a.csv", "id;label\np1;medical\nq9;other\n", "1 ids are not of pages that were drawn to be labelled (row 3)"),
    ("a number made of an id", "a.csv", "id;label\n1,23E+15;medical\n", "spreadsheet may have changed"),
    ("outside", "a.csv", "id;label\np1;medical\np2;medicla\n", "1 labels are none of the set (row 3); expected medical, other"),
    ("twice", "a.csv", "id;label\np1;medical\np1;other\n", "1 pages have two different labels by one person (rows 2, 3)"),
    ("twice by one", "a.csv", "id;label;annotator\np1;medical;x\np1;other;x\n", "two different labels by one person"),
    ("no id", "a.csv", "id;label\n;medical\n", "1 rows have a label and no id (row 2)"),
    ("quotes", "a.csv", 'id;label\n"p1;medical\n', "this is no CSV"),
    ("too many cells", "a.csv", "id;label\np1;medical;x;y\n", "row 2 has 4 cells, and the first row 2"),
    ("no json", "a.jsonl", '{"id": "p1", "label": "medical"}\nnonsense\n', "line 2 is no JSON"),
    ("no object", "a.jsonl", "[1]\n", "line 1 is no JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_sheet_is_refused_with_its_rows(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_people([str(tmp_path / name)], LABELS, {"p1", "p2"})
    assert message in caught.value.sentence() and name in caught.value.sentence()


def test_capitals_and_sharp_s_are_spelt_as_the_set_has_them(tmp_path):
    (tmp_path / "a.csv").write_text("id;label\np1;MASSNAHME\np2;maßnahme\np3;OTHER\n", encoding="utf-8")
    found = read_people([str(tmp_path / "a.csv")], ("Maßnahme", "other"))
    assert found.decided()["label"].to_list() == ["Maßnahme", "Maßnahme", "other"]


def test_several_people_their_majority_and_empty_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id;label;annotator\np1;medical;x\np1;other;y\np1;MEDICAL;z\np2;medical;x\np2;other;y\np3;;x\n")
    (tmp_path / "b.jsonl").write_text(
        '{"id": "p4", "label": "other", "annotator": "z"}\n{"id": "p4", "label": "other", "annotator": "z"}\n'
    )
    people = read_people([str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")], LABELS, {"p1", "p2", "p3", "p4"})
    assert people.decided().rows() == [("p1", "medical"), ("p4", "other")]
    assert (people.n_empty, people.n_undecided, people.rows.height) == (1, 1, 6)
    assert [(a, b, both.height) for a, b, both in people.pairs()] == [(1, 2, 2), (1, 3, 1), (2, 3, 1)]
    (tmp_path / "out.jsonl").write_bytes(people.jsonl())
    again = read_people([str(tmp_path / "out.jsonl")], LABELS)
    assert again.rows.equals(people.rows) and again.jsonl() == people.jsonl()
