"""What training works on: the collected pages, one row an id, split into sides. The same for every task that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from corpus.classifier.collect import COLLECTED, SAMPLE, SAMPLED, TEXTS, collected
from corpus.classifier.model import Pages
from corpus.classifier.params import ClassifierParams
from corpus.classifier.split import Split, split
from corpus.draw import unit_interval
from store.errors import InputError
from store.fs import Folder

MIN_PAGES = 20


@dataclass(frozen=True)
class Material:
    """Labelled pages (id, label, group, host, text; sorted by id) and their split. Memory: the heads of all labelled pages."""

    params: ClassifierParams
    pages: pl.DataFrame
    split: Split

    @classmethod
    def read(cls, folder: Folder, params: ClassifierParams) -> Material:
        """From the working files of a step. InputError: too few pages or classes were found in the source."""
        table = collected(folder, TEXTS, COLLECTED).sort_by([("id", "ascending"), ("text", "ascending")])
        # A page may occur twice in the source under one id: it is one labelled page.
        pages = cast(pl.DataFrame, pl.from_arrow(table)).unique("id", keep="first", maintain_order=True)
        if pages["label"].n_unique() < len(params.names) or pages.height < MIN_PAGES:
            raise InputError(f"only {pages.height} labelled pages of {pages['label'].n_unique()} classes were found in the source",
                             where=params.labels, expected=f"at least {MIN_PAGES} pages of {len(params.names)} classes",
                             remedy="check that the ids of the labels are the ids of the source")  # fmt: skip
        return cls(params, pages, split(pages, params))

    def side(self, name: str) -> Pages:
        """The pages of a side."""
        rows = self.split.of(name)
        return Pages.of(self.pages.filter(rows), self.split.groups[rows], self.params.names)

    def part_of_training(self, share: float) -> Pages:
        """Training pages of so large a share of the groups, drawn by group; all if a class would be missing."""
        train = self.side("train")
        numbers = pa.array([str(g) for g in train.groups.tolist()], pa.string())
        rows = np.flatnonzero(unit_interval(numbers, pa.nulls(len(numbers)), "classifier_search") < share)
        if len(np.unique(train.classes[rows])) < len(self.params.names):
            return train
        return Pages([train.texts[i] for i in rows], train.classes[rows], train.groups[rows])


def sampled_pages(folder: Folder, limit: int) -> pl.DataFrame:
    """The ``limit`` pages with the smallest draws of those the units kept (id, draw, passed, n_chars, text), in the order of draws."""
    table = collected(folder, SAMPLE, SAMPLED)
    return cast(pl.DataFrame, pl.from_arrow(table)).sort("draw", "id", "n_chars").head(limit)
