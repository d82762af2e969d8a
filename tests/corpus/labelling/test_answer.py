"""Answers: what is a label, what is none and why; nothing outside the set ever comes out."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpus.labelling.answer import FAILURES, Reply, Verdict, answer_schema, read_answer

LABELS = frozenset({"medical", "nicht medizinisch", "other"})


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"label": "medical"}', "medical"),
        ('  {"label":\n "nicht medizinisch"}\n', "nicht medizinisch"),
        ('{"label": "other", "reason": "a {brace} inside"}', "other"),
        ('```json\n{"label": "medical"}\n```', "medical"),
        ('Here it is: {"label": "medical"}. Anything else?', "medical"),
        ('<think>{"label": "other"} or {"label": "medical"}?</think>{"label": "medical"}', "medical"),
        ('a template may open the first thought itself: {"label": "other"}</think>{"label": "medical"}', "medical"),
        ('{"label": "medi\\u0063al"}', "medical"),
        ('{not json} {"label": "other"}', "other"),
        ('{"label": "other", "inner": {"label": "medical"}}', "other"),
    ],
)
def test_right_answers(text, label):
    assert read_answer(Reply(text), LABELS) == Verdict(label)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<think>hm</think>", "empty"),
        ("medical", "no_json"),
        ('"medical"', "no_json"),
        ('["medical"]', "no_json"),
        ("{'label': 'medical'}", "no_json"),
        ('{"label": "medical"', "no_json"),
        ("{" * 5000, "no_json"),
        ('{"a":' * 5000, "no_json"),
        ("{}", "no_label"),
        ('{"Label": "medical"}', "no_label"),
        ('{"label": 1}', "no_label"),
        ('{"label": ["medical"]}', "no_label"),
        ('{"label": null}', "no_label"),
        ('{"label": "Medical"}', "unknown_label"),
        ('{"label": "medical "}', "unknown_label"),
        ('{"label": "medical, other"}', "unknown_label"),
        ('{"label": ""}', "unknown_label"),
        ('{"label": "medical"} {"label": "medical"}', "ambiguous"),
        ('{"label": "medical", "label": "other"}', "ambiguous"),
        ('{"label": "medical", "label": "medical"}', "ambiguous"),
        ('<think>{"label": "medical"}', "empty"),
    ],
)
def test_other_answers_are_no_label(text, failure):
    assert read_answer(Reply(text), LABELS) == Verdict(None, failure)


def test_why_an_answer_ended_is_the_reason_where_it_is_no_label():
    assert read_answer(Reply('{"label": "medi', "length"), LABELS).failure == "cut_off"
    assert read_answer(Reply('{"label": "medical"}', "length"), LABELS).label == "medical"
    assert read_answer(Reply("", refused=True), LABELS).failure == "refused"
    assert read_answer(Reply("", "content_filter"), LABELS).failure == "refused"


PIECES = ['{"label": "medical"}', '{"label":', '"other"', "}", "{", "<think>", "</think>", " x", ",", '"label": "medical"']


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
@example('{"label": "medical"}{')
def test_no_text_gives_a_label_that_is_not_said_in_it(text):
    found = read_answer(Reply(text), LABELS)
    assert (found.label is None) == (found.failure is not None)
    if found.label is None:
        assert found.failure in FAILURES
    else:
        assert found.label in LABELS and f'"{found.label}"' in text


def test_the_schema_allows_right_answers_only():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(answer_schema(sorted(LABELS)))
    assert all(check.is_valid({"label": name}) for name in LABELS)
    assert not any(check.is_valid(x) for x in ({}, {"label": "x"}, {"label": "other", "more": 1}, "other", {"label": None}))
