"""Threshold sampling: the same pages in any order, limits kept, probabilities that make weighted sums right."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.labelling.draw import LEAST, allocation, distinct, drawn, nearest
from corpus.labelling.estimate import share_of
from corpus.labelling.params import RoundParams, StratumParams
from corpus.labelling.strata import strata_of
from store.errors import InputError

LENGTH = StratumParams(by="length", quantiles=3)
HOST = StratumParams(by="host", bounds=(3, 50))
SCORE = StratumParams(by="language_score", bounds=(0.5,))
CLASSIFIER = {"positive": "medical"}


def population(n, seed=0):
    """Pages of which few hosts have many, with a label that depends on host and length."""
    rng = np.random.default_rng(seed)
    host = np.where(rng.random(n) < 0.3, "big.de", np.array([f"h{i}.de" for i in rng.integers(0, n // 15 + 1, n)]))
    host = np.where(rng.random(n) < 0.1, "middle.de", host)
    n_chars = np.exp(rng.normal(7, 1, n)).astype(np.int64)
    positive = rng.random(n) < np.where(host == "big.de", 0.3, 0.03) * np.where(n_chars > 1500, 2, 0.5)
    columns = {"id": [f"p{i}" for i in range(n)], "doc_key": np.arange(n), "host": host.tolist(), "n_chars": n_chars}
    frame = pl.DataFrame({**columns, "language_score": rng.random(n), "positive": positive, "score": rng.random(n)})
    return frame.with_columns(host=pl.when(pl.col("doc_key") % 20 == 0).then(None).otherwise("host"))


def pool(pages, seed, share):
    """The pages with a draw below the share, in the order of draws."""
    draws = np.random.default_rng([7, seed]).random(pages.height)
    return pages.with_columns(draw=pl.Series(draws)).filter(pl.col("draw") < share).sort("draw", "id")


rounds = st.builds(
    lambda n, strata, how: RoundParams(n=n, by="strata" if strata else "uniform", strata=strata, allocation=how),
    st.integers(40, 150), st.lists(st.sampled_from([LENGTH, HOST, SCORE]), max_size=2, unique_by=lambda s: s.by).map(tuple),
    st.sampled_from(["proportional", "equal"]),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(rounds, st.one_of(st.none(), st.integers(1, 12)), st.integers(0, 50), st.sampled_from([0.3, 1.0]))
def test_a_page_is_drawn_if_and_only_if_its_draw_is_below_its_probability(round_, cap, seed, share):
    pages = pool(population(600), seed, share)
    found = drawn(pages, round_, share, cap)
    taken = found.pages
    assert (taken["draw"] < taken["probability"]).all() and (taken["probability"] <= share).all()
    assert taken["id"].is_unique().all() and taken.height == min(round_.n, int(found.strata["n_eligible"].sum()))
    assert dict(taken.group_by("stratum").len().iter_rows()) == {s: n for s, n in found.strata.select("stratum", "n").iter_rows() if n}
    # Pages that were left out have a draw at or above the threshold of their stratum or of their host.
    stratum = dict(found.strata.select("stratum", "threshold").iter_rows())
    rest = pages.with_columns(strata_of(pages, round_.strata).alias("stratum")).join(taken.select("id"), on="id", how="anti")
    for row in rest.to_dicts():
        earlier = pages.filter((pl.col("host") == row["host"]) & (pl.col("draw") < row["draw"])).height if row["host"] else 0
        assert row["draw"] >= stratum[row["stratum"]] or (cap is not None and earlier >= cap), row
    if cap is not None:
        assert taken.drop_nulls("host").group_by("host").len()["len"].max() <= cap


@settings(max_examples=40, deadline=None)
@given(rounds, st.one_of(st.none(), st.integers(1, 12)), st.integers(0, 50), st.data())
def test_no_draw_of_a_drawn_page_changes_any_probability(round_, cap, seed, data):
    """Substitutable thresholds (Ting 2017): what makes weights of 1 / probability right."""
    pages = pool(population(400), seed, 0.5)
    found = drawn(pages, round_, 0.5, cap).pages
    some = data.draw(st.sets(st.sampled_from(found["id"].to_list()), max_size=5))
    changed = pages.with_columns(draw=pl.when(pl.col("id").is_in(list(some))).then(0.0).otherwise("draw")).sort("draw", "id")
    again = drawn(changed, round_, 0.5, cap).pages
    assert again.select("id", "stratum", "probability").equals(found.select("id", "stratum", "probability"))


@settings(max_examples=20, deadline=None)
@given(rounds, st.integers(0, 50), st.randoms())
def test_the_order_of_pages_does_not_matter(round_, seed, random):
    pages = pool(population(300), seed, 0.6)
    rows = pages.to_dicts() + pages.head(20).with_columns(pl.col("doc_key") + 1_000_000).to_dicts()
    random.shuffle(rows)
    whole = distinct(pl.DataFrame(rows, schema=pages.schema))
    assert whole.equals(pages)
    near = RoundParams(n=40, by="boundary", classifier=CLASSIFIER, random_share=0.25)
    for chosen in (lambda p: drawn(p, round_, 0.6, 5), lambda p: nearest(p, near, 0.6, 5, 0.4)):
        assert chosen(whole).pages.equals(chosen(pages).pages)


@pytest.mark.parametrize(
    ("round_", "cap"),
    [
        (RoundParams(n=150), None),
        (RoundParams(n=150), 10),
        (RoundParams(n=150, by="strata", strata=(LENGTH, HOST), allocation="equal"), None),
        (RoundParams(n=150, by="strata", strata=(LENGTH, HOST), allocation="equal"), 10),
        (RoundParams(n=60, by="strata", strata=(LENGTH, SCORE)), 20),
    ],
)
def test_weighted_sums_are_unbiased_and_intervals_cover(round_, cap):
    pages, share, times = population(2500), 0.4, 250
    truth = pages["positive"].mean()
    sums, covered = [], 0
    for seed in range(times):
        found = drawn(pool(pages, seed, share), round_, share, cap)
        sums.append((found.pages["positive"].cast(pl.Float64) / found.pages["probability"]).sum() / pages.height)
        n_pool = dict(found.strata.select("stratum", "n_pool").iter_rows())
        estimate = share_of(found.pages, n_pool, share)
        covered += estimate.low <= truth <= estimate.high
    assert abs(np.mean(sums) - truth) < 4 * np.std(sums) / times**0.5
    assert covered / times > 0.9


def test_a_full_count_leaves_nothing_open():
    pages = population(300)
    found = drawn(pool(pages, 1, 1.0), RoundParams(n=300), 1.0, None)
    share = share_of(found.pages, dict(found.strata.select("stratum", "n_pool").iter_rows()), 1.0)
    assert (share.low, share.high, share.n_effective) == (share.value, share.value, None)
    assert share.value == pytest.approx(pages["positive"].mean())
    assert share_of(found.pages.clear(), {}, 1.0) is None


def test_no_positive_page_is_no_proof_that_there_are_none():
    found = drawn(pool(population(2000), 1, 0.5), RoundParams(n=100), 0.5, None)
    none = share_of(found.pages.with_columns(positive=False), {"all": 1000}, 0.5)
    assert none.value == none.low == 0.0 and 0.01 < none.high < 0.06


def test_the_pages_nearest_to_the_threshold_and_some_at_random():
    pages = pool(population(800), 3, 0.7)
    round_ = RoundParams(n=50, by="boundary", classifier=CLASSIFIER, random_share=0.2)
    found = nearest(pages, round_, 0.7, None, 0.6).pages
    assert dict(found.group_by("picked").len().iter_rows()) == {"random": 10, "boundary": 40}
    assert found.filter(pl.col("picked") == "boundary")["probability"].null_count() == 40
    assert found.filter(pl.col("picked") == "random")["probability"].null_count() == 0
    gap = (pages["score"] - 0.6).abs()
    far = pages.with_columns(gap=gap).join(found.select("id"), on="id", how="anti")["gap"].min()
    assert (found.filter(pl.col("picked") == "boundary")["score"] - 0.6).abs().max() <= far
    capped = nearest(pages, round_, 0.7, 3, 0.6).pages
    assert capped.height == 50 and capped.drop_nulls("host").group_by("host").len()["len"].max() <= 3
    only_near = nearest(pages, round_.model_copy(update={"random_share": 0.0}), 0.7, None, 0.6).pages
    assert only_near["picked"].to_list() == ["boundary"] * 50


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=9
    ),
    st.integers(1, 200),
    st.sampled_from(["equal", "proportional"]),
)
def test_allocation(strata, n, how):
    sizes = {k: max(size, limit) for k, (size, limit) in strata.items()}
    limits = {k: limit for k, (_, limit) in strata.items()}
    if sum(v > 0 for v in limits.values()) > n:
        with pytest.raises(InputError, match="strata"):
            allocation(sizes, limits, n, how)
        return
    found = allocation(sizes, limits, n, how)
    assert sum(found.values()) == min(n, sum(limits.values()))
    assert all(0 <= found[k] <= limits[k] for k in limits) and all(found[k] > 0 for k in limits if limits[k])
    if how == "proportional" and LEAST * len(limits) <= n:
        assert all(found[k] >= min(LEAST, limits[k]) for k in limits)


def test_proportional_allocation_is_proportional():
    sizes = {"a": 700, "b": 200, "c": 100}
    assert allocation(sizes, sizes, 100, "proportional") == {"a": 70, "b": 20, "c": 10}
    assert allocation(sizes, sizes, 90, "equal") == {"a": 30, "b": 30, "c": 30}


SCORES = [0.2, 0.9, None, 0.5, 1.0]


def test_strata_are_named_by_what_they_hold():
    pages = pl.DataFrame({"host": ["a.de"] * 3 + [None, "b.de"], "n_chars": [10, 20, 30, 40, 50], "language_score": SCORES})
    assert strata_of(pages, (StratumParams(by="length", bounds=(20, 50)),)).to_list() == [
        "length below 20", "length 20 to 50", "length 20 to 50", "length 20 to 50", "length 50 and more"]  # fmt: skip
    assert strata_of(pages, (SCORE,)).to_list()[1:4] == [
        "language_score 0.5 and more", "language_score unknown", "language_score 0.5 and more"]  # fmt: skip
    assert strata_of(pages, (StratumParams(by="host", hosts=("a.de",)),)).to_list() == ["host a.de"] * 3 + ["other hosts"] * 2
    assert strata_of(pages, (StratumParams(by="host", bounds=(2,)), SCORE)).to_list()[4] == (
        "pages of the host below 2, language_score 0.5 and more")  # fmt: skip
    assert strata_of(pages, ()).to_list() == ["all"] * 5
    assert strata_of(pages, (StratumParams(by="length", quantiles=2),)).n_unique() == 2


@pytest.mark.parametrize("bad", [
    {"by": "length"}, {"by": "length", "hosts": ["a"]}, {"by": "length", "bounds": [2, 1]},
    {"by": "host", "bounds": [1], "quantiles": 2},
])  # fmt: skip
def test_a_stratum_has_one_rule(bad):
    with pytest.raises(ValueError, match=r"one of|named with|rise"):
        StratumParams.model_validate(bad)
