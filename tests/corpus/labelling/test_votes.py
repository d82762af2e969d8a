"""Votes and agreement: decisions against counting by hand, kappa against scikit-learn, its interval against planted truth."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.labelling.answer import NO_ANSWER, NO_TEXT, Verdict
from corpus.labelling.ballot import NO_MAJORITY, NOT_A_LABEL, NOT_READ, NOT_UNANIMOUS, Ballot
from corpus.labelling.kappa import agreement, kappa_of, table_of

LABELS = ("a", "b", "c")
VOTE = st.sampled_from([*LABELS, NO_ANSWER, "no_json", "cut_off"])


def filled(votes):
    ballot = Ballot.empty(LABELS, len(votes), len(votes[0]))
    for voter, row in enumerate(votes):
        for page, said in enumerate(row):
            if said in LABELS:
                ballot.record(voter, page, Verdict(said))
            else:
                ballot.refuse(voter, page, said)
    return ballot


def by_hand(votes, rule):
    counts = Counter(v for v in votes if v in LABELS)
    for label, n in counts.items():
        if n == len(votes) or (rule == "majority" and n > len(votes) / 2):
            return label, None
    if NO_TEXT in votes:
        return None, NO_TEXT
    if NO_ANSWER in votes:
        return None, NO_ANSWER
    return None, (NO_MAJORITY if rule == "majority" else NOT_UNANIMOUS) if counts else NOT_READ


@given(
    st.integers(1, 6).flatmap(lambda v: st.lists(st.lists(VOTE, min_size=v, max_size=v), min_size=1, max_size=8)),
    st.sampled_from(["majority", "unanimous"]),
)
def test_decisions_are_those_of_counting_by_hand(pages, rule):
    pages = [*pages, [NO_TEXT] * len(pages[0])]
    ballot = filled(list(zip(*pages, strict=True)))
    labels, reasons = ballot.decide(rule)
    assert [(LABELS[i] if i >= 0 else None, r) for i, r in zip(labels, reasons, strict=True)] == [by_hand(p, rule) for p in pages]
    for page, votes in enumerate(pages):
        assert [ballot.vote(v, page) for v in range(len(votes))] == [(x, None) if x in LABELS else (None, x) for x in votes]
    assert set(NOT_A_LABEL).isdisjoint(LABELS)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = (np.array(x, np.int16) for x in zip(*pairs, strict=True))
    found = agreement(table_of(a, b, 4), 1)
    if len({*a, *b}) == 1:
        assert (found.kappa, found.observed) == (None, 1.0)
        return
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(a, b), abs=2e-6)
    assert found.observed == pytest.approx((a == b).mean(), abs=1e-6) and found.n == len(pairs)
    assert (found.low <= found.kappa + 1e-6 and found.kappa <= found.high + 1e-6) or found.n < 10


def test_pages_without_a_label_of_one_are_left_out():
    a, b = np.array([0, 1, -3, 1, 0], np.int16), np.array([0, 1, 1, -2, 1], np.int16)
    assert table_of(a, b, 2).tolist() == [[1, 1], [0, 1]]
    assert agreement(table_of(a[2:4], b[2:4], 2), 1).n == 0


def test_the_interval_covers_the_true_kappa_about_as_often_as_it_says():
    """Voter b copies a with probability 0.7 and else draws as a does: kappa is 0.7."""
    rng, hits, n_trials = np.random.default_rng(5), 0, 300
    for _ in range(n_trials):
        a = rng.choice(3, 400, p=[0.6, 0.3, 0.1]).astype(np.int16)
        b = np.where(rng.random(400) < 0.7, a, rng.choice(3, 400, p=[0.6, 0.3, 0.1])).astype(np.int16)
        found = agreement(table_of(a, b, 3), 1)
        hits += found.low <= 0.7 <= found.high
    assert 0.90 <= hits / n_trials <= 0.985


def test_kappa_of_many_tables_is_kappa_of_each():
    tables = np.random.default_rng(1).integers(0, 9, (20, 3, 3)).astype(float)
    assert np.allclose(kappa_of(tables), [kappa_of(t) for t in tables], equal_nan=True)
