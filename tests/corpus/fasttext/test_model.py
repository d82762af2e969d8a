"""Every answer against the library's own, for every loss and kind of model, on text made to be difficult."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.fasttext.model import FastText
from corpus.stages.fasttext_text import classifier_text

NAMES = [
    "softmax", "softmax-bigrams", "softmax-trigrams", "hs", "hs-trigrams", "hs-one-character", "ova", "ns", "rare-words-unknown",
    "q-softmax", "q-cutoff-norm", "q-cutoff-odd", "q-output", "two-labels", "two-labels-characters", "eight-labels", "nine-labels",
    "ova-one-label", "q-two-labels",
]  # fmt: skip
TABLE_STEP = 1 / 32 / 4
"""Sigmoids of ova and ns come from a table: a sum on a step's edge may round to the next step."""

TRAINED = ["haus", "hof", "größe", "straße", "arzt", "klinik", "haus0", "berg1", "tal3", "3,5", "слово", "日本語の文", "ÄRZTE"]
words = st.sampled_from([*TRAINED, "</s>", "__label__l1", "__label__none", "__label__", "x", "<", ">", "<>"])
token = st.one_of(words, st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.text("abcäß日", min_size=20, max_size=80))
text = st.lists(st.tuples(token, st.sampled_from([" ", "\n", "\t", "\r\n", "\v", "\f", "\x00", "  ", "\u00a0"])), max_size=25).map(
    lambda parts: "".join(a + b for a, b in parts)
)


def column(texts):
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_librarys(name, trained, library):
    model, theirs = FastText.open(trained(name)), library(name)
    assert model.labels == theirs.labels
    tolerance = TABLE_STEP if name in ("ova", "ns", "ova-one-label") else 1e-5
    exact = []

    @given(st.lists(text, min_size=1, max_size=8))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def agrees(texts):
        hidden = model.hidden(column(texts))
        expected = theirs.probabilities(texts)
        found = np.stack([model.probability(hidden, k) for k in range(min(5, len(model.labels)))], 1)
        assert np.abs(found - expected[:, :5]).max() <= tolerance
        few = model.scores(column(texts), range(min(5, len(model.labels))))
        assert np.abs(few - expected[:, :5]).max() <= tolerance
        exact.append((np.abs(found - expected[:, :5]) <= 1e-5).mean())
        labels, scores = model.top(column(texts))
        for row, (label, score) in enumerate(theirs.best(texts)):
            assert (labels[row] < 0) == (label is None) and abs(scores[row] - score) <= tolerance
            assert label is None or abs(expected[row, labels[row]] - score) <= tolerance
        labels, scores = model.best(hidden)
        for row, (label, score) in enumerate(theirs.best(texts)):
            assert (labels[row] < 0) == (label is None)
            assert abs(scores[row] - score) <= tolerance
            # Another label only where the two are equal but for rounding.
            if label is not None and model.labels[labels[row]] != label:
                assert abs(expected[row, labels[row]] - score) <= tolerance
        offsets, some, values = model.above(hidden, 0.01)
        for row in range(len(texts)):
            mine = dict(zip(some[offsets[row] : offsets[row + 1]], values[offsets[row] : offsets[row + 1]], strict=True))
            assert all(abs(v - expected[row, k]) <= tolerance for k, v in mine.items())
            assert {k for k in range(len(model.labels)) if expected[row, k] >= 0.01 + tolerance} <= set(mine)
            assert list(mine.values()) == sorted(mine.values(), reverse=True)

    agrees()
    assert np.mean(exact) > 0.999


def pages(n, seed=0):
    rng = random.Random(seed)
    vocabulary = [f"{w}{k}" for w in ("haus", "größe", "слово", "arzt", "unglaublichlangeszusammengesetzteswort") for k in range(200)]
    return [" ".join(rng.choices(vocabulary, k=rng.randrange(3000 if i == 7 else 300))) for i in range(n)]


@pytest.mark.parametrize("name", ["hs", "softmax-bigrams"])
def test_answers_depend_on_nothing_but_the_text(name, trained):
    """Not on what the table of sums holds or how large it is, on the batch, on its place in memory, or on threads."""
    texts = pages(60)
    model = FastText.open(trained(name), fold_case=True)
    first = model.hidden(column(texts)).vectors
    assert (model.hidden(column(texts)).vectors == first).all()
    assert (FastText.open(trained(name), fold_case=True, cache_bytes=0).hidden(column(texts)).vectors == first).all()
    backwards = column([*texts[::-1], "vor"])
    assert (model.hidden(backwards.slice(0, 60)).vectors[::-1] == first).all()
    assert (np.concatenate([model.hidden(column([t])).vectors for t in texts]) == first).all()
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: model.hidden(column(texts)).vectors, range(8)):
            assert (found == first).all()


def test_a_head_in_lower_case_is_what_training_sees(trained):
    """The classifier's form: the kernel's own against the one that writes the training file."""
    plain = FastText.open(trained("softmax-bigrams"))

    @given(text, st.integers(1, 90))
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    def same(body, max_chars):
        body = body + "ΟΔΟΣ İX \u0345Σ"
        scoring = FastText(plain.file, True, max_chars, 4096)
        given_form = column(classifier_text(column([body]), max_chars))
        assert (scoring.hidden(column([body])).vectors == plain.hidden(given_form).vectors).all()
        assert (scoring.scores(column([body]), [1]) == plain.scores(given_form, [1])).all()

    same()


def test_long_texts_and_borders_of_blocks(trained, library):
    """Tokens that begin, end and lie across every place of a 64-byte block and of the 1,024-byte chunk; a token of 100,000 bytes."""
    model, theirs = FastText.open(trained("hs")), library("hs")
    texts = [" " * k + "haus " + "x" * j + " berg1" for k in range(0, 66, 5) for j in (1, 31, 32, 33, 64)]
    texts += ["y" * (1018 + k) + " haus tal3 " * 3 for k in range(12)] + ["größe" * 15_000, "", "haus"]
    found, scores = model.best(model.hidden(column(texts)))
    for row, (label, score) in enumerate(theirs.best(texts)):
        assert (model.labels[found[row]], pytest.approx(scores[row], abs=1e-4)) == (label, score)
    assert len(model.best(model.hidden(column([])))[0]) == 0
