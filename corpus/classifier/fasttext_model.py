"""The kind fasttext: trained by the library with one thread, because its threads race; judged by what will score the pages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.classifier.model import Pages
from corpus.classifier.params import ClassifierParams
from corpus.fasttext.model import FastText
from corpus.fasttext.model_file import LABEL_PREFIX
from corpus.stages.fasttext_text import classifier_text
from store.fs import FileEntry, Folder
from store.params import Json

MODEL = "model.bin"
SETTINGS = ("lr", "epoch", "dim", "word_ngrams", "min_count", "minn", "maxn", "bucket")


@dataclass
class FastTextModel:
    """A model file in memory, read by corpus.fasttext."""

    data: bytes
    names: tuple[str, ...]
    max_chars: int
    facts: dict[str, Json]

    def __post_init__(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, MODEL)
            with open(path, "wb") as out:
                out.write(self.data)
            self.model = FastText.open(path)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """[n, L]."""
        lines = pa.array(classifier_text(pa.array(texts, pa.large_string()), self.max_chars), pa.large_string())
        return self.model.scores(lines, [self.model.labels.index(_word(n)) for n in self.names]).astype(np.float64)

    def save(self, folder: Folder) -> list[FileEntry]:
        """model.bin."""
        return [folder.write_bytes(MODEL, self.data)]


def fit_fasttext(params: ClassifierParams, train: Pages) -> FastTextModel:
    """fastText supervised (Joulin et al. 2016), softmax loss."""
    import fasttext

    lines = classifier_text(pa.array(train.texts, pa.large_string()), params.max_chars)
    with tempfile.TemporaryDirectory() as scratch:
        file, saved = os.path.join(scratch, "train.txt"), os.path.join(scratch, MODEL)
        with open(file, "w", encoding="utf-8") as out:
            out.writelines(
                f"{LABEL_PREFIX}{_word(params.names[y])} {line}\n" for y, line in zip(train.classes, lines, strict=True)
            )  # fmt: skip
        epoch = epochs_for(params, len(train))
        model = fasttext.train_supervised(
            file, lr=params.lr, epoch=epoch, dim=params.dim, wordNgrams=params.word_ngrams, minCount=params.min_count, minn=params.minn,
            maxn=params.maxn, bucket=params.bucket, loss="softmax", thread=1, seed=params.seed, verbose=0,
        )  # fmt: skip
        model.save_model(saved)
        with open(saved, "rb") as handle:
            data = handle.read()
    settings: dict[str, Json] = {name: getattr(params, name) for name in SETTINGS}
    return FastTextModel(data, params.names, params.max_chars, {"settings": settings | {"epoch": epoch}})


def _word(name: str) -> str:
    """A label as fastText's training file can hold it: without white space."""
    return "_".join(name.split())


def epochs_for(params: ClassifierParams, n_train: int) -> int:
    """Few pages need more passes: at 5 epochs fastText has hardly moved on a few hundred."""
    return params.epoch if params.epoch is not None else max(5, min(50, -(-100_000 // max(1, n_train))))
