"""The path of models with few labels: whole numbers a row. Its answers against the library's are in test_model."""

import hashlib
import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.fasttext import few_labels
from corpus.fasttext.chunk import Room, new_room
from corpus.fasttext.few_labels import open_few_labels
from corpus.fasttext.hashes import remainder64
from corpus.fasttext.model import FastText
from corpus.fasttext.projection import exponential, project
from corpus.fasttext.vocabulary import index_model

FEW = ["two-labels", "two-labels-characters", "eight-labels", "ova", "ns", "q-two-labels", "softmax-trigrams"]
GAP = 4096


def column(texts):
    return pa.array(texts, pa.large_string())


def pages(n, seed=0):
    rng = random.Random(seed)
    vocabulary = [f"{w}{k}" for w in ("haus", "größe", "СЛОВО", "Arzt", "unglaublichlangeszusammengesetzteswort") for k in range(200)]
    vocabulary += ["haus", "hof", "tal", "arzt", "__label__l1", "x" * 255, "x" * 256, "x" * 257, "İ" * 16, "Ⱥ" * 16]
    return [
        rng.choice([" ", "\n\n", "\x00\t"]).join(rng.choices(vocabulary, k=rng.randrange(3000 if i == 7 else 300))) for i in range(n)
    ]


@pytest.mark.parametrize("name", ["two-labels", "two-labels-characters", "eight-labels", "q-two-labels"])
def test_long_pages_score_as_the_library_does(name, trained, library):
    """Tokens and their n-grams over the borders of blocks and chunks; tokens of 256 bytes, whose length ends in a zero byte."""
    texts = (
        pages(40) + [" " * k + "haus tal hof " * 400 + "</s> berg " * (k % 3) for k in range(70)] + ["haus " * 2000, "", " \n\n", "\n"]
    )
    model, expected = FastText.open(trained(name)), library(name).probabilities(texts)
    for label in range(2):
        assert np.abs(model.scores(column(texts), [label])[:, 0] - expected[:, label]).max() <= 1e-5


@pytest.mark.parametrize("name", ["two-labels-64-words", "ova", "q-two-labels"])
def test_the_kernel_stays_within_its_lists(name, trained, library, monkeypatch):
    """The lists lie apart and are as full as they get: tokens of one byte, n-grams of 64 words; and there are tokens as long as a key.

    The library adds 180,000 rows of the first text as float32, so it is less exact here than elsewhere.
    """
    written = []

    def with_gaps(longest, word_ngrams):
        room, memory = new_room(longest, word_ngrams)
        ends = [*room[1:], memory.ctypes.data + len(memory)]
        sizes = [end - begin for begin, end in zip(room, ends, strict=True)]
        apart = np.full(sum(sizes) + GAP * (len(sizes) + 1), 0xA5, np.uint8)
        begins = np.cumsum([GAP, *(s + GAP for s in sizes)])
        written.append((apart, begins - GAP))
        return Room(*(apart.ctypes.data + int(b) for b in begins[:-1])), apart

    monkeypatch.setattr(few_labels, "new_room", with_gaps)
    texts = ["a b " * 1400, " a" * 1024, "a " * 1023 + "b", "a " * 1500 + "</s> b", "", " " * 2049, "y" * 5000 + " a"]
    texts += [" ".join(("ä" * 16, "x" * 32, "x" * 33)), "İ" * 16 + " " + "Ⱥ" * 700, *pages(10)]
    found = FastText.open(trained(name)).scores(column(texts), [0])[:, 0]
    FastText.open(trained(name), fold_case=True, cache_bytes=0).scores(column(texts), [0])
    assert np.abs(found - library(name).probabilities(texts)[:, 0]).max() <= 1e-4
    assert written
    for memory, gaps in written:
        assert all((memory[at : at + GAP] == 0xA5).all() for at in gaps)


@pytest.mark.parametrize("name", FEW)
def test_scores_depend_on_nothing_but_the_text(name, trained):
    """Not on what the table holds or how large it is, on the batch, on its place in memory, or on threads."""
    texts = pages(60)
    model = FastText.open(trained(name), fold_case=True)
    first = model.scores(column(texts), [1])[:, 0]
    assert (model.scores(column(texts), [1])[:, 0] == first).all()
    assert (FastText.open(trained(name), fold_case=True, cache_bytes=0).scores(column(texts), [1])[:, 0] == first).all()
    backwards = column([*texts[::-1], "vor"])
    assert (model.scores(backwards.slice(0, 60), [1])[:, 0][::-1] == first).all()
    assert (np.concatenate([model.scores(column([t]), [1])[:, 0] for t in texts]) == first).all()
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: model.scores(column(texts), [1])[:, 0], range(8)):
            assert (found == first).all()
    assert len(model.scores(column([]), [1])) == 0


@pytest.mark.parametrize("name", ["hs", "q-output", "nine-labels"])
def test_other_models_keep_their_hidden_vectors(name, trained):
    model, texts = FastText.open(trained(name)), column(pages(20))
    assert open_few_labels(model.file, index_model(model.file).vocabulary, model.file.output.array(), 0) is None
    assert (model.scores(texts, [1])[:, 0] == model.probability(model.hidden(texts), 1)).all()


def test_rows_too_long_for_the_steps_are_left_to_floats(trained):
    model = FastText.open(trained("two-labels"))
    words, weights = index_model(model.file).vocabulary, model.file.output.array()
    found = project(model.file, words, weights)
    assert found is not None and found.step <= 2.0**-20
    direction = weights[1].astype(np.float64) - weights[0]
    exact = model.file.input.array().astype(np.float64) @ direction
    assert np.abs(found.table[:, 0] * found.step - exact).max() <= found.step
    assert project(model.file, words, weights * np.float32(1e6)) is None
    assert project(model.file, words, weights * np.float32(np.nan)) is None


def test_the_exponential_is_right_and_the_same_everywhere():
    x = -np.concatenate([np.linspace(0, 40, 4001), np.logspace(-12, math.log10(690), 2000), [0.0, 700.0, 701.0, 1e9]])
    found = np.array([exponential(float(v)) for v in x])
    assert np.allclose(found[:-2], np.exp(x[:-2]), rtol=1e-15, atol=0)
    assert (found[-2:] == 0).all() and found[x == 0].tolist() == [1.0] * int((x == 0).sum())
    steps = np.array([exponential(-k / 64) for k in range(4096)])  # exact arguments
    assert hashlib.sha256(steps.tobytes()).hexdigest()[:16] == "65b793bdaa307036"


@given(st.integers(0, 2**64 - 1), st.one_of(st.integers(1, 2**31 - 1), st.sampled_from([1, 2, 2**30, 200_000, 2_000_000])))
@settings(max_examples=300, deadline=None)
def test_remainders(value, divisor):
    assert remainder64(np.uint64(value), np.uint64(divisor), np.uint64((2**64 - 1) // divisor)) == value % divisor
