"""Which pages of a pool are labelled, each with the probability that it had: threshold sampling by a hash of the page's id.

A page i has a draw u_i in [0, 1), a hash of its id. The pool holds the pages with u_i below a share s of the source. Of a stratum the
pages with the smallest draws are taken, at most ``max_per_host`` of a host. A page is in the sample if and only if

    u_i < t_i = min(t_stratum, t_host),

where t_host is the draw of the host's first page too many (s if it has none), and t_stratum that of the stratum's first eligible page
which is not taken (s if all are). Neither changes if u_i is replaced by 0 for any pages of the sample, so the thresholds are
substitutable (Ting 2017, arXiv 1708.04970, "Adaptive threshold sampling"): as if every page had been drawn by itself with probability
t_i, sums weighted by 1 / t_i are unbiased (Horvitz and Thompson 1952). Nothing else that is counted here looks at a draw below its
threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from corpus.classifier.labels import shares
from corpus.labelling.params import RoundParams
from corpus.labelling.strata import strata_of
from store.errors import InputError

LEAST = 2
"""Pages of every stratum, where it has them: fewer say nothing about how much they differ."""


@dataclass(frozen=True)
class Chosen:
    """The pages of a round.

    Attributes:
        pages: the pool's columns with stratum, probability (null: it has none) and picked (random or boundary); sorted by id.
        strata: a row a stratum: stratum, n_pool, n_eligible (under max_per_host), n, threshold.
    """

    pages: pl.DataFrame
    strata: pl.DataFrame


def distinct(pool: pl.DataFrame) -> pl.DataFrame:
    """One row an id, that with the smallest key, in the order of draws."""
    return pool.sort("id", "doc_key").unique("id", keep="first", maintain_order=True).sort("draw", "id")


def drawn(pool: pl.DataFrame, round_: RoundParams, share: float, max_per_host: int | None, n: int | None = None) -> Chosen:
    """Pages of a pool of distinct ids (id, host, draw, n_chars, language_score) in the order of draws.

    Args:
        pool: the pages with draws below ``share`` that may be taken.
        round_: its strata and allocation.
        share: s above.
        max_per_host: of the round.
        n: pages to take; None: the round's.

    Raises:
        InputError: there are more strata than pages to take.
    """
    frame = pool.with_columns(strata_of(pool, round_.strata).alias("stratum")).with_columns(_host_threshold(max_per_host, share))
    sizes = frame.group_by("stratum").agg(n_pool=pl.len(), n_eligible=pl.col("eligible").sum()).sort("stratum")
    quotas = allocation(dict(sizes.select("stratum", "n_pool").iter_rows()), dict(sizes.select("stratum", "n_eligible").iter_rows()),
                        round_.n if n is None else n, round_.allocation)  # fmt: skip
    sizes = sizes.with_columns(n=pl.Series([quotas[s] for s in sizes["stratum"]], dtype=pl.Int64))
    eligible = frame.filter("eligible").with_columns(place=pl.int_range(pl.len()).over("stratum")).join(sizes, on="stratum")
    first_left = eligible.filter(pl.col("place") == pl.col("n")).select("stratum", threshold="draw")
    sizes = sizes.join(first_left, on="stratum", how="left").with_columns(pl.col("threshold").fill_null(share)).sort("stratum")
    taken = eligible.filter(pl.col("place") < pl.col("n")).join(sizes.select("stratum", "threshold"), on="stratum")
    taken = taken.with_columns(probability=pl.min_horizontal("threshold", "t_host"), picked=pl.lit("random"))
    return Chosen(taken.select(*pool.columns, "stratum", "probability", "picked").sort("id"), sizes)


def _host_threshold(max_per_host: int | None, share: float) -> list[pl.Expr]:
    """Columns eligible and t_host of a frame in the order of draws."""
    if max_per_host is None:
        return [pl.lit(True).alias("eligible"), pl.lit(share).alias("t_host")]
    alone = pl.col("host").is_null()
    place = pl.int_range(pl.len()).over("host")
    # The draw of the host's page number max_per_host, counted from 0.
    next_draw = pl.col("draw").slice(max_per_host, 1).first().over("host")
    return [
        (alone | (place < max_per_host)).alias("eligible"),
        pl.when(alone).then(share).otherwise(next_draw.fill_null(share)).alias("t_host"),
    ]


def allocation(sizes: Mapping[str, int], limits: Mapping[str, int], n: int, how: str) -> dict[str, int]:
    """Pages to take of each stratum: at most its limit, LEAST of each where it has them, the rest by size or equally; they sum to n.

    What a stratum cannot give, the others do. InputError: there are more strata than n.
    """
    names = sorted(k for k in sizes if limits[k] > 0)
    if len(names) > n:
        raise InputError(f"{n} pages cannot stand for {len(names)} strata", where="corpus.labelling.sample.rounds",
                         remedy="label more pages, or cut into fewer strata")  # fmt: skip
    if how == "equal":
        found = dict(zip(names, shares([limits[k] for k in names], n), strict=True))
        return {k: found.get(k, 0) for k in sizes}
    least = LEAST if LEAST * len(names) <= n else 1
    out = {k: min(least, limits[k]) if k in names else 0 for k in sizes}
    while (left := min(n, sum(limits.values())) - sum(out.values())) > 0:
        open_ = [k for k in names if out[k] < limits[k]]
        total = sum(sizes[k] for k in open_)
        # The gap to a stratum's fair share; the largest remainders, then the names, decide.
        want = {k: max(0.0, n * sizes[k] / sum(sizes.values()) - out[k]) for k in open_}
        scale = left / sum(want.values()) if sum(want.values()) > 0 else 0.0
        exact = {k: want[k] * scale if scale else left * sizes[k] / total for k in open_}
        whole = {k: min(int(exact[k]), limits[k] - out[k]) for k in open_}
        if not any(whole.values()):
            for k in sorted(open_, key=lambda k: (whole[k] - exact[k], k))[:left]:
                out[k] += 1
            continue
        for k, extra in whole.items():
            out[k] += extra
    return out


def nearest(pool: pl.DataFrame, round_: RoundParams, share: float, max_per_host: int | None, threshold: float) -> Chosen:
    """A random part with probabilities, then the pages whose score is nearest to the threshold, which have none.

    ``pool`` as for ``drawn``, with a column score. A host gives at most ``max_per_host`` pages to both parts together.
    """
    part = drawn(pool, round_, share, max_per_host, round(round_.random_share * round_.n)) if round_.random_share > 0 else None
    taken = part.pages if part is not None else pool.clear().with_columns(
        stratum=pl.lit(None, pl.String), probability=pl.lit(None, pl.Float64), picked=pl.lit(None, pl.String)
    )  # fmt: skip
    rest = pool.join(taken.select("id"), on="id", how="anti").with_columns(gap=(pl.col("score") - threshold).abs())
    rest = rest.sort("gap", "draw", "id")
    if max_per_host is not None:
        used = taken.drop_nulls("host").group_by("host").agg(used=pl.len())
        rest = rest.join(used, on="host", how="left", maintain_order="left").with_columns(pl.col("used").fill_null(0))
        place = pl.int_range(pl.len()).over("host") + pl.col("used")
        rest = rest.filter(pl.col("host").is_null() | (place < max_per_host))
    close = rest.head(round_.n - taken.height).select(
        *pool.columns, stratum=pl.lit("boundary"), probability=pl.lit(None, pl.Float64), picked=pl.lit("boundary")
    )
    sizes = part.strata if part is not None else pl.DataFrame(
        schema={"stratum": pl.String, "n_pool": pl.UInt32, "n_eligible": pl.UInt32, "n": pl.Int64, "threshold": pl.Float64}
    )  # fmt: skip
    return Chosen(pl.concat([taken.select(close.columns), close]).sort("id"), sizes)
