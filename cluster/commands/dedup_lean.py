"""``definemed dedup lean``: the kept minima of a corpus as datasketch's LeanMinHash, one serialised sketch a page.

The bytes are laid out by datasketch itself once, for one sketch; those of all others differ from it in the values alone, so a file is
made column by column. ``LeanMinHash.deserialize`` reads them.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from cluster.commands.dedup import find_signed
from corpus.datasketch_family import SCHEME
from corpus.dedup.index import signed_with
from store.errors import InputError
from store.fs import Folder, open_input
from store.schema import KEY, MINIMA

SKETCHES = pa.schema([KEY, ("id", pa.string()), ("lean_minhash", pa.binary())])
READ_DOCS = 50_000


def lean_column(minima: npt.NDArray[np.uint32], seed: int) -> pa.Array:
    """minima [n, K] of datasketch's functions -> n binary values, each as LeanMinHash.serialize writes it (native byte order)."""
    from datasketch import LeanMinHash

    n, k = minima.shape
    one = LeanMinHash(seed=seed, hashvalues=np.zeros(k, np.uint32), scheme=SCHEME)
    header = bytearray(one.bytesize())
    one.serialize(header)
    rows = np.empty((n, len(header)), np.uint8)
    rows[:] = np.frombuffer(bytes(header), np.uint8)
    rows[:, len(header) - 4 * k :] = np.ascontiguousarray(minima).view(np.uint8).reshape(n, 4 * k)
    return pa.Array.from_buffers(pa.binary(len(header)), n, [None, pa.py_buffer(rows)]).cast(pa.binary())


def write_lean(artifact: str, to: str) -> None:
    """Write doc_key, id and lean_minhash of every page of a documents artifact or an index to a Parquet file."""
    source = find_signed(artifact)
    stage = signed_with(source)
    if stage.family != "datasketch" or not stage.keep_minima:
        raise InputError("these signatures are no sketches of datasketch", where=source.folder.url,
                         expected="signature: {family: datasketch, keep_minima: true}",
                         remedy="sign the pages with these parameters")  # fmt: skip
    folder, name = os.path.split(to)
    n_docs = 0
    with Folder(folder or ".").absolute().writing(name) as out, pq.ParquetWriter(out, SKETCHES) as writer:
        for entry in source.files("signatures/"):
            ids = _ids(source.path("kept/" + entry.name.removeprefix("signatures/")))
            with open_input(source.path(entry.name)) as signatures, pq.ParquetFile(signatures) as file:
                first = 0
                for batch in file.iter_batches(READ_DOCS, columns=[KEY.name, MINIMA], use_threads=False):
                    # flatten() heeds the slice that a batch may be; .values would not.
                    minima = batch.column(MINIMA).flatten().to_numpy().reshape(len(batch), stage.n_hashes)
                    columns = [batch.column(KEY.name), ids.slice(first, len(batch)), lean_column(minima, stage.seed)]
                    writer.write_batch(pa.record_batch(columns, schema=SKETCHES))
                    first += len(batch)
                n_docs += first
    Console(highlight=False, soft_wrap=True).print(f"{n_docs:,} sketches of {stage.n_hashes} values, seed {stage.seed}: {to}")


def _ids(url: str) -> pa.Array:
    with open_input(url) as source, pq.ParquetFile(source) as file:
        return file.read(columns=["id"], use_threads=False)["id"].combine_chunks()
