"""How right a run was: its artifacts against recorded truth about the pages (planted duplicates, personal data, junk, languages).

Truth is read from either layout: the built-in sample's (language, dup_kind "none", lists of values) or a table with the columns lang,
dup_kind/dup_group/edit_rate, pii_kind/pii_value, junk with nulls.
"""

from __future__ import annotations

import glob
import ipaddress
import os
from typing import cast

import polars as pl

from store.artifact import Artifact

Figures = dict[str, float | int | None]
EDIT_DIGITS = 3


def read_truth(pattern: str) -> pl.DataFrame:
    """One row per page: id, german (bool), junk (bool), group, edit_rate, pii (list of {kind, value})."""
    raw = pl.read_parquet(sorted(glob.glob(pattern)))
    if "pii_kinds" in raw.columns:
        pairs = pl.struct(kind=pl.col("pii_kinds"), value=pl.col("pii_values"))
        return raw.select(
            "id", german=(pl.col("language") == "deu") & (pl.col("junk") == ""), junk=pl.col("junk") != "",
            group=pl.when(pl.col("dup_kind") != "none").then(pl.col("dup_group")), edit_rate=pl.col("edit_rate"),
            kinds=pairs.struct.field("kind"), values=pairs.struct.field("value"),
        )  # fmt: skip
    one = pl.col("pii_kind").is_not_null()
    empty = pl.lit([], dtype=pl.List(pl.String))
    return raw.select(
        "id", german=(pl.col("lang").str.starts_with("de")) & pl.col("junk").is_null(), junk=pl.col("junk").is_not_null(),
        group=pl.when(pl.col("dup_kind").is_not_null()).then(pl.col("dup_group")), edit_rate=pl.col("edit_rate"),
        kinds=pl.when(one).then(pl.concat_list("pii_kind")).otherwise(empty),
        values=pl.when(one).then(pl.concat_list("pii_value")).otherwise(empty),
    )  # fmt: skip


def _parquet(artifact: Artifact, prefix: str, columns: list[str]) -> pl.DataFrame:
    files = [artifact.path(e.name) for e in artifact.files(prefix)]
    return pl.concat([pl.read_parquet(f, columns=columns) for f in files]) if files else pl.DataFrame(schema=columns)


def language_figures(truth: pl.DataFrame, documents: Artifact) -> Figures:
    """Of pages that are not junk: German ones the language stage lets pass (recall), and German share of what passes (precision)."""
    lost = _parquet(documents, "dropped/", ["id", "stage"]).filter(pl.col("stage") == "language").select("id").unique()
    pages = truth.filter(~pl.col("junk")).join(lost.with_columns(lost=True), on="id", how="left")
    passed = pages.filter(pl.col("lost").is_null())
    german = int(pages["german"].sum())
    return {
        "language.recall": float(passed["german"].sum()) / max(1, german),
        "language.precision": float(passed["german"].sum()) / max(1, passed.height),
        "language.n_german": german,
        "language.n_other": pages.height - german,
    }


def junk_figures(truth: pl.DataFrame, documents: Artifact) -> Figures:
    """Junk that pass 1 drops (recall), and German pages its quality rules drop beside it (their price)."""
    dropped = _parquet(documents, "dropped/", ["id", "stage"]).unique("id")
    pages = truth.join(dropped, on="id", how="left")
    junk = pages.filter(pl.col("junk"))
    quality = pl.col("stage").is_in(["gopher_repetition", "fineweb_quality", "gopher_quality"])
    hit = pages.filter(quality.fill_null(False))
    german = pages.filter(pl.col("german"))
    return {
        "junk.recall": junk.filter(pl.col("stage").is_not_null()).height / max(1, junk.height),
        "junk.n": junk.height,
        "quality.german_pages_dropped_share": german.filter(quality.fill_null(False)).height / max(1, german.height),
        "quality.junk_share_of_dropped": hit.filter(pl.col("junk")).height / max(1, hit.height),
    }


