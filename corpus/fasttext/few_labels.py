"""Scores of a model of few labels: its projection, the table of known tokens, and the kernel over both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from corpus.fasttext.chunk import new_room
from corpus.fasttext.model_file import ModelFile
from corpus.fasttext.projection import Projection, project
from corpus.fasttext.tally import tally_documents
from corpus.fasttext.token_table import new_table
from corpus.fasttext.vocabulary import Vocabulary, address


class FewLabels:
    """A projected model. Memory: 4 bytes a row and output, ``cache_bytes`` of known tokens. Not for two threads at a time."""

    def __init__(self, projection: Projection, cache_bytes: int) -> None:
        self._projection = projection
        self._table, self._memory = new_table(projection.words.dim, cache_bytes)

    def scores(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], word_ngrams: int, max_chars: int, folds: int,
               labels: Sequence[int], scores: npt.NDArray[np.float32]) -> None:  # fmt: skip
        """Write the labels' probabilities in the texts data[offsets[i] : offsets[i + 1]] to scores [n, len(labels)].

        The others are tally.tally_documents'.
        """
        n, words = len(offsets) - 1, self._projection.words
        totals, n_rows = np.zeros((n, words.dim), np.int64), np.zeros(n, np.int64)
        room, memory = new_room(int(np.diff(offsets).max()), word_ngrams)
        tally_documents(address(data), offsets, words, word_ngrams, max_chars, folds, self._table, room, totals, n_rows)
        del memory  # the room's; it lives until here
        for column, label in enumerate(labels):
            scores[:, column] = self._projection.probability(totals, n_rows, label)


def open_few_labels(file: ModelFile, words: Vocabulary, weights_LD: npt.NDArray[np.float32], cache_bytes: int) -> FewLabels | None:
    """None if the model has too many labels; see projection.project."""
    projection = project(file, words, weights_LD)
    return None if projection is None else FewLabels(projection, cache_bytes)
