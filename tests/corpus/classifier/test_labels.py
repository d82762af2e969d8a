"""Labels: read by any column names, cut class by class, refused in words where they cannot work."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.classifier.labels import read_labels, shares
from corpus.classifier.params import ClassifierParams
from store.errors import InputError, RecipeError


def params(tmp_path, text, name="labels.jsonl", **fields):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return ClassifierParams(labels=str(tmp_path / name), **fields)


def lines(rows):
    return "\n".join(map(json.dumps, rows))


def test_labels_are_cut_to_a_limit_half_of_each_class_by_id(tmp_path):
    rows = [{"id": f"x{i}", "label": "medical" if i < 30 else "other"} for i in range(1000)]
    found = read_labels(params(tmp_path, lines(rows), max_labels=100))
    assert found.height == 100 and (found["label"] == "medical").sum() == 30
    assert read_labels(params(tmp_path, lines(rows[::-1]), max_labels=100)).equals(found)


def test_classes_keep_their_names_and_others_are_left_out(tmp_path):
    text = "page,kind,book\n1,law,a\n2,lay,a\n3,ads,b\n4,law,\n5,unsure,b"
    found = read_labels(
        params(tmp_path, text, "l.csv", classes=["law", "lay"], id_column="page", label_column="kind", group_column="book")
    )
    assert found.rows() == [("1", "law", "a"), ("2", "lay", "a"), ("4", "law", None)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_are_even_and_nothing_is_wasted(sizes, limit):
    found = shares(sizes, limit)
    assert sum(found) == min(limit, sum(sizes)) and all(f <= n for f, n in zip(found, sizes, strict=True))
    cut = [f for f, n in zip(found, sizes, strict=True) if f < n]
    assert not cut or max(found) - min(cut) <= 1


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        ('{"id": "a", "label": "medical"}\n{"id": "a", "label": "x"}\n{"id": "b", "label": "x"}', {}, "two different labels"),
        ('{"id": "a", "label": "medical"}', {}, "one class only"),
        ('{"id": "a", "topic": "medical"}', {}, "column label is missing"),
        ('{"id": "a", "label": "Medizin"}\n{"id": "b", "label": "x"}', {}, "one class only"),
        ('{"id": "a", "label": "medical"}\n{"id": "b", "label": "x"}', {"group_column": "book"}, "column book is missing"),
        ("kaputt", {}, "cannot be read"),
    ],
)
def test_labels_that_cannot_work_are_refused(tmp_path, text, fields, words):
    with pytest.raises(InputError, match=words):
        read_labels(params(tmp_path, text, **fields))


def test_no_file_is_said():
    with pytest.raises(RecipeError, match="no labels"):
        read_labels(ClassifierParams())


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "encoder", "search": {"n_trials": 3}}, {"minn": 2}, {"minn": 4, "maxn": 2}, {"classes": ["a", "a"]},
        {"classes": ["a", "b"], "prevalence": 0.1}, {"classes": ["a", "b"], "calibrate": True},
        {"target": {"precision": 0.9, "recall": 0.9}}, {"target": {}},
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(fields):
    with pytest.raises(ValidationError):
        ClassifierParams(labels="x", **fields)
