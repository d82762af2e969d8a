"""The one interface of the three kinds: pages in, a model out that gives probabilities of the classes and writes its files.

``fit`` is all that training knows of a kind. Texts are the heads of pages as ``collect`` wrote them; each kind brings them into its own
form. What scores the corpus later reads the files, so files, not objects, are the contract:

    fasttext    model.bin
    embedding   model/ (the frozen encoder and its tokenizer), head.safetensors {weight [L, D], bias [L]}, encoder.json
    encoder     model/ (a sequence classifier and its tokenizer), encoder.json

``encoder.json`` names the classes in the order of the outputs, how texts are prepared, and the digests of the encoder it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from corpus.classifier.params import ClassifierParams
from store.errors import InputError
from store.fs import FileEntry, Folder
from store.params import Json

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pages:
    """Labelled pages of one side.

    Attributes:
        texts: [n] heads.
        classes: [n] number of the class, as in ClassifierParams.names.
        groups: [n] number of the group a page belongs to.
    """

    texts: list[str]
    classes: I64
    groups: I64

    @classmethod
    def of(cls, frame: pl.DataFrame, groups: I64, names: Sequence[str]) -> Pages:
        """From a frame with text and label, and the groups of its rows."""
        number = {name: i for i, name in enumerate(names)}
        return cls(frame["text"].to_list(), np.array([number[c] for c in frame["label"]], np.int64), groups)

    def __len__(self) -> int:
        return len(self.texts)


class Model(Protocol):
    """A trained classifier. ``facts`` are for the card: settings and what training found."""

    facts: dict[str, Json]

    def probabilities(self, texts: Sequence[str]) -> F64:
        """[n, L] probabilities of the classes in the order of ClassifierParams.names."""
        ...

    def save(self, folder: Folder) -> list[FileEntry]:
        """Write the files of the contract above."""
        ...


def fit(params: ClassifierParams, train: Pages, validation: Pages, device: str = "cpu") -> Model:
    """Train a model of ``params.kind``. The same pages and parameters give the same model on the same kind of machine.

    Raises:
        InputError: a model of the hub or a folder cannot be read; too few pages.
    """
    if params.kind == "fasttext":
        from corpus.classifier.fasttext_model import fit_fasttext

        return fit_fasttext(params, train)
    if params.kind == "embedding":
        from corpus.classifier.embedding import fit_embedding

        return fit_embedding(params, train, device)
    if not len(validation):
        raise InputError("there are no validation pages to stop by", where="corpus.classifier",
                         expected="labelled pages on the validation side", remedy="give more labels, or raise the share")  # fmt: skip
    from corpus.classifier.finetune import fit_encoder

    return fit_encoder(params, train, validation, device)
