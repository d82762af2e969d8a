"""fastText models behind one batch call: the library's import and errors, turned into ours."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from store.errors import InputError, ResourceError

LABEL_PREFIX = "__label__"


class Model(Protocol):
    """What the stages use of a loaded fastText model."""

    def predict(self, text: list[str], k: int = 1) -> tuple[list[list[str]], list[npt.NDArray[np.float32]]]:
        """Labels and probabilities of lines, best first."""

    def get_labels(self) -> list[str]:
        """All labels with their prefix."""


def load_model(path: str) -> Model:
    """The model of a .bin or .ftz file.

    Raises:
        ResourceError: fastText is not installed.
        InputError: the file is absent, no fastText model, or not a classifier.
    """
    try:
        import fasttext
    except ImportError as error:
        raise ResourceError("fastText is not installed", remedy="pip install fasttext-community") from error
    try:
        model = fasttext.load_model(path)
    except ValueError as error:
        raise InputError(
            "not a readable fastText model", where=path, expected="a .bin or .ftz file", remedy="check the path"
        ) from error
    if model.f.getArgs().model.name != "supervised":
        raise InputError("the fastText model has no labels", where=path, expected="a supervised model", remedy="train a classifier")
    return cast(Model, model)


def best_labels(model: Model, lines: list[str]) -> tuple[list[str | None], npt.NDArray[np.float64]]:
    """The best label (without prefix; None for a line without known words) and its probability (0 then) of each line."""
    labels, scores = model.predict(lines, k=1)
    names = [found[0].removeprefix(LABEL_PREFIX) if len(found) else None for found in labels]
    # fastText's float32 softmax can exceed 1 by rounding.
    values = np.array([min(float(found[0]), 1.0) if len(found) else 0.0 for found in scores], np.float64)
    return names, values
