"""Freshly trained tiny classifiers of every kind, and the library's answers to compare with."""

import random
from collections.abc import Callable
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest

from corpus.stages.fasttext_text import WHITE_SPACE

TEXT = "haus hof größe straße arzt klinik maus fluß berg tal 3,5 x Ωμέγα слово 日本語の文 naïve ÄRZTE Σίσυφος"
WORDS = TEXT.split()
KINDS: dict[str, dict[str, object]] = {
    "softmax": {"loss": "softmax", "dim": 10},
    "softmax-bigrams": {"loss": "softmax", "wordNgrams": 2, "minn": 2, "maxn": 4, "dim": 16},
    "softmax-trigrams": {"loss": "softmax", "wordNgrams": 3, "dim": 33},
    "two-labels": {"loss": "softmax", "wordNgrams": 2, "dim": 16, "labels": 2},
    "two-labels-characters": {"loss": "softmax", "wordNgrams": 3, "minn": 2, "maxn": 4, "dim": 20, "labels": 2},
    "two-labels-64-words": {"loss": "softmax", "wordNgrams": 64, "dim": 4, "labels": 2},
    "eight-labels": {"loss": "softmax", "wordNgrams": 2, "labels": 8},
    "ova-one-label": {"loss": "ova", "wordNgrams": 4, "labels": 1},
    "nine-labels": {"loss": "softmax", "labels": 9},
    "hs": {"loss": "hs", "minn": 2, "maxn": 4, "dim": 16},
    "hs-trigrams": {"loss": "hs", "wordNgrams": 3, "dim": 5},
    "hs-one-character": {"loss": "hs", "minn": 1, "maxn": 3},
    "ova": {"loss": "ova", "wordNgrams": 2},
    "ns": {"loss": "ns", "minn": 3, "maxn": 3},
    "rare-words-unknown": {"loss": "softmax", "minCount": 60, "minn": 2, "maxn": 3},
}
QUANTISED: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "q-softmax": ({"loss": "softmax", "wordNgrams": 2, "minn": 2, "maxn": 4}, {"dsub": 2}),
    "q-cutoff-norm": ({"loss": "hs", "minn": 2, "maxn": 4, "dim": 16}, {"cutoff": 400, "qnorm": True, "retrain": False}),
    "q-cutoff-odd": ({"loss": "softmax", "wordNgrams": 2, "dim": 7}, {"cutoff": 300, "dsub": 3}),
    "q-two-labels": ({"loss": "softmax", "wordNgrams": 2, "labels": 2}, {"cutoff": 300, "dsub": 2}),
    "q-output": ({"loss": "softmax", "minn": 2, "maxn": 3, "labels": 300}, {"qnorm": True, "qout": True}),
}


def train(folder: Path, name: str, labels: int = 5, **params: object) -> fasttext.FastText:
    """A classifier of random sentences in which each label prefers some words."""
    rng = random.Random(name)
    lines = []
    for i in range(max(400, 3 * labels)):
        label = min(i % labels, int(rng.expovariate(0.5))) if i >= labels else i  # uneven counts make a deep tree
        words = rng.choices(WORDS, k=rng.randrange(2, 9)) + [f"{WORDS[(label + k) % len(WORDS)]}{label}" for k in range(3)]
        lines.append(f"__label__l{label} " + " ".join(words))
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given: dict[str, object] = {"dim": 12, "bucket": 500, "epoch": 8, "lr": 0.5, "minCount": 1, "thread": 1, "seed": 1, "verbose": 0}
    return fasttext.train_supervised(str(folder / f"{name}.txt"), **{**given, **params})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """name -> path of the model, trained when first asked for."""
    folder = tmp_path_factory.mktemp("models")

    def path(name: str) -> str:
        file = folder / f"{name}.bin"
        if not file.exists():
            model = train(folder, name, **KINDS[name] if name in KINDS else QUANTISED[name][0])  # type: ignore[arg-type]
            if name in QUANTISED:
                model.quantize(input=str(folder / f"{name}.txt"), thread=1, verbose=0, **QUANTISED[name][1])
            model.save_model(str(file))
        return str(file)

    return path


class Library:
    """fastText's own answers, all labels of each text."""

    def __init__(self, path: str) -> None:
        self.model = fasttext.load_model(path)
        self.labels = [label.removeprefix("__label__") for label in self.model.get_labels()]

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """[n, L] float: 0 where the library lists no probability; cut off at 1."""
        import polars as pl

        lines = pl.Series(texts, dtype=pl.String).str.replace_all(WHITE_SPACE, " ").to_list()
        out = np.zeros((len(texts), len(self.labels)))
        for row, (names, values) in enumerate(zip(*self.model.predict(lines, k=-1), strict=True)):
            for name, value in zip(names, values, strict=True):
                out[row, self.labels.index(name.removeprefix("__label__"))] = min(float(value), 1.0)
        return out

    def best(self, texts: list[str]) -> list[tuple[str | None, float]]:
        """Label and probability of predict(k=1)."""
        import polars as pl

        lines = pl.Series(texts, dtype=pl.String).str.replace_all(WHITE_SPACE, " ").to_list()
        found = zip(*self.model.predict(lines, k=1), strict=True)
        return [(y[0].removeprefix("__label__"), min(float(p[0]), 1.0)) if len(y) else (None, 0.0) for y, p in found]


@pytest.fixture(scope="session")
def library(trained: Callable[[str], str]) -> Callable[[str], Library]:
    loaded: dict[str, Library] = {}
    return lambda name: loaded.setdefault(name, Library(trained(name)))


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())
