"""People's labels: rows of sheets, checked; of a page that several people labelled, what most of them say.

A file of people's labels is JSONL of {"id", "label", "annotator"}, one line for each page and person, without text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from corpus.labelling.sheet import read_sheet
from store.errors import InputError

NOBODY = ""
"""The annotator of rows that name none."""
SHOWN_ROWS = 5


@dataclass(frozen=True)
class People:
    """Checked labels.

    Attributes:
        rows: id, label, annotator ("" without a name), a row for each page and person; sorted.
        n_empty: rows without a label, left out.
    """

    rows: pl.DataFrame
    n_empty: int

    def decided(self) -> pl.DataFrame:
        """id and label of pages on which more than half of their people agree; sorted by id."""
        votes = self.rows.group_by("id", "label").agg(n=pl.len()).with_columns(all=pl.col("n").sum().over("id"))
        return votes.filter(2 * pl.col("n") > pl.col("all")).select("id", "label").sort("id")

    @property
    def n_undecided(self) -> int:
        """Pages on which no label has more than half of their people."""
        return self.rows["id"].n_unique() - self.decided().height

    def pairs(self) -> list[tuple[int, int, pl.DataFrame]]:
        """(number of one person, of another, their labels a and b of the pages that both labelled); numbers by name, from 1."""
        each = {name: part.select("id", "label") for (name,), part in self.rows.group_by("annotator", maintain_order=True)}
        names = sorted(str(n) for n in each)
        out = []
        for one, other in combinations(names, 2):
            both = each[one].rename({"label": "a"}).join(each[other].rename({"label": "b"}), on="id").sort("id")
            if both.height:
                out.append((names.index(one) + 1, names.index(other) + 1, both))
        return out

    def jsonl(self) -> bytes:
        """The file of labels."""
        lines = [{"id": i, "label": label, **({"annotator": who} if who else {})} for i, label, who in self.rows.iter_rows()]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def read_people(urls: Sequence[str], labels: Sequence[str], known: Set[str] | None = None) -> People:
    """Read sheets, or files of people's labels.

    Args:
        labels: what people may say; capitals do not matter.
        known: ids that may occur; None: any.

    Raises:
        InputError: no id, an unknown one, a label outside the set, or two labels by one person for one page; with the rows.
    """
    frames = [_checked(read_sheet(url), url, labels, known) for url in urls]
    whole = pl.concat(frames)
    rows = whole.drop_nulls("label").select("id", "label", pl.col("annotator").fill_null(NOBODY)).unique()
    rows = rows.sort("id", "annotator", "label")
    if (twice := rows.filter(pl.struct("id", "annotator").is_duplicated())).height:
        pages = whole.drop_nulls("label").filter(pl.col("id").is_in(twice["id"].to_list()))
        raise InputError(f"{twice['id'].n_unique()} pages have two different labels by one person ({_rows(pages['row'])})",
                         where=", ".join(urls), expected="one label for each page and person",
                         remedy="give each person a name in the column annotator, or decide")  # fmt: skip
    return People(rows, whole["label"].null_count())


def _checked(frame: pl.DataFrame, url: str, labels: Sequence[str], known: Set[str] | None) -> pl.DataFrame:
    """Rows with labels spelt as the set has them."""
    if (nameless := frame.filter(pl.col("id").is_null() & pl.col("label").is_not_null())).height:
        raise InputError(f"{nameless.height} rows have a label and no id ({_rows(nameless['row'])})", where=url)
    frame = frame.drop_nulls("id")
    if known is not None and (strange := frame.filter(~pl.col("id").is_in(list(known)))).height:
        raise InputError(f"{strange.height} ids are not of pages that were drawn to be labelled ({_rows(strange['row'])})", where=url,
                         expected="ids as they were exported (a spreadsheet may have changed long numbers or dates)",
                         remedy="take the ids from the exported sheet, or name the run it is of")  # fmt: skip
    spelt = {name.casefold(): name for name in labels}
    folded = pl.Series("folded", [None if v is None else v.casefold() for v in frame["label"].to_list()], pl.String)
    frame = frame.with_columns(folded)
    if (wrong := frame.filter(~pl.col("folded").is_in(list(spelt)))).height:
        raise InputError(f"{wrong.height} labels are none of the set ({_rows(wrong['row'])})", where=url, expected=", ".join(labels),
                         remedy="correct them; leave the label empty where there is none")  # fmt: skip
    return frame.with_columns(label=pl.col("folded").replace_strict(spelt, return_dtype=pl.String)).drop("folded")


def _rows(numbers: pl.Series) -> str:
    shown = [str(n) for n in numbers.head(SHOWN_ROWS).to_list()]
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(shown)}{', …' if len(numbers) > SHOWN_ROWS else ''}"
