"""Strata of a pool of pages: by host, language score and length, at given values or at quantiles of the pool, and combined.

A stratum is a function of which pages are in the pool, never of their draws, so the draws inside a stratum stay uniform. Its name is
what it says in the summary ("length below 800, language_score 0.9 and more").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from corpus.labelling.params import StratumParams

ALL = "all"
UNKNOWN = "unknown"
COLUMNS = {"language_score": "language_score", "length": "n_chars"}


def strata_of(pool: pl.DataFrame, strata: Sequence[StratumParams]) -> pl.Series:
    """The stratum of each page of a pool (host, language_score, n_chars); "all" without any rule."""
    if not strata:
        return pl.Series("stratum", [ALL] * pool.height, pl.String)
    named = [_one(pool, rule).alias(str(number)) for number, rule in enumerate(strata)]
    return pl.DataFrame(named).select(stratum=pl.concat_str(pl.all(), separator=", "))["stratum"]


def _one(pool: pl.DataFrame, rule: StratumParams) -> pl.Series:
    if rule.hosts is not None:
        host = pl.col("host")
        names = pl.when(host.is_in(list(rule.hosts))).then(pl.concat_str(pl.lit("host "), host)).otherwise(pl.lit("other hosts"))
        return pool.select(found=names)["found"]
    if rule.by == "host":
        return _cut("pages of the host", host_sizes(pool["host"]), rule)
    return _cut(rule.by, pool[COLUMNS[rule.by]].cast(pl.Float64).to_numpy(), rule)


def host_sizes(host: pl.Series) -> npt.NDArray[np.float64]:
    """[n] pages of the pool that a page's host has; a page without one is alone."""
    sizes = pl.DataFrame({"host": host}).with_columns(size=pl.when(pl.col("host").is_null()).then(1).otherwise(pl.len().over("host")))
    return sizes["size"].cast(pl.Float64).to_numpy()


def _cut(name: str, values: npt.NDArray[np.float64], rule: StratumParams) -> pl.Series:
    """Names of the parts that values lie in; NaN is "unknown"."""
    known = ~np.isnan(values)
    if rule.bounds is not None:
        bounds = np.array(rule.bounds, np.float64)
    else:
        assert rule.quantiles is not None
        shares = np.arange(1, rule.quantiles) / rule.quantiles
        # A value of the pool itself; equal ones make one part.
        bounds = np.unique(np.quantile(values[known], shares, method="higher")) if known.any() else np.zeros(0)
    names = [*parts(name, bounds), f"{name} {UNKNOWN}"]
    at = np.where(known, np.searchsorted(bounds, np.where(known, values, 0.0), side="right"), len(bounds) + 1)
    return pl.Series([names[i] for i in at.tolist()], dtype=pl.String)


def parts(name: str, bounds: npt.NDArray[np.float64]) -> list[str]:
    """Names of the parts between bounds."""
    if not len(bounds):
        return [f"{name} any"]
    edges = [f"{b:.6g}" for b in bounds.tolist()]
    inner = [f"{name} {low} to {high}" for low, high in pairwise(edges)]
    return [f"{name} below {edges[0]}", *inner, f"{name} {edges[-1]} and more"]
