"""Who is in which cluster and who of it stays: the table ``clusters.parquet``, members in order of doc_key.

Only members of clusters of two or more are held: MEMBER_BYTES each. More than one task's memory holds: corpus/dedup/survivors.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numba import njit

from corpus.dedup.params import DedupParams
from corpus.dedup.signatures import Numbers, Signatures, numpy_of
from corpus.minhash import U64
from store.errors import InputError
from store.fs import FileEntry, Folder, open_input
from store.params import Json
from store.schema import CLUSTERS, EXACT

CLUSTERS_FILE = "clusters.parquet"
SIZES = {"2": (2, 2), "3-4": (3, 4), "5-9": (5, 9), "10-99": (10, 99), "100+": (100, None)}
MEMBER_BYTES = 80
GROUP_ROWS = 1_000_000

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """What decides who stays: the highest rank, of equals the lowest key.

    Attributes:
        keep: the rule.
        column: of the documents' files, for ``best`` and ``newest``; NaN where it is null.
        documents: files of the documents, in the order of the signature files.
    """

    keep: str
    column: str | None
    documents: tuple[str, ...]

    @classmethod
    def of(cls, params: DedupParams, documents: Iterable[str]) -> Ranking:
        return cls(params.keep, "date" if params.keep == "newest" else params.by, tuple(documents))

    def ranks(self, at: int, n_chars: npt.NDArray[np.int32], wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Ranks of the wanted documents of file ``at``; ``n_chars`` [documents of the file]."""
        if self.column is None:
            return np.where(self.keep == "longest", n_chars[wanted], 0).astype(np.float64)
        with open_input(self.documents[at]) as source, pq.ParquetFile(source) as file:
            if self.column not in file.schema_arrow.names:
                raise InputError(f"the documents have no column {self.column}", where="corpus.dedup.by",
                                 expected=f"one of {', '.join(file.schema_arrow.names)}")  # fmt: skip
            table = file.read(columns=[self.column], use_threads=False)
        return np.nan_to_num(as_numbers(table[self.column], self.column)[wanted], nan=-np.inf)


@dataclass(frozen=True)
class Members:
    """Documents of clusters: arrays of one element each.

    Attributes:
        keys: [n] int64 among all corpora.
        exact: [n, 2] their exact hashes.
        rank: [n] of the survivor rule.
    """

    keys: Index
    exact: U64
    rank: npt.NDArray[np.float64]


def members_of(signatures: Signatures, at: int, wanted: npt.NDArray[np.bool_], ranking: Ranking) -> Members:
    """The wanted documents of file ``at``."""
    table = signatures.read(at, [*EXACT, "n_chars"])
    exact = np.stack([numpy_of(table, name)[wanted] for name in EXACT], axis=1)
    return Members(signatures.keys(at)[wanted], exact, ranking.ranks(at, table["n_chars"].to_numpy(), wanted))


def rows_of(roots: Numbers, member: npt.NDArray[np.bool_], signatures: Signatures, ranking: Ranking) -> pa.Table:
    """CLUSTERS, in order of key: the clusters of the documents whose ``member`` is set; roots [n] and member [n] by number."""
    found = [Members(np.zeros(0, np.int64), np.zeros((0, 2), np.uint64), np.zeros(0))]
    for at, first in enumerate(signatures.first):
        wanted = member[first : first + signatures.n_rows[at]]
        if wanted.any():
            found.append(members_of(signatures, at, wanted, ranking))
    keys, exact, rank = (np.concatenate([getattr(m, name) for m in found]) for name in ("keys", "exact", "rank"))
    cluster, n_clusters = _numbered(roots, member)
    best, size = _best(cluster, rank, keys, n_clusters)
    rows = cluster_rows(keys, keys[best], size[cluster], (exact == exact[best]).all(axis=1))
    return rows if (keys[1:] > keys[:-1]).all() else rows.sort_by("doc_key")


