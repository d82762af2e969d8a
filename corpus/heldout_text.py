"""Held-out text from outside the corpus, such as English pages: one file in, one token shard out, in any format of a source.

What a model forgets shows on text that the corpus does not have. A file that a source would quarantine a row of is refused: a measure
must not depend on what could be read of it. Memory: that of a source's reader and of TokeniseWorker.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pydantic import Field

from corpus.source import BadRow, FileSource, list_units, read_unit
from corpus.tokenise import BATCH_DOCS, TokeniseWorker
from store.errors import InputError
from store.params import FileByContent, Params


class HeldoutFile(Params):
    """A file of text that no model trains on; every trained model's bits per byte on it are measured."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Label of its curve, e.g. english.")
    file: FileByContent = Field(description="Parquet or JSONL with a column text (one document a row), WET, or a .txt of one document.")


class HeldoutTokeniseWorker(TokeniseWorker):
    """A task's payload is {"file": i}: file i of ``files``, in any format of a source, becomes shard i."""

    def _batches(self, url: str) -> Iterator[pa.RecordBatch]:
        source = FileSource(files=(url,))

        def refuse(bad: BadRow) -> None:
            raise InputError(f"a document of the held-out file cannot be read ({bad.reason})", where=f"{url}, row {bad.row}",
                             remedy="remove it from the file")  # fmt: skip

        for unit in list_units(source):
            for batch in read_unit(unit, source, refuse):
                for first in range(0, batch.num_rows, BATCH_DOCS):
                    yield batch.slice(first, BATCH_DOCS).select(["doc_key", self._text])
