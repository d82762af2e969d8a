"""A fastText classifier over Arrow text columns: best labels, the probability of one label, all labels above a bound.

The answers are the library's (labels but for ties within rounding, probabilities within 1e-3 and usually 1e-6), at many times its
speed; tests hold both. What the library calls a line is the whole text: every separator counts as a space.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.columns import text_buffers
from corpus.fasttext.documents import hidden_vectors, new_cache
from corpus.fasttext.few_labels import FewLabels, open_few_labels
from corpus.fasttext.losses import (
    BLOCK_DOCS,
    EPSILON,
    Tree,
    all_leaves,
    best_leaves,
    best_of,
    huffman_tree,
    leaf_scores,
    multiply,
    sigmoid_table,
    sigmoids,
    softmax,
    to_logs,
)
from corpus.fasttext.lower_case import fold_table
from corpus.fasttext.memory import BLOCK
from corpus.fasttext.model_file import ModelFile, damaged, read_model
from corpus.fasttext.vocabulary import address, index_model

CACHE_BYTES = 64 << 20
"""Memory for kept sums: 524,288 tokens of a model of 16 dimensions, 60,000 of one with 256."""

Labels = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hidden:
    """vectors [n, padded] float32: the mean row of each text; n_rows [n] int64: its rows, 0 if the model knows nothing of the text."""

    vectors: npt.NDArray[np.float32]
    n_rows: npt.NDArray[np.int64]


class FastText:
    """An open model.

    Memory: the file's mapped pages (shared between processes), decoded matrices if it is quantised (lid.176.ftz: 3 MB), 16 to 32 bytes
    a dictionary entry, ``cache_bytes`` of kept sums (as many again if both hidden vectors and the scores of few labels are asked for;
    those take 4 bytes a row and label, too); per call 4 * padded dimension bytes a document, 16 rows of outputs, and twice the
    longest document of address space, of which twice its longest token is used. Threads may share one: they take turns.
    """

    def __init__(self, file: ModelFile, fold_case: bool, max_chars: int | None, cache_bytes: int) -> None:
        self.file, self.max_chars = file, max_chars
        self.labels = file.label_names()
        self._indexed = index_model(file)
        self._words = self._indexed.vocabulary
        self._cache, self._memory = new_cache(self._words.padded, cache_bytes)
        self._folds = fold_table() if fold_case else None
        self._fold_address = address(self._folds) if self._folds is not None else 0
        self._limit = -1 if max_chars is None else max_chars
        weights = file.output.array()
        if not np.isfinite(weights).all():
            raise damaged(file.path, "its output matrix holds NaN or infinite values")
        self._weights_LD = weights
        padding = np.zeros((self._words.padded - file.dim, len(weights)), np.float32)
        self._weights_DL = np.ascontiguousarray(np.concatenate([weights.T, padding]))
        first = file.entries.n_words
        self._tree: Tree | None = huffman_tree(file.entries.counts[first:]) if file.loss == "hs" else None
        self._sigmoid = sigmoid_table()
        self._turn = threading.Lock()
        self._cache_bytes = cache_bytes
        self._few: list[FewLabels | None] = []  # empty until scores are asked for

    @classmethod
    def open(cls, path: str, *, fold_case: bool = False, max_chars: int | None = None, cache_bytes: int = CACHE_BYTES) -> FastText:
        """Open a .bin or .ftz file.

        Args:
            path: a local file.
            fold_case: lower-case the text as polars does.
            max_chars: look at the first so many characters of a text only.
            cache_bytes: memory for kept sums; answers do not depend on it.

        Raises:
            InputError: see corpus.fasttext.model_file.read_model.
        """
        return cls(read_model(path), fold_case, max_chars, cache_bytes)

    def hidden(self, column: pa.Array) -> Hidden:
        """The hidden vectors of a large_string column without nulls: what the other methods judge."""
        vectors, n_rows = np.zeros((len(column), self._words.padded), np.float32), np.zeros(len(column), np.int64)
        for first, last, data, offsets in padded_parts(column):
            room = np.empty(2 * int(np.diff(offsets).max()) + BLOCK, np.uint8)
            found = vectors[first:last], n_rows[first:last]
            with self._turn:
                hidden_vectors(address(data), offsets, self._words, self.file.word_ngrams, self._limit, self._fold_address, self._cache,
                               room, *found)  # fmt: skip
        if not np.isfinite(vectors.sum()):
            raise damaged(self.file.path, "its input matrix holds NaN or infinite values")
        return Hidden(vectors, n_rows)

    def scores(self, column: pa.Array, labels: Sequence[int]) -> Scores:
        """[n, len(labels)] probability of each of the labels in each text of a large_string column without nulls.

        0 where the library would not list a label. Models of few labels are asked through corpus.fasttext.few_labels, at several times
        the speed; others have hidden vectors on the way. Which it is depends on the model alone.
        """
        few = self._few_labels()
        if few is None:
            hidden = self.hidden(column)
            found = [self.probability(hidden, label) for label in labels]
            return np.stack(found, axis=1) if found else np.empty((len(column), 0), np.float32)
        scores = np.empty((len(column), len(labels)), np.float32)
        for first, last, data, offsets in padded_parts(column):
            with self._turn:
                few.scores(data, offsets, self.file.word_ngrams, self._limit, self._fold_address, labels, scores[first:last])
        return scores

    def top(self, column: pa.Array) -> tuple[Labels, Scores]:
        """``best`` of the column's hidden vectors, found as ``scores`` are."""
        if self._few_labels() is None:
            return self.best(self.hidden(column))
        scores = self.scores(column, range(len(self.labels)))
        last_first = scores[:, ::-1].argmax(axis=1)  # of equal ones the library takes the last
        labels = (len(self.labels) - 1 - last_first).astype(np.int32)
        best = scores[np.arange(len(scores)), labels]
        return np.where(best > 0, labels, np.int32(-1)), best

    def _few_labels(self) -> FewLabels | None:
        with self._turn:
            if not self._few:
                self._few.append(open_few_labels(self.file, self._words, self._weights_LD, self._cache_bytes))
        return self._few[0]

    def best(self, hidden: Hidden) -> tuple[Labels, Scores]:
        """[n] index of the best label (-1: the text has nothing the model knows) and [n] its probability (then 0)."""
        n = len(hidden.n_rows)
        labels, scores = np.empty(n, np.int32), np.empty(n, np.float32)
        if self._tree is not None:
            best_leaves(hidden.vectors, hidden.n_rows, self._weights_LD, self._tree, labels, scores)
            return labels, scores
        for first, out in self._outputs(hidden):
            best_of(out, len(out), first, hidden.n_rows, labels, scores)
        return labels, scores

    def probability(self, hidden: Hidden, label: int) -> Scores:
        """[n] probability of the label with index ``label``; 0 where the library would not list it."""
        scores = np.empty(len(hidden.n_rows), np.float32)
        if self._tree is not None:
            leaf_scores(hidden.vectors, hidden.n_rows, self._weights_LD, self._tree, label, scores)
            return scores
        for first, out in self._outputs(hidden):
            scores[first : first + len(out)] = out[:, label]
        logs = np.log(scores.astype(np.float64) + EPSILON).astype(np.float32)
        return np.asarray(np.where(hidden.n_rows > 0, np.minimum(np.exp(logs), np.float32(1.0)), np.float32(0.0)), np.float32)

    def above(self, hidden: Hidden, min_score: float) -> tuple[npt.NDArray[np.int64], Labels, Scores]:
        """All labels with at least ``min_score``, best first: document i's are [offsets[i], offsets[i + 1]) of the other two."""
        bound = np.float32(np.log(min_score)) if min_score > 0 else np.float32(-np.inf)
        offsets = np.zeros(len(hidden.n_rows) + 1, np.int64)
        labels, scores = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for first, out in self._outputs(hidden):
            if self._tree is None:
                to_logs(out, len(out), first, hidden.n_rows)
            row, label = np.nonzero((out >= bound) & (out > -np.inf))
            order = np.lexsort((-out[row, label], row))
            offsets[first + 1 : first + len(out) + 1] = np.bincount(row, minlength=len(out))
            labels.append(label[order].astype(np.int32))
            scores.append(np.minimum(np.exp(out[row, label][order]), np.float32(1.0)))
        return np.cumsum(offsets), np.concatenate(labels), np.concatenate(scores)

    def _outputs(self, hidden: Hidden) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(index of the first document, [at most BLOCK_DOCS, L]) probabilities of all labels; logarithms for hierarchical softmax."""
        room = np.empty((BLOCK_DOCS, len(self.labels)), np.float32)
        for first in range(0, len(hidden.n_rows), BLOCK_DOCS):
            n = min(BLOCK_DOCS, len(hidden.n_rows) - first)
            if self._tree is not None:
                vectors, n_rows = hidden.vectors[first : first + n], hidden.n_rows[first : first + n]
                all_leaves(vectors, n_rows, self._weights_LD, self._tree, room)
            else:
                multiply(hidden.vectors, first, n, self._weights_DL, room)
                if self.file.loss == "softmax":
                    softmax(room, n)
                else:
                    sigmoids(room, n, self._sigmoid)
            yield first, room[:n]


def padded_parts(column: pa.Array) -> Iterator[tuple[int, int, npt.NDArray[np.uint8], Offsets]]:
    """(first text, one behind the last, bytes, offsets): parts of a column behind whose texts a kernel may look BLOCK bytes.

    The texts that end too near the buffer's end are copied.
    """
    offsets, data = text_buffers(column)
    safe = int(np.searchsorted(offsets[1:], len(data) - BLOCK, side="right"))
    if safe > 0:
        yield 0, safe, data, np.array(offsets[: safe + 1])  # one kind of array for the compiler
    rest = offsets[safe:]
    if len(rest) > 1:
        yield safe, len(column), np.concatenate([data[rest[0] : rest[-1]], np.zeros(BLOCK, np.uint8)]), rest - rest[0]
