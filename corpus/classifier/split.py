"""Training, validation and test pages: whole groups on one side, so that a copy of a training page is never a test page.

Pages are of one group if they share a host (``split_by: host``), a value of ``group_column``, or a MinHash band: 20 bands of 6 minima
over word 5-grams of the heads, which two pages of similarity J share with probability 1 - (1 - J^6)^20 (0.92 at 0.7, 0.998 at 0.8).
Groups that share a page are one group. A side is drawn by the name of the group, so adding pages moves no other group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from corpus.classifier.params import ClassifierParams
from corpus.dedup.components import DisjointSets
from corpus.dedup.grouping import forest
from corpus.draw import unit_interval
from corpus.signature import Signature
from store.errors import InputError
from store.schema import EXACT, band_name

I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
SIDES = ("train", "validation", "test")
BANDS, MINIMA = 20, 6
NO_WORD = np.uint64(2**64 - 1)
SIGN_ROWS = 2000


@dataclass(frozen=True)
class Split:
    """Which pages are on which side.

    Attributes:
        sides: [n] 0 training, 1 validation, 2 test.
        groups: [n] number of a page's group: the first page of it.
        n_near: pages that near-duplicates moved into another page's group.
    """

    sides: I64
    groups: I64
    n_near: int

    def of(self, side: str) -> Bools:
        """[n] whether a page is on a side."""
        return np.asarray(self.sides == SIDES.index(side))


def split(pages: pl.DataFrame, params: ClassifierParams) -> Split:
    """Split pages (id, label, group, host, text; sorted by id). InputError where training or test pages lack a class."""
    names = _names(pages, params)
    sets = DisjointSets(pages.height)
    for name in {c for c in ("host", "group") if params.split_by == "host" or c == "group"}:
        sets.union(_equal(pages[name]))
    before = sets.roots().copy()
    if params.near_duplicates:
        for edges in near_duplicates(pages["text"]):
            sets.union(edges)
    roots = sets.roots().astype(np.int64)
    # The smallest name of a group draws for it.
    first = pl.DataFrame({"root": roots, "name": names}).with_columns(name=pl.col("name").min().over("root"))["name"]
    keys = pa.array(first.to_list(), pa.string())
    test = unit_interval(keys, pa.nulls(len(keys)), "classifier_test") < params.test_share
    validation = unit_interval(keys, pa.nulls(len(keys)), "classifier_validation") < params.validation_share
    found = Split(np.where(test, 2, np.where(validation, 1, 0)).astype(np.int64), roots, int((roots != before).sum()))
    _check(pages, found, params)
    return found


def _names(pages: pl.DataFrame, params: ClassifierParams) -> list[str]:
    columns = ["group", *(["host"] if params.split_by == "host" else []), "id"]
    return pages.select(pl.coalesce(*columns))["group"].to_list()


def _equal(values: pl.Series) -> npt.NDArray[np.uint64]:
    """[m, 2] edges from the first of equal values to the others; null equals nothing."""
    frame = pl.DataFrame({"row": np.arange(len(values), dtype=np.uint64), "value": values}).drop_nulls()
    frame = frame.with_columns(first=pl.col("row").min().over("value")).filter(pl.col("first") != pl.col("row"))
    return np.asarray(frame.select("first", "row").to_numpy(), np.uint64)


def near_duplicates(texts: pl.Series) -> Iterator[npt.NDArray[np.uint64]]:
    """[m, 2] edges between pages that share a band or are equal but for case, numbers and signs, band by band."""
    sign = Signature(buckets=BANDS, hashes_per_bucket=MINIMA).open({})
    column = pa.array(texts.to_list(), pa.large_string())
    parts = []
    for first in range(0, len(column), SIGN_ROWS):
        part = column.slice(first, SIGN_ROWS)
        batch = pa.RecordBatch.from_arrays([pa.array(part.to_pylist(), pa.large_string())], names=["text"])
        parts.append(sign(batch).columns)
    for name in (*(band_name(b) for b in range(BANDS)), EXACT[0]):
        hashes = np.concatenate([p[name].to_numpy() for p in parts])
        rows = np.flatnonzero(hashes != NO_WORD).astype(np.uint64)
        yield np.asarray(forest(hashes[rows.astype(np.int64)], rows), np.uint64)


def _check(pages: pl.DataFrame, found: Split, params: ClassifierParams) -> None:
    for side in ("train", "test"):
        there = pages.filter(found.of(side))["label"].unique().to_list()
        if missing := [n for n in params.names if n not in there]:
            n_groups = len(np.unique(found.groups))
            raise InputError(f"no page of {', '.join(missing)} is on the side of the {side} pages ({n_groups} groups in all)",
                             where="corpus.classifier", expected=f"pages of every class among {side} pages",
                             remedy="give more labels, or smaller groups (split_by, group_column)")  # fmt: skip
