"""Scoring with a trained fastText classifier against the library's predict: the section ``fasttext`` of benchmarks/classifier.py.

The same pages in alternation, batch by batch, CPU time of one process; of every batch the least of the rounds counts, each round with
a newly opened model. The first ``WARM`` batches fill the table of known tokens and are counted apart (``ratio_first_pages``).

* ours, the stage: from an Arrow column of whole pages to a float32 column, cut to max_chars and lower-cased on the way;
* ours, the kernel: the same from a column of lines that are cut and lower-cased already;
* the library: ``predict(list of lines, k=1)``, the lines made outside its time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import fasttext
import numpy as np
import polars as pl
import pyarrow as pa

from corpus.fasttext.model import FastText
from corpus.stages.fasttext_text import classifier_text
from store.params import Json

Figures = dict[str, Json]
BATCH, WARM, ROUNDS, MAX_CHARS = 1000, 8, 3, 4000
TRAINED_ON, VARIANTS_TRAINED_ON = 6000, 2000
HEADLINE = (16, 2)
VARIANTS = tuple((dim, n) for dim in (16, 64, 128) for n in (1, 2, 3))
VARIANT_BATCHES = 16


def speed_figures(pages: pl.DataFrame, work: str, quick: bool) -> Figures:
    """``pages``: text and label (null: not to be learnt from)."""
    columns = chunks(pages["text"])
    file = training_file(pages, work, TRAINED_ON)
    warm, rounds = (1, 1) if quick else (WARM, ROUNDS)
    headline = compare(train(file, work, HEADLINE, 5), columns, warm, rounds)
    figures: Figures = {f"fasttext.{key}": value for key, value in headline.items()}
    file = training_file(pages, work, VARIANTS_TRAINED_ON)
    for dim, word_ngrams in VARIANTS[:1] if quick else VARIANTS:
        found = compare(train(file, work, (dim, word_ngrams), 1), columns[: 3 if quick else VARIANT_BATCHES], warm, min(rounds, 2))
        for key in ("ratio_vs_library", "ratio_kernel_vs_library", "max_score_difference", "label_agreement"):
            figures[f"fasttext.dim_{dim}.word_ngrams_{word_ngrams}.{key}"] = found[key]
    return figures


def chunks(text: pl.Series) -> list[pa.Array]:
    """Batches as a stage gets them, each with a buffer of its own."""
    return [pa.array(text.slice(k, BATCH).to_list(), pa.large_string()) for k in range(0, len(text), BATCH)]


def training_file(pages: pl.DataFrame, work: str, n_pages: int) -> str:
    """Labelled pages in fastText's form."""
    some = pages.filter(pl.col("label").is_not_null())
    some = some.sample(min(n_pages, len(some)), seed=1)
    lines = classifier_text(pa.array(some["text"].to_list(), pa.large_string()), MAX_CHARS)
    path = os.path.join(work, "train.txt")
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(f"__label__{y} {line}\n" for y, line in zip(some["label"], lines, strict=True))
    return path


def train(file: str, work: str, size: tuple[int, int], epoch: int) -> str:
    """A classifier of the recipe's kind: 200,000 buckets, softmax, words that occur three times."""
    dim, word_ngrams = size
    path = os.path.join(work, f"{dim}-{word_ngrams}.bin")
    fasttext.train_supervised(
        file, lr=0.5, dim=dim, wordNgrams=word_ngrams, minCount=3, bucket=200_000, epoch=epoch, thread=1, seed=1, verbose=0,
    ).save_model(path)  # fmt: skip
    return path


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """What it gives, and CPU seconds."""
    begin = time.process_time()
    found = work()
    return found, time.process_time() - begin


def compare(path: str, columns: Sequence[pa.Array], warm: int, rounds: int) -> dict[str, float]:
    """Ratios, times a page in microseconds, agreement with the library on every page."""
    theirs = fasttext.load_model(path)
    least = np.full((3, len(columns)), np.inf)
    apart, equal, n_pages = 0.0, 0, 0
    for fold_case in (True, False):  # kernels are compiled
        FastText.open(path, fold_case=fold_case).scores(columns[0].slice(0, 10), [0])
    for turn in range(rounds):
        stage, kernel = FastText.open(path, fold_case=True, max_chars=MAX_CHARS), FastText.open(path)
        for i, column in enumerate(columns):
            lines = classifier_text(column, MAX_CHARS)
            form = pa.array(lines, pa.large_string())
            _, ours_s = timed(lambda m=stage, c=column: m.scores(c, [0]))
            (names, values), theirs_s = timed(lambda x=lines: theirs.predict(x, k=1))
            _, kernel_s = timed(lambda m=kernel, c=form: m.scores(c, [0]))
            least[:, i] = np.minimum(least[:, i], (ours_s, kernel_s, theirs_s))
            if turn == 0:
                labels, best = stage.top(column)
                expected = np.minimum([v[0] for v in values], 1.0)
                apart = max(apart, float(np.abs(best - expected).max()))
                equal, n_pages = equal + int((labels == names_of(stage, names)).sum()), n_pages + len(best)
    sizes = np.array([len(c) for c in columns])
    a_page = 1e6 * least[:, warm:].sum(axis=1) / sizes[warm:].sum()
    first = least[:, :warm].sum(axis=1)
    return {
        "ratio_vs_library": a_page[2] / a_page[0], "ratio_kernel_vs_library": a_page[2] / a_page[1],
        "ratio_first_pages": first[2] / first[0], "us_per_page": a_page[0], "kernel_us_per_page": a_page[1],
        "library_us_per_page": a_page[2], "max_score_difference": apart, "label_agreement": equal / n_pages, "pages": float(n_pages),
    }  # fmt: skip


def names_of(model: FastText, names: Sequence[Sequence[str]]) -> np.ndarray:
    """[n] index of each page's best label."""
    return np.array([model.labels.index(found[0].removeprefix("__label__")) for found in names])
