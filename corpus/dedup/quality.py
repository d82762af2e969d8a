"""How good the clusters of a run are, without anybody's truth: measured on a sample of its own pages.

The sample is of documents beside their survivor (the ones that deduplication drops), one in so many, drawn by their keys: the same run,
the same sample. Of each such pair the texts and the bands are read and two similarities taken, both of sets of n-grams:

* ``jaccard``: of the lower-case texts as they stand. Its distribution is the precision: what was dropped, and was it a copy?
* ``signed``: of the simplified texts, in which numbers are equal, which is what bands see. A pair that shares at least one band was
  found with probability P(J) = 1 - (1 - J^r)^b, so it stands for 1 / P(J) pairs of its kind (Horvitz and Thompson 1952, "A
  generalization of sampling without replacement from a finite universe"). Found pairs over what they stand for is the share found.

That estimate believes in P. Whether it may is seen beside it: pairs of similarity J that share any band should share
b J^r / P(J) bands on average, and the report compares. It speaks of bands alone: two pages that share none may still come into one
cluster through a third, so clusters find a little more. Where pairs are compared by their true similarity too (``min_jaccard``), only
what was confirmed is in the sample. Memory: 33 bytes per member of a cluster, and the texts of the sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import text_buffers, text_column
from corpus.dedup.displaced import DISPLACED_FILE
from corpus.dedup.index import signed_with
from corpus.dedup.members import Keys, Members
from corpus.dedup.rows import Row, read_rows
from corpus.shingles import Grams
from corpus.simplify import simplify
from store.artifact import Artifact
from store.fs import open_input

WORD = re.compile(r"\w+")
DUPLICATE, UNLIKE = 0.8, 0.6
N_DISPLACED = 50
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Lower ends of intervals of similarity; the last holds 1 alone."""


@dataclass(frozen=True)
class Pair:
    """A document and the survivor of its cluster.

    Attributes:
        size: members of the cluster.
        level: exact or minhash.
        jaccard, signed: similarity of the texts as they stand, and as bands see them.
        n_shared: bands that both share.
    """

    member: Row
    survivor: Row
    size: int
    level: str
    jaccard: float
    signed: float
    n_shared: int

    @property
    def differs_in_numbers(self) -> bool:
        """The same to the bands, not the same as it stands."""
        return self.signed >= DUPLICATE > self.jaccard


@dataclass(frozen=True)
class Cluster:
    """One of the largest clusters: its survivor, and some other members."""

    size: int
    n_exact: int
    survivor: Row
    members: tuple[Row, ...]


@dataclass(frozen=True)
class Recall:
    """Pairs of the sample with ``signed`` in [low, high) that share a band: how many, what they share, what they stand for.

    Attributes:
        n: pairs.
        shared, expected: bands shared on average, and what theory expects of pairs that share any.
        found: estimated share of all such pairs that share a band; None where there are none to tell from.
    """

    low: float
    high: float
    n: int
    shared: float | None
    expected: float | None
    found: float | None


@dataclass(frozen=True)
class Displaced:
    """Documents of earlier corpora that lose to a new one.

    Attributes:
        by_corpus: (corpus, documents): -1 is the last earlier one.
        first: some of them: corpus, id, id of the new one, level.
    """

    by_corpus: tuple[tuple[int, int], ...] = ()
    first: tuple[tuple[int, str | None, str | None, str], ...] = ()

    @property
    def n(self) -> int:
        return sum(n for _, n in self.by_corpus)

    @classmethod
    def read(cls, dedup: Artifact) -> Displaced:
        """Of a dedup artifact."""
        if not dedup.files(DISPLACED_FILE):
            return cls()
        with open_input(dedup.path(DISPLACED_FILE)) as source, pq.ParquetFile(source) as file:
            corpus = file.read(columns=["corpus"], use_threads=False)["corpus"].to_numpy()
            some = file.read_row_group(0, columns=["corpus", "id", "survivor_id", "level"], use_threads=False).slice(0, N_DISPLACED)
        numbers, counts = np.unique(corpus, return_counts=True)
        return cls(tuple(zip(numbers.tolist(), counts.tolist(), strict=True)), tuple(tuple(r.values()) for r in some.to_pylist()))


