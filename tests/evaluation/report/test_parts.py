"""The parts the page is made of: masks, intervals, significance, the story's honesty, scales, and the layout of graphs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from evaluation.report import dag
from evaluation.report.classifier import wilson
from evaluation.report.comparison import Metric, Scores, Value
from evaluation.report.mask import excerpt, mask, without_secrets
from evaluation.report.story import Roles, find_roles, headline, story
from evaluation.report.svg import Scale, element, scale_over
from evaluation.report.typography import decimal, share, short
from store.run import StepRecord

PERSONAL = [
    "erika.mustermann@klinik-beispiel.de", "erika (at) klinik.de", "+49 30 1234567", "030/1234567", "(030) 123 45 67", "0176-12345678",
    "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "192.168.10.4", "2001:db8:85a3:0:0:8a2e:370:7334", "fe80::1ff:fe23:4567",
    "A123456789", "4111 1111 1111 1111",
]  # fmt: skip
HARMLESS = [
    "2024-03-01",
    "140/90 mmHg",
    "1,5 mg und 20 mg",
    "Kapitel 3.2.1",
    "1985 und 2003",
    "10 000 Euro",
    "um 12:30 Uhr",
    "50 % von 120",
]


@pytest.mark.parametrize("secret", PERSONAL)
def test_what_looks_personal_is_masked(secret: str) -> None:
    shown = mask(f"Bitte melden: {secret}, danke.")
    assert secret not in shown and "⟨" in shown
    assert sum(c.isdigit() for c in shown) <= 1 and "@" not in shown and shown.startswith("Bitte melden: ") and shown.endswith("danke.")


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_numbers_stay(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=400), st.integers(0, 400), st.sampled_from(PERSONAL))
@settings(max_examples=60, deadline=None)
def test_excerpts_are_short_and_hide_what_lies_across_the_cut(filler: str, at: int, secret: str) -> None:
    text = "x " * (at // 2) + secret + " " + filler
    shown = excerpt(text)
    assert len(shown) <= 302
    # Five digits in a row or an address can only have come from the filler or from an unmasked secret.
    assert secret[:8] not in shown or secret[:8] in filler


def test_secrets_of_a_recipe_are_hidden_but_tokenizers_are_not() -> None:
    recipe = {
        "tokenizer": "x",
        "hf_token": "a",
        "s3": [{"secret_key": "b", "url": "s3://me:pw@bucket/x"}],
        "n_tokens": 3,
        "token": None,
    }
    assert without_secrets(recipe) == {
        "tokenizer": "x", "hf_token": "•••", "s3": [{"secret_key": "•••", "url": "s3://•••@bucket/x"}], "n_tokens": 3, "token": None,
    }  # fmt: skip


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=2e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=2e-4)


def metric(
    name: str, group: str, sign: int, values: dict[str, float], stderr: float | None = 0.01, paired: dict | None = None
) -> Metric:
    return Metric(name, group, "", sign, {m: Value(v, stderr, 100) for m, v in values.items()}, paired or {})


def test_best_needs_significance_against_every_other_model() -> None:
    clear = metric("loss", "domain", -1, {"a": 1.0, "b": 1.1, "c": 1.2})
    assert clear.best(["a", "b", "c"]) == "a"
    assert metric("loss", "domain", -1, {"a": 1.0, "b": 1.02, "c": 1.2}).best(["a", "b", "c"]) is None
    # Paired errors may decide what separate ones cannot.
    pair = {("a", "b"): (-0.02, 0.002)}
    assert metric("loss", "domain", -1, {"a": 1.0, "b": 1.02, "c": 1.2}, paired=pair).best(["a", "b", "c"]) == "a"
    assert metric("loss", "domain", 0, {"a": 1.0, "b": 2.0}).best(["a", "b"]) is None
    assert metric("loss", "domain", -1, {"a": 1.0, "b": 2.0}, stderr=None).best(["a", "b"]) is None
    assert metric("loss", "domain", -1, {"a": 1.0, "b": 2.0}, stderr=0.0).best(["a", "b"]) is None


def test_differences_turn_with_the_pair() -> None:
    m = metric("acc", "domain", 1, {"a": 0.5, "b": 0.6}, paired={("b", "a"): (0.1, 0.02)})
    there, back = m.difference("b", "a"), m.difference("a", "b")
    assert there is not None and back is not None
    assert (there.value, there.verdict, there.paired) == (0.1, 1, True)
    assert (back.value, back.verdict, back.stderr) == (-0.1, -1, 0.02)


ROLES = Roles("instruct", "continued", "merged")
TALES = {
    "good": (
        {"instruct": 1.3, "continued": 1.0, "merged": 1.1},
        {"instruct": 1.2, "continued": 1.4, "merged": 1.25},
        [
            "continued is significantly better on the domain",
            "continued is significantly worse in general",
            "won back 75\u202f%",
            "kept 67\u202f%",
        ],
        "better on the domain",
    ),
    "bad": (
        {"instruct": 1.0, "continued": 1.3, "merged": 1.5},
        {"instruct": 1.2, "continued": 1.4, "merged": 1.6},
        ["continued is significantly worse on the domain", "lost more in general", "had gained nothing measurable"],
        "worse on the domain",
    ),
    "flat": (
        {"instruct": 1.0, "continued": 1.001, "merged": 1.0},
        {"instruct": 1.2, "continued": 1.199, "merged": 1.2},
        ["not measurably different on the domain", "had lost nothing measurable", "had gained nothing measurable"],
        "not measurably different on the domain",
    ),
}


@pytest.mark.parametrize("tale", TALES)
def test_the_story_follows_the_numbers(tale: str) -> None:
    domain, general, said, head = TALES[tale]
    scores = Scores(list(domain), [metric("domain", "domain", -1, domain), metric("general", "general", -1, general)])
    movements = dict(story(scores, ROLES))
    assert list(movements) == ["Specialise", "Forget", "Merge", "Recover"]
    text = " ".join(movements.values())
    for sentence in said:
        assert sentence in text, text
    assert head in headline(scores, ROLES)


def test_story_is_silent_without_its_models() -> None:
    scores = Scores(["x"], [metric("m", "domain", -1, {"x": 1.0})])
    assert story(scores, Roles(None, None, None)) == [] and headline(scores, Roles("x", None, None)) == ""


def record(name: str, **inputs: str) -> StepRecord:
    kind = name.split("/")[0]
    return StepRecord(name=name, kind=kind, folder="f", fingerprint="0" * 64, inputs=inputs, cached=False, elapsed_s=0)


def test_roles_come_from_the_steps_then_from_names() -> None:
    steps = [
        record("train/a"),
        record("train/b", parent="train/a"),
        record("model/c"),
        record("merge/d", instruct="model/c", trained="train/b"),
    ]
    scores = Scores(["a", "b", "c", "d"], [])
    assert find_roles(scores, steps) == Roles("c", "b", "d")
    assert find_roles(Scores(["a", "b"], []), steps[:2]) == Roles("a", "b", None)
    assert find_roles(Scores(["base", "instruct", "specialised", "merged"], []), []) == Roles("instruct", "specialised", "merged")
    assert find_roles(Scores(["x", "y"], []), []) == Roles(None, None, None)


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20))
@settings(max_examples=80, deadline=None)
def test_scales_hold_their_values_and_ticks(values: list[float]) -> None:
    scale = scale_over(values)
    assert all(0 <= scale(v) <= 1 for v in values)
    ticks = scale.ticks()
    assert len(ticks) <= 12 and all(a < b for a, b in pairwise(ticks))
    assert all(scale.low - 1e-6 * abs(scale.low) <= t <= scale.high + 1e-6 * abs(scale.high) for t in ticks if len(ticks) > 1)


def test_log_scale_is_logarithmic() -> None:
    scale = Scale(1, 1000, log=True)
    assert scale(10) == pytest.approx(1 / 3) and scale.ticks() == [1, 10, 100, 1000]


def test_elements_escape_attributes_and_children() -> None:
    made = element("text", "<b>&", element("title", '"'), class_="a", text_anchor='x"y', gone=None)
    assert made == Markup('<text class="a" text-anchor="x&#34;y">&lt;b&gt;&amp;<title>&#34;</title></text>')


@given(st.integers(1, 14), st.data())
@settings(max_examples=60, deadline=None)
def test_graph_layout_keeps_order_and_never_overlaps(n: int, data: st.DataObject) -> None:
    names = [f"s{i}" for i in range(n)]
    inputs = {name: data.draw(st.lists(st.sampled_from([*names[:i], "elsewhere"]), max_size=4)) for i, name in enumerate(names)}
    placed = dag.layout(names, inputs)
    where = {v.name: v for v in placed.vertices if v.name}
    assert set(where) == set(names)
    for name in names:
        assert all(where[i].y < where[name].y for i in inputs[name] if i in where)
    for a in placed.vertices:
        assert a.x - a.width / 2 >= -1e-6 and a.x + a.width / 2 <= placed.width + 1e-6
        for b in placed.vertices:
            if a is not b and a.layer == b.layer:
                assert abs(a.x - b.x) >= (a.width + b.width) / 2 + dag.GAP_X - 1e-6
    edges = {(placed.vertices[c[0]].name, placed.vertices[c[-1]].name) for c in placed.chains}
    assert edges == {(i, name) for name in names for i in inputs[name] if i in where}
    assert all(placed.vertices[b].layer - placed.vertices[a].layer == 1 for c in placed.chains for a, b in pairwise(c))


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (1.23456, 0.0123, "1.235"),
        (0.5, 0.05, "0.500"),
        (120.54, 6.2, "120.5"),
        (-0.2, None, "−0.200"),
        (None, None, "–"),
        (31234.5, 120, "31234"),
    ],
)
def test_decimals_follow_the_error(value: float | None, stderr: float | None, shown: str) -> None:
    assert decimal(value, stderr) == shown


def test_shares_and_short_numbers() -> None:
    assert share(1, 1_000_000) == "<\u202f0.1\u202f%" and share(0, 5) == "0.0\u202f%" and share(1, 0) == "–"
    assert [short(v) for v in (950, 9500, 12_345, 5.1e9, 0.25)] == ["950", "9,500", "12.3\u202fk", "5.1\u202fB", "0.25"]
    assert math.isclose(float(short(0.125)), 0.125)