def duplicate_figures(truth: pl.DataFrame, documents: Artifact, dedup: Artifact, pairs: str | None) -> Figures:
    """Planted copies that share a cluster with their original, by edit rate, among copies and originals that reached dedup."""
    kept = _parquet(documents, "kept/", ["id", "doc_key"])
    clusters = pl.read_parquet(dedup.path("clusters.parquet")).select("doc_key", "survivor_key")
    placed = kept.join(clusters, on="doc_key", how="left").with_columns(cluster=pl.coalesce("survivor_key", "doc_key"))
    where = placed.select("id", "cluster")
    copies = truth.filter(pl.col("group").is_not_null() & (pl.col("group") != pl.col("id"))).join(where, on="id")
    both = copies.join(where.rename({"id": "group", "cluster": "original"}), on="group")
    both = both.with_columns(found=pl.col("cluster") == pl.col("original"), rate=pl.col("edit_rate").round(EDIT_DIGITS))
    out: Figures = {"dedup.n_planted_pairs": both.height}
    for rate, n, share in both.group_by("rate").agg(pl.len(), pl.col("found").mean()).sort("rate").iter_rows():
        out[f"dedup.recall_at_edit_rate_{rate:g}"] = share
        out[f"dedup.n_at_edit_rate_{rate:g}"] = n
    return out | (_pair_precision(placed, pairs) if pairs is not None and os.path.isfile(pairs) else {})


def _pair_precision(placed: pl.DataFrame, pairs: str) -> Figures:
    """Of pairs the pipeline calls duplicates (member and survivor): the share whose true Jaccard is at least 0.6 (and 0.5)."""
    ids = placed.select("doc_key", "id")
    called = placed.filter(pl.col("survivor_key").is_not_null() & (pl.col("survivor_key") != pl.col("doc_key"))).select(
        "id", "survivor_key"
    )
    called = called.join(ids.rename({"doc_key": "survivor_key", "id": "other"}), on="survivor_key")
    truth = pl.read_parquet(pairs)
    both_ways = pl.concat(
        [truth.select(id="id_a", other="id_b", jaccard="jaccard"), truth.select(id="id_b", other="id_a", jaccard="jaccard")]
    )
    judged = called.join(both_ways.unique(["id", "other"]), on=["id", "other"], how="left").with_columns(
        pl.col("jaccard").fill_null(0.0)
    )
    return {
        "dedup.n_called_pairs": judged.height,
        "dedup.pair_precision_at_0.6": cast(float, (judged["jaccard"] >= 0.6).mean()),
        "dedup.pair_precision_at_0.5": cast(float, (judged["jaccard"] >= 0.5).mean()),
    }


def privacy_figures(truth: pl.DataFrame, documents: Artifact) -> Figures:
    """Planted values that no kept text holds any more (recall by kind), and masks in pages in which nothing was planted.

    Values that are no personal data are left out: private, reserved and loopback addresses are to stay.
    """
    kept = _parquet(documents, "kept/", ["id", "text", "n_masked"])
    planted = truth.select("id", "kinds", "values").explode("kinds", "values").drop_nulls().rename({"kinds": "kind", "values": "value"})
    planted = planted.filter(pl.struct("kind", "value").map_elements(_is_public, return_dtype=pl.Boolean))
    found = planted.join(kept.select("id", "text"), on="id")
    found = found.with_columns(left=pl.col("text").str.contains(pl.col("value"), literal=True))
    out: Figures = {"privacy.n_planted": found.height, "privacy.recall": 1.0 - float(found["left"].mean() or 0.0)}  # type: ignore[arg-type]
    for kind, share, n in found.group_by("kind").agg(pl.col("left").mean(), pl.len()).sort("kind").iter_rows():
        out[f"privacy.recall_{kind}"] = 1.0 - share
        out[f"privacy.n_{kind}"] = n
    clean = kept.join(planted.select("id").unique(), on="id", how="anti")
    out["privacy.masks_where_nothing_was_planted"] = int(clean["n_masked"].sum())
    return out


def _is_public(row: dict[str, str]) -> bool:
    if not row["kind"].startswith("ip"):
        return True
    address = ipaddress.ip_address(row["value"])
    documentation = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
    networks = [ipaddress.ip_network(n) for n in documentation]
    return address.is_global or any(address.version == n.version and address in n for n in networks)


def all_figures(truth: pl.DataFrame, documents: Artifact, dedup: Artifact, pairs: str | None = None) -> Figures:
    """Every figure of this module."""
    return (
        language_figures(truth, documents) | junk_figures(truth, documents)
        | duplicate_figures(truth, documents, dedup, pairs) | privacy_figures(truth, documents)
    )  # fmt: skip
