"""Documents of earlier corpora that lose to a new one: ``displaced.parquet``.

With ``keep: longest``, ``best`` or ``newest`` a document of an earlier corpus (``against``) may lose to a new copy. That corpus is
finished and is not touched; who publishes or trains on both must take these documents out of it, and this file says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dedup.clusters import CLUSTERS_FILE, Index
from corpus.dedup.signatures import KEY_BITS, Signatures
from store.errors import ArtifactError
from store.fs import FileEntry, Folder, open_input
from store.schema import DISPLACED

DISPLACED_FILE = "displaced.parquet"


def write_displaced(folder: Folder, signatures: Signatures, documents: Sequence[str]) -> FileEntry | None:
    """Write the file from the clusters in ``folder``; None, and no file, if no earlier document loses to a new one.

    Rows are in order of ``corpus`` (-1 is the last of ``against``, -2 the one before) and ``doc_key``, the document's key in its own
    corpus. Ids are null where there are no documents to read them from. Memory: 16 bytes and both ids for each row, 8 per document of
    a file.
    """
    lost = _lost(folder) if signatures.n_earlier else DISPLACED_ROWS.empty_table()
    if not len(lost):
        return None
    keys, survivors = lost["doc_key"].to_numpy(), lost["survivor_key"].to_numpy()
    corpus = keys >> KEY_BITS
    ids = _ids(signatures, documents, np.unique(np.concatenate([keys, survivors])))
    columns = {"corpus": corpus.astype(np.int32), "doc_key": keys - (corpus << KEY_BITS), "id": _taken(ids, keys),
               "survivor_key": survivors, "survivor_id": _taken(ids, survivors), "level": lost["level"]}  # fmt: skip
    with folder.writing(DISPLACED_FILE) as out:
        pq.write_table(pa.table(columns).cast(DISPLACED), out, compression="zstd", row_group_size=100_000)
    return folder.entry(DISPLACED_FILE, n_rows=len(lost))


DISPLACED_ROWS = pa.schema([("doc_key", pa.int64()), ("survivor_key", pa.int64()), ("level", pa.string())])


def _lost(folder: Folder) -> pa.Table:
    """Members below zero whose survivor is not."""
    found = [DISPLACED_ROWS.empty_table()]
    with open_input(folder.path(CLUSTERS_FILE)) as source, pq.ParquetFile(source) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=DISPLACED_ROWS.names, use_threads=False).cast(DISPLACED_ROWS)
            below = rows["doc_key"].to_numpy() < 0
            found.append(rows.filter(pa.array(below & (rows["survivor_key"].to_numpy() >= 0))))
            if not below.all():  # rows are in order of key
                break
    return pa.concat_tables(found)


Ids = tuple[Index, pa.Array]
"""Keys, rising, and the id of each."""


def _ids(signatures: Signatures, documents: Sequence[str], keys: Index) -> Ids:
    found = [np.zeros(0, np.int64)]
    ids = [pa.array([], pa.string())]
    for at in range(len(signatures.files) if documents else 0):
        mine = signatures.keys(at)
        rows = np.flatnonzero(np.isin(mine, keys))
        if not len(rows):
            continue
        with open_input(documents[at]) as source, pq.ParquetFile(source) as file:
            column = file.read(columns=["id"], use_threads=False)["id"]
        if len(column) != len(mine):
            raise ArtifactError("documents and signatures are not of the same rows", where=documents[at],
                                remedy="remove the artifact's folder and run the recipe again")  # fmt: skip
        found.append(mine[rows])
        ids.append(column.take(pa.array(rows)).combine_chunks().cast(pa.string()))
    order = np.argsort(np.concatenate(found), kind="stable")
    return np.concatenate(found)[order], cast(pa.Array, pa.concat_arrays(ids).take(pa.array(order)))


def _taken(ids: Ids, keys: Index) -> pa.Array:
    if not len(ids[0]):
        return pa.nulls(len(keys), pa.string())
    return ids[1].take(pa.array(np.searchsorted(ids[0], keys)))
