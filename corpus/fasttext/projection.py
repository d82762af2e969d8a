"""A classifier of few labels as one whole number a row: what a row of the input matrix adds to each output, known beforehand.

An output is a product of an output row with the mean of input rows, so it is the mean of products too. Of a softmax only differences
between outputs count, so two labels leave one number a row: a table of 800 kB for 200,000 buckets, where the rows take 12.8 MB.
Numbers are int32 in steps of a power of two, and sums int64: exact in any order, on any machine, and within a step of the product's.
Probabilities come from them by plain IEEE arithmetic, an exponential of our own included: a library's may differ in a last bit from
processor to processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.losses import EPSILON, sigmoid_table, sigmoids
from corpus.fasttext.memory import float_at
from corpus.fasttext.model_file import ModelFile
from corpus.fasttext.vocabulary import Vocabulary, address

MOST_LABELS = 8
"""Labels of a model that is multiplied beforehand; the sums of so many fit what vocabulary.sum_token writes to."""
MOST_FLOATS = 1 << 28
"""Floats of an input matrix that is multiplied beforehand: a second of work and a GiB of the file to read."""
COARSEST = 2.0**-20
"""Largest step. Rows that need a larger one, thousands of times longer than any training leaves, are added up as floats."""
LOG2_E, LN2_HIGH, LN2_LOW = 1 / math.log(2), float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
TERMS = tuple(1 / math.factorial(k) for k in range(13, -1, -1))


@dataclass(frozen=True)
class Projection:
    """The dictionary with whole numbers in place of rows.

    Attributes:
        words: its rows are those of ``table`` [rows, k] int32, its dim is k.
        step: an output is step * (sum of a document's rows) / (their number).
        softmax: the k outputs are those of label 1, 2, ... less that of label 0; else those of all labels.
    """

    words: Vocabulary
    table: npt.NDArray[np.int32]
    step: float
    softmax: bool

    def probability(self, totals: npt.NDArray[np.int64], n_rows: npt.NDArray[np.int64], label: int) -> npt.NDArray[np.float32]:
        """[n] of one label, as the library reports them; 0 for a text without rows. totals [n, k], n_rows [n]."""
        scores = np.empty(len(n_rows), np.float32)
        if self.softmax:
            softmax_scores(totals, n_rows, self.step, label, scores)
        else:
            sigmoid_scores(totals, n_rows, self.step, label, sigmoid_table(), scores)
        return scores


def project(file: ModelFile, words: Vocabulary, weights_LD: npt.NDArray[np.float32]) -> Projection | None:
    """Multiply a model's input matrix with its outputs; None if it has too many of them, is too large, or bears a tree.

    Memory: 4 bytes a row and output.
    """
    softmax, n_rows = file.loss == "softmax", file.input.n_rows
    directions = weights_LD.astype(np.float64)
    if file.loss == "hs" or len(directions) > MOST_LABELS or n_rows * file.dim > MOST_FLOATS:
        return None
    if softmax:
        directions = directions[1:] - directions[0]
    k = len(directions)
    if k == 0:
        return None
    most = largest_product(words.rows, n_rows, directions)
    if not most < COARSEST * 2**31:  # NaN too
        return None
    step = math.ldexp(1.0, max(math.frexp(most)[1] - 31, -1000))
    table = np.empty((n_rows, k), np.int32)
    fill_table(words.rows, directions, 1 / step, table)
    return Projection(words._replace(rows=address(table), row_bytes=4 * k, dim=k, padded=16, counts=1), table, step, softmax)


@numba.njit(nogil=True, cache=True, forceinline=True)
def product(at, direction):  # type: ignore[no-untyped-def]
    """Float64 product of the float32 row at an address with a vector, summed in order."""
    total = 0.0
    for j in range(len(direction)):
        total += np.float64(float_at(at + 4 * j)) * direction[j]
    return total


@numba.njit(nogil=True, cache=True)
def largest_product(rows, n_rows, directions_KD):  # type: ignore[no-untyped-def]
    """The largest magnitude of any row's product with any direction; NaN or infinite if one is."""
    most = 0.0
    for row in range(n_rows):
        for k in range(len(directions_KD)):
            found = abs(product(rows + 4 * directions_KD.shape[1] * row, directions_KD[k]))
            if not found <= most:
                if not found < np.inf:
                    return found
                most = found
    return most


@numba.njit(nogil=True, cache=True)
def fill_table(rows, directions_KD, scale, table):  # type: ignore[no-untyped-def]
    """table[r, k] = the product of row r and direction k, times ``scale``, to the nearest whole number."""
    for row in range(len(table)):
        for k in range(len(directions_KD)):
            value = product(rows + 4 * directions_KD.shape[1] * row, directions_KD[k]) * scale
            table[row, k] = np.int32(math.floor(min(value + 0.5, 2147483647.0)))


@numba.njit(nogil=True, cache=True)
def exponential(x):  # type: ignore[no-untyped-def]
    """e^x for x <= 0 by float64 sums and products alone: within a few units of the last place."""
    if x < -700.0:
        return 0.0
    k = math.floor(x * LOG2_E + 0.5)
    rest, total = (x - k * LN2_HIGH) - k * LN2_LOW, 0.0
    for term in TERMS:
        total = total * rest + term
    return math.ldexp(total, int(k))


@numba.njit(nogil=True, cache=True)
def softmax_scores(totals, n_rows, step, label, scores):  # type: ignore[no-untyped-def]
    """scores [n] float32 of one label; output k of ``totals`` is label k + 1's, less label 0's."""
    for i in range(len(totals)):
        scores[i] = 0.0
        if n_rows[i] == 0:
            continue
        factor, most = step / n_rows[i], 0.0
        for k in range(totals.shape[1]):
            most = max(most, totals[i, k] * factor)
        all_labels = exponential(-most)
        for k in range(totals.shape[1]):
            all_labels += exponential(totals[i, k] * factor - most)
        mine = totals[i, label - 1] * factor if label > 0 else 0.0
        scores[i] = min(exponential(mine - most) / all_labels + EPSILON, 1.0)


@numba.njit(nogil=True, cache=True)
def sigmoid_scores(totals, n_rows, step, label, table, scores):  # type: ignore[no-untyped-def]
    """scores [n] float32 of one label, from fastText's table of the logistic function."""
    mine = np.empty((1, 1), np.float32)
    for i in range(len(totals)):
        scores[i] = 0.0
        if n_rows[i] > 0:
            mine[0, 0] = totals[i, label] * (step / n_rows[i])
            sigmoids(mine, 1, table)
            scores[i] = min(np.float64(mine[0, 0]) + EPSILON, 1.0)
