"""Which kept pages resemble a page: an answer from the signatures of a corpus, or of its index, without reading the corpus' text.

All queries together read each band's column once (8 bytes a document and band; 10 million documents take about two seconds), and
then the shingle sets or texts of the few documents that share a band, for their true similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dedup.index import signed_with
from corpus.dedup.run import signatures_of
from corpus.dedup.signatures import Signatures
from corpus.dedup.similarity import jaccard
from corpus.dedup.verify import shingle_lists
from corpus.minhash import NEVER
from corpus.shingles import Grams
from store.artifact import Artifact
from store.fs import open_input
from store.schema import EXACT, KEY, band_name


@dataclass(frozen=True)
class Match:
    """A kept page that resembles a query.

    Attributes:
        query: number of the query.
        doc_key, id, url: the page.
        jaccard: true similarity of the word shingles, numbers kept.
        n_bands: bands that both share, of the corpus' number of bands.
        exact: equal once case, numbers, punctuation and white space are ignored.
    """

    query: int
    doc_key: int
    id: str | None
    url: str | None
    jaccard: float
    n_bands: int
    exact: bool


def lookup(artifact: Artifact, texts: Sequence[str], min_jaccard: float = 0.0) -> list[Match]:
    """Every page of the corpus that shares a band or the exact hash with a text; best first, by query."""
    stage = signed_with(artifact)
    signatures, documents = signatures_of(artifact)
    column = pa.array(texts, pa.large_string())
    signed = stage.open({})(pa.record_batch({"text": column})).columns
    shared = _shared(signatures, signed, stage.buckets)
    sets = shingle_lists(column, stage.grams)
    found: list[Match] = []
    for at, first in enumerate(signatures.first):
        here = shared[(shared["number"] >= first) & (shared["number"] < first + signatures.n_rows[at])]
        if len(here):
            found += _matches(signatures, documents[at], at, here, sets, stage.grams, min_jaccard)
    return sorted(found, key=lambda m: (m.query, -m.jaccard, -m.n_bands, m.doc_key))


SHARED = np.dtype([("number", np.int64), ("query", np.int64), ("n_bands", np.int64), ("exact", np.bool_)])


def _shared(signatures: Signatures, signed: object, n_bands: int) -> npt.NDArray[np.void]:
    """One row per (document, query) that share anything."""
    assert isinstance(signed, dict)
    pairs: dict[tuple[int, int], list[int]] = {}
    for band in (-1, *range(n_bands)):
        names = EXACT if band < 0 else (band_name(band),)
        wanted = [signed[name].to_numpy() for name in names]
        for first, hashes, check in signatures.hashes(band):
            rows = np.flatnonzero(np.isin(hashes, wanted[0]) & (hashes != NEVER))
            for row in rows.tolist():
                for query in np.flatnonzero(wanted[0] == hashes[row]).tolist():
                    if check is None or check[row] == wanted[1][query]:
                        counted = pairs.setdefault((first + row, query), [0, 0])
                        counted[0 if band >= 0 else 1] += 1
    return np.array([(n, q, c[0], c[1] > 0) for (n, q), c in sorted(pairs.items())], SHARED)


def _matches(
    signatures: Signatures, url: str, at: int, here: npt.NDArray[np.void], sets: pa.LargeListArray, grams: Grams, least: float
) -> list[Match]:
    rows = np.unique(here["number"] - signatures.first[at])
    with open_input(url) as source, pq.ParquetFile(source) as file:
        content = "shingles" if "shingles" in file.schema_arrow.names else "text"
        table = file.read(columns=[KEY.name, "id", "url", content], use_threads=False).take(pa.array(rows))
    theirs = table[content].combine_chunks()
    theirs = theirs if content == "shingles" else shingle_lists(theirs, grams)
    keys, ids, urls = (table[name].to_pylist() for name in (KEY.name, "id", "url"))
    found = []
    for row in here:
        i = int(np.searchsorted(rows, row["number"] - signatures.first[at]))
        mine, other = sets[int(row["query"])].values.to_numpy(), theirs[i].values.to_numpy()
        similarity = max(0.0, float(jaccard(mine, other, 0.0)))
        if similarity >= least:
            found.append(Match(int(row["query"]), keys[i], ids[i], urls[i], similarity, int(row["n_bands"]), bool(row["exact"])))
    return found