def cluster_rows(keys: Index, survivor: Index, size: Index, exact: npt.NDArray[np.bool_]) -> pa.Table:
    """Rows of CLUSTERS: key, key of the one that stays, members of the cluster, whether the exact hash is the survivor's."""
    level = pc.if_else(pa.array(exact), "exact", "minhash")
    return pa.table([keys, survivor, size.astype(np.int32), level], schema=CLUSTERS)


@njit(cache=True, nogil=True)
def _numbered(roots, member):  # type: ignore[no-untyped-def]
    """(number of each member's cluster, counted by the clusters' roots; how many). A root is the lowest member: it comes first."""
    numbers = np.empty(len(roots), roots.dtype)  # pages never written to cost nothing
    found = np.empty(np.count_nonzero(member), roots.dtype)
    m, n = 0, 0
    for i in range(len(roots)):
        if member[i]:
            if roots[i] == i:
                numbers[i] = n
                n += 1
            found[m] = numbers[roots[i]]
            m += 1
    return found, n


@njit(cache=True, nogil=True)
def _best(cluster, rank, keys, n_clusters):  # type: ignore[no-untyped-def]
    """([members] the member of highest rank of each one's cluster, of equals that of the lowest key; [clusters] their sizes)."""
    best, size = np.full(n_clusters, -1, np.int64), np.zeros(n_clusters, np.int64)
    for i in range(len(cluster)):
        c = cluster[i]
        size[c] += 1
        j = best[c]
        if j < 0 or rank[i] > rank[j] or (rank[i] == rank[j] and keys[i] < keys[j]):
            best[c] = i
    return best[cluster], size


def write_clusters(folder: Folder, tables: Iterable[pa.Table]) -> tuple[FileEntry, dict[str, Json]]:
    """Write rows that come in order of key, in any portions: always the same bytes. (file, counts for the manifest)."""
    sizes = dict.fromkeys(SIZES, 0)
    n_rows, n_clusters, largest = 0, 0, 0
    with folder.writing(CLUSTERS_FILE) as out, pq.ParquetWriter(out, CLUSTERS, compression="zstd") as writer:
        for table in _regrouped(tables):
            writer.write_table(table, row_group_size=GROUP_ROWS)
            size = table["cluster_size"].to_numpy()[table["doc_key"].to_numpy() == table["survivor_key"].to_numpy()]
            n_rows, n_clusters, largest = n_rows + len(table), n_clusters + len(size), max(largest, int(size.max(initial=0)))
            for name, (a, b) in SIZES.items():
                sizes[name] += int(np.count_nonzero((size >= a) & (size <= (b or largest))))
    counts: dict[str, Json] = {
        "n_clusters": n_clusters, "n_duplicates": n_rows - n_clusters, "largest_cluster": largest, "cluster_sizes": dict(sizes),
    }  # fmt: skip
    return folder.entry(CLUSTERS_FILE, n_rows=n_rows), counts


def _regrouped(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
    """The same rows, GROUP_ROWS at a time."""
    waiting, n = [CLUSTERS.empty_table()], 0
    for table in tables:
        waiting.append(table)
        n += len(table)
        while n >= GROUP_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, GROUP_ROWS).combine_chunks()
            waiting, n = [whole.slice(GROUP_ROWS)], n - GROUP_ROWS
    if n:
        yield pa.concat_tables(waiting).combine_chunks()


def as_numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """A column of numbers, or of dates in ISO 8601 (as seconds), as float64; NaN for null and for what is no date."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not pa.types.is_string(column.type):
        raise InputError(f"the column {name} holds {column.type}", where="corpus.dedup.by", expected="numbers or dates")
    # 2023-04-05T06:07:08Z and 2023-04-05 alike; what does not begin so is no date.
    dates = pc.replace_substring_regex(column, r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}:[0-9]{2}))?.*$", r"\1 \2")
    midnight = pc.binary_join_element_wise(pc.utf8_rtrim_whitespace(dates), "00:00:00", " ")
    padded = pc.if_else(pc.less(pc.utf8_length(dates), 15), midnight, dates)
    parsed = pc.strptime(padded, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    return parsed.cast(pa.int64()).cast(pa.float64()).to_numpy(zero_copy_only=False)