@dataclass(frozen=True)
class Quality:
    """The report's content.

    Attributes:
        n_docs, n_clusters, n_duplicates: documents compared, clusters of two or more, documents beside a survivor.
        buckets, rows, grams: of the signatures.
        sizes: (least, most, clusters, documents) of clusters by size; most is 1, 2, 4, ... times two.
        n_elsewhere: documents that lose to one of an earlier corpus, whose text is not here: not in the sample.
        displaced: documents of earlier corpora that lose to one of this.
        pairs: the sample.
        recall: by similarity.
        largest: the largest clusters.
    """

    n_docs: int
    n_clusters: int
    n_duplicates: int
    buckets: int
    rows: int
    grams: Grams
    sizes: tuple[tuple[int, int, int, int], ...]
    n_elsewhere: int
    displaced: Displaced
    pairs: tuple[Pair, ...]
    recall: tuple[Recall, ...]
    largest: tuple[Cluster, ...]

    def share(self, low: float, high: float = 2.0) -> float:
        """Share of the sample with ``jaccard`` in [low, high)."""
        return sum(low <= p.jaccard < high for p in self.pairs) / max(1, len(self.pairs))

    def found(self, least: float) -> float | None:
        """Estimated share of pairs of signed similarity ``least`` and more that share a band."""
        return _recall([p for p in self.pairs if p.signed >= least], least, 2.0, self.buckets, self.rows).found

    def spread(self, n: int) -> list[Pair]:
        """About n pairs for the eye: the same number of each interval of similarity, the least alike first, no two of one cluster."""
        chosen: list[Pair] = []
        seen: set[int] = set()
        for low, high in pairwise(BINS):
            fit = [p for p in self.pairs if low <= p.jaccard < high]
            for pair in fit:
                if pair.survivor.key not in seen and sum(low <= c.jaccard < high for c in chosen) < -(-n // (len(BINS) - 1)):
                    seen.add(pair.survivor.key)
                    chosen.append(pair)
        return chosen


def measure(dedup: Artifact, documents: Artifact, n_pairs: int = 2000, n_largest: int = 5, n_members: int = 3) -> Quality:
    """Measure the clusters of ``dedup``, which was made from ``documents`` (kept/ with texts, signatures/)."""
    stage = signed_with(documents)
    members = Members.read(dedup)
    at = members.sample(n_pairs)
    largest = members.largest(n_largest, n_members)
    keys = [members.keys[at], members.survivor[at], *(rows for _, rows in largest), np.array([k for k, _ in largest], np.int64)]
    found = read_rows(documents, np.unique(np.concatenate(keys)), stage.buckets)
    pairs = tuple(_pairs(members, at, found, stage.grams))
    b, r = stage.buckets, stage.hashes_per_bucket
    recall = tuple(
        _recall([p for p in pairs if low <= p.signed < high], low, high, b, r) for low, high in zip(BINS, (*BINS[1:], 2.0), strict=True)
    )
    clusters = tuple(
        Cluster(*members.of(survivor), found[survivor], tuple(found[k] for k in rows.tolist() if k in found))
        for survivor, rows in largest
        if survivor in found
    )
    summary = dedup.manifest.summary
    n_docs = summary["n_docs"]
    assert isinstance(n_docs, int)
    return Quality(
        n_docs, int((members.keys == members.survivor).sum()), int((members.keys != members.survivor).sum()), b, r, stage.grams,
        members.sizes(), members.n_elsewhere, Displaced.read(dedup), pairs, recall, clusters,
    )  # fmt: skip


def _pairs(members: Members, at: Keys, found: dict[int, Row], grams: Grams) -> list[Pair]:
    units: Callable[[str], Sequence[str]] = str if grams.chars else WORD.findall
    signed: Callable[[str], Sequence[str]] = str if grams.chars else str.split
    out = []
    for i in at.tolist():
        a, b = found[int(members.keys[i])], found[int(members.survivor[i])]
        plain = text_column(*simplify(*text_buffers(pa.array([a.text, b.text], pa.large_string())))).to_pylist()
        out.append(Pair(
            a, b, int(members.size[i]), "exact" if members.exact[i] else "minhash",
            jaccard(units(a.text.lower()), units(b.text.lower()), grams.n), jaccard(signed(plain[0]), signed(plain[1]), grams.n),
            sum(x == y for x, y in zip(a.bands, b.bands, strict=True)),
        ))  # fmt: skip
    return out


def jaccard(a: Sequence[str], b: Sequence[str], ngram: int) -> float:
    """Similarity of the sets of n-grams of two lists of words, or two texts; what is shorter is one n-gram. 0 if both are empty."""
    first, second = ({tuple(w[i : i + ngram]) for i in range(max(1, len(w) - ngram + 1))} if w else set() for w in (a, b))
    return len(first & second) / max(1, len(first | second))


def meets(similarity: float, buckets: int, rows: int) -> float:
    """P(J): the probability to share at least one of b bands of r minima."""
    return float(1 - (1 - similarity**rows) ** buckets)


def _recall(pairs: Sequence[Pair], low: float, high: float, buckets: int, rows: int) -> Recall:
    """The estimate for pairs that lie in an interval."""
    met = [p for p in pairs if p.n_shared > 0 and p.signed > 0]
    if not met:
        return Recall(low, high, 0, None, None, None)
    chance = np.array([meets(p.signed, buckets, rows) for p in met])
    expected = np.array([buckets * p.signed**rows for p in met]) / chance
    shared = float(np.mean([p.n_shared for p in met]))
    return Recall(low, high, len(met), shared, float(expected.mean()), float(len(met) / (1 / chance).sum()))
