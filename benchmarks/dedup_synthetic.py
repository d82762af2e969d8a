"""Signatures of pages that never were, with planted clusters: what grouping is measured on.

One cluster holds a twentieth of all documents (the page that everybody copied), a tenth of the rest are in clusters of two to eight,
the others are alone. A member of a cluster has its origin's value in each band with probability 0.5 (0.7 in small clusters), in one
band that is the cluster's for sure, and values of its own in the others: clusters hold together by several bands, as near-duplicates
do, and what must be found is known. Everything is a function of the number of documents and of the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dedup.signatures import Signatures
from store.schema import signature_schema

BANDS = 14
FILE_DOCS = 100_000
GIANT_SHARE = 0.05

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Planted:
    """Which cluster each document is in: ``cluster`` [n], a document's own number where it is alone; the giant cluster is -1."""

    cluster: I64

    @classmethod
    def of(cls, n_docs: int) -> Planted:
        random = np.random.default_rng(n_docs)
        cluster = np.arange(n_docs)
        order = random.permutation(n_docs)
        n_giant = round(GIANT_SHARE * n_docs)
        cluster[order[:n_giant]] = -1
        members = order[n_giant : n_giant + (n_docs - n_giant) // 10]
        ends = np.cumsum(random.integers(2, 9, len(members) // 2 + 1))
        which = np.searchsorted(ends, np.arange(len(members)), side="right")
        first = np.searchsorted(which, which)
        cluster[members] = members[first]
        return cls(cluster)


def write_signatures(n_docs: int, folder: str, file_docs: int = FILE_DOCS) -> Signatures:
    """Signature files of n_docs documents below ``folder``; those that exist are kept."""
    os.makedirs(folder, exist_ok=True)
    begins = range(0, n_docs, file_docs)
    files = [os.path.join(folder, f"{begin // file_docs:05d}.parquet") for begin in begins]
    n_rows = [min(n_docs, begin + file_docs) - begin for begin in begins]
    if missing := [i for i, path in enumerate(files) if not os.path.exists(path)]:
        cluster = Planted.of(n_docs).cluster
        for i in missing:
            rows = np.arange(begins[i], begins[i] + n_rows[i])
            pq.write_table(_table(rows, cluster[rows]), f"{files[i]}.part", compression="none", use_dictionary=False)
            os.replace(f"{files[i]}.part", files[i])
    return Signatures(tuple(files), tuple(n_rows))


def _table(rows: I64, cluster: I64) -> pa.Table:
    """A file's signatures. The schema is store.schema.signature_schema."""
    bands = band_values(rows, cluster)
    exact = mixed(rows.astype(np.uint64), 101), mixed(rows.astype(np.uint64), 102)
    hashes = [*exact, *(bands[:, k].copy() for k in range(BANDS))]
    columns = [pa.array(rows), *map(pa.array, hashes), pa.array(np.full(len(rows), 3000, np.int32))]
    return pa.table(columns, schema=signature_schema(BANDS))


def band_values(rows: I64, cluster: I64) -> U64:
    """[n, BANDS] the bands of these documents."""
    random = np.random.default_rng(int(rows[0]))
    share = np.where(cluster == -1, 0.5, 0.7)
    from_origin = random.random((len(rows), BANDS)) < share[:, None]
    from_origin[np.arange(len(rows)), cluster % BANDS] = True
    source = np.where(from_origin, cluster[:, None], rows[:, None]).astype(np.uint64)
    return mixed(source * np.uint64(BANDS) + np.arange(BANDS, dtype=np.uint64), 7)


def mixed(x: U64, seed: int) -> U64:
    """SplitMix64's finaliser: different inputs, different outputs."""
    x = x + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
