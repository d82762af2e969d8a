"""The compiled fastText path against the library: the same pages in alternation, CPU time of one core, agreement.

``compare_language`` and ``compare_classifier`` return figures for benchmarks/stages.py; run alone, the module prints them.

Both sides are given what they take: the library a list of Python strings on one line each, made outside its time; ours the Arrow
column. The first pages fill the table of kept sums and are not timed (``warm_docs``): a worker sees thousands of pages.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fasttext
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.fasttext.model import FastText
from corpus.stages.fasttext_text import WHITE_SPACE, classifier_text
from corpus.stages.lid_model import find_lid176

BATCH = 1000
Figures = dict[str, float]


def compare_language(columns: Sequence[pa.Array], model: str | None = None, warm_docs: int = 8000) -> Figures:
    """Best label of every page: ratio of documents/s, both rates, share of equal labels, largest difference of scores.

    ``columns``: large_string batches; ``model``: a file, lid.176 if none is given. At least ``warm_docs`` pages and some more.
    """
    path = model or find_lid176()
    ours, theirs = FastText.open(path), fasttext.load_model(path)
    spent, n_docs, equal, apart, seen = [0.0, 0.0], 0, 0, 0.0, 0
    for column in _batches(columns):
        lines = pl.Series(column).str.replace_all(WHITE_SPACE, " ").to_list()
        begin = time.process_time()
        labels, scores = ours.best(ours.hidden(column))
        middle = time.process_time()
        names, values = theirs.predict(lines, k=1)
        end = time.process_time()
        expected = np.array([min(float(v[0]), 1.0) if len(v) else 0.0 for v in values])
        found = [ours.labels[k] if k >= 0 else None for k in labels]
        equal += sum(a == (b[0].removeprefix("__label__") if len(b) else None) for a, b in zip(found, names, strict=True))
        apart, seen = max(apart, float(np.abs(scores - expected).max())), seen + len(column)
        if seen > warm_docs:
            spent, n_docs = [spent[0] + middle - begin, spent[1] + end - middle], n_docs + len(column)
    return {**_rates(spent, n_docs), "label_agreement": equal / max(1, seen), "max_score_difference": apart, "docs": float(seen)}


def compare_classifier(columns: Sequence[pa.Array], max_chars: int = 4000, warm_docs: int = 8000) -> Figures:
    """Probability of one label by a classifier with word 2-grams, trained on the spot: as ``compare_language``; lower case included."""
    with tempfile.TemporaryDirectory() as folder:
        path = _train(columns[0].slice(0, 2000), folder, max_chars)
        ours, theirs = FastText.open(path, fold_case=True, max_chars=max_chars), fasttext.load_model(path)
    label, names = ours.labels.index("long"), [f"__label__{label}" for label in ours.labels]
    spent, n_docs, apart, agree, seen = [0.0, 0.0], 0, 0.0, 0, 0
    for column in _batches(columns):
        begin = time.process_time()
        scores = ours.scores(column, [label])[:, 0]
        middle = time.process_time()
        found, values = theirs.predict(classifier_text(column, max_chars), k=-1)
        end = time.process_time()
        at = [list(y).index(names[label]) for y in found]
        expected = np.array([min(float(v[k]), 1.0) for v, k in zip(values, at, strict=True)])
        apart, seen = max(apart, float(np.abs(scores - expected).max())), seen + len(column)
        agree += int(((scores >= 0.5) == (expected >= 0.5)).sum())
        if seen > warm_docs:
            spent, n_docs = [spent[0] + middle - begin, spent[1] + end - middle], n_docs + len(column)
    return {**_rates(spent, n_docs), "label_agreement": agree / max(1, seen), "max_score_difference": apart, "docs": float(seen)}


def _batches(columns: Sequence[pa.Array]) -> list[pa.Array]:
    return [column.slice(k, BATCH) for column in columns for k in range(0, len(column), BATCH)]


def _rates(spent: list[float], n_docs: int) -> Figures:
    return {
        "ratio_vs_fasttext": spent[1] / max(spent[0], 1e-9),
        "docs_per_s_per_core": n_docs / max(spent[0], 1e-9),
        "fasttext_docs_per_s_per_core": n_docs / max(spent[1], 1e-9),
    }


def _train(column: pa.Array, folder: str, max_chars: int) -> str:
    """A classifier of the recipe's kind; what it learns is of no consequence: whether a page is longer than half of them."""
    lines = classifier_text(column, max_chars)
    middle = float(np.median([len(line) for line in lines]))
    file = Path(folder) / "train.txt"
    file.write_text("\n".join(f"__label__{'long' if len(x) > middle else 'short'} {x[:1000]}" for x in lines), encoding="utf-8")
    model = fasttext.train_supervised(str(file), dim=16, wordNgrams=2, minCount=3, bucket=200_000, epoch=5, thread=1, seed=1, verbose=0)
    model.save_model(f"{folder}/model.bin")
    return f"{folder}/model.bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of Parquet files with a column text")
    parser.add_argument("--quick", action="store_true", help="two files only")
    args = parser.parse_args()
    files = sorted(Path(args.data).glob("*.parquet"))[: 2 if args.quick else None]
    columns = [pq.read_table(f, columns=["text"])["text"].cast(pa.large_string()).combine_chunks() for f in files]
    print(json.dumps({"language": compare_language(columns), "classifier": compare_classifier(columns)}, indent=1))


if __name__ == "__main__":
    main()
