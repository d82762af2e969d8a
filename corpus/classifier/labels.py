"""Labels: a file of page ids, read, checked, reduced to the classes that are learnt, and cut to a limit class by class."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from corpus.classifier.params import ClassifierParams
from corpus.draw import unit_interval
from store.errors import InputError, RecipeError
from store.fs import read_bytes


def read_labels(params: ClassifierParams) -> pl.DataFrame:
    """Columns id, label and group (null without ``group_column``), one row per id.

    Raises:
        RecipeError: no file is named.
        InputError: missing columns, two labels or groups of one id, one class only.
    """
    if params.labels is None:
        raise RecipeError("there are no labels to learn from", where="corpus.classifier.labels",
                          remedy="name a file of labels, or let the recipe make them (corpus.labelling)")  # fmt: skip
    where = params.labels
    frame = _read(where)
    wanted = {"id_column": params.id_column, "label_column": params.label_column, "group_column": params.group_column}
    for key, column in wanted.items():
        if column is not None and column not in frame.columns:
            raise InputError(f"the column {column} is missing", where=where, expected=f"one of {', '.join(frame.columns)}",
                             remedy=f"set corpus.classifier.{key}")  # fmt: skip
    group = pl.lit(None, pl.String) if params.group_column is None else pl.col(params.group_column).cast(pl.String)
    frame = frame.select(
        id=pl.col(params.id_column).cast(pl.String), label=pl.col(params.label_column).cast(pl.String), group=group
    ).drop_nulls(["id", "label"])
    frame = _classes(frame.filter(~pl.col("label").is_in(list(params.ignore))), params).unique().sort("id", "label", "group")
    twice = frame.filter(pl.col("id").is_duplicated())
    if twice.height:
        raise InputError(f"{twice['id'].n_unique()} ids have two different labels or groups", where=where,
                         remedy="keep one label per id")  # fmt: skip
    if frame["label"].n_unique() < 2:
        found = ", ".join(frame["label"].unique().sort())
        raise InputError(f"the labels hold one class only ({found})", where=where, expected=f"pages of {' and '.join(params.names)}",
                         remedy="check corpus.classifier.positive, classes and label_column")  # fmt: skip
    return at_most(frame, params.max_labels, params.names)


def _read(url: str) -> pl.DataFrame:
    data, name = read_bytes(url), url.lower()
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(data)
        return pl.read_csv(data, infer_schema=False) if name.endswith(".csv") else pl.read_ndjson(data)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the labels cannot be read ({type(error).__name__})", where=url, expected="Parquet, CSV or JSONL") from error


def _classes(frame: pl.DataFrame, params: ClassifierParams) -> pl.DataFrame:
    if params.classes is not None:
        return frame.filter(pl.col("label").is_in(list(params.classes)))
    wanted = pl.col("label") == params.positive
    return frame.with_columns(label=pl.when(wanted).then(pl.lit(params.positive)).otherwise(pl.lit("other")))


def at_most(frame: pl.DataFrame, limit: int | None, names: tuple[str, ...]) -> pl.DataFrame:
    """At most ``limit`` rows, as many of each class as far as they go; those with the smallest draws, a function of the ids."""
    if limit is None or frame.height <= limit:
        return frame
    ids = pa.array(frame["id"].to_list(), pa.string())
    drawn = frame.with_columns(draw=unit_interval(ids, pa.nulls(len(ids)), "labels")).sort("draw", "id")
    parts = [drawn.filter(pl.col("label") == name) for name in names]
    quotas = shares([p.height for p in parts], limit)
    return pl.concat([p.head(q) for p, q in zip(parts, quotas, strict=True)]).drop("draw").sort("id")


def shares(sizes: list[int], limit: int) -> list[int]:
    """Equal shares of ``limit`` among classes of these sizes; what a small class leaves goes to the others, the first ones first."""
    out, left = [0] * len(sizes), limit
    while left > 0 and (open_ := [i for i, n in enumerate(sizes) if out[i] < n]):
        each = max(1, left // len(open_))
        for i in open_:
            take = min(sizes[i] - out[i], each, left)
            out[i] += take
            left -= take
    return out
