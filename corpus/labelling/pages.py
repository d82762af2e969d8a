"""The pages to label: a Parquet file with the columns id and text, read a batch at a time.

Memory: the ids, and the texts of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from store.errors import InputError
from store.fs import open_input

BATCH_ROWS = 256


@dataclass(frozen=True)
class PagesFile:
    """A checked file. ``ids`` [n] in the file's order, unique, none null."""

    url: str
    ids: pa.ChunkedArray

    @classmethod
    def open(cls, url: str) -> PagesFile:
        """Check the file; InputError says what is wrong with it."""
        try:
            with open_input(url) as handle:
                names = pq.read_schema(handle).names
                if missing := [c for c in ("id", "text") if c not in names]:
                    raise InputError(f"the column {missing[0]} is missing", where=url, expected="columns id and text")
                ids = pq.read_table(handle, columns=["id"]).column("id").cast(pa.string())
        except pa.ArrowException as error:
            raise InputError(
                f"the pages cannot be read ({type(error).__name__})", where=url, expected="Parquet with id and text"
            ) from error
        if ids.null_count:
            raise InputError(f"{ids.null_count} pages have no id", where=url)
        if n_twice := len(ids) - len(pc.unique(ids)):
            raise InputError(f"{n_twice} pages have an id that occurs before", where=url, expected="every id once")
        return cls(url, ids)

    def __len__(self) -> int:
        return len(self.ids)

    def texts(self) -> Iterator[list[str | None]]:
        """Texts in the file's order, a batch at a time; None for a page without any but white space."""
        try:
            with open_input(self.url) as handle:
                for batch in pq.ParquetFile(handle).iter_batches(BATCH_ROWS, columns=["text"]):
                    texts = batch.column(0).cast(pa.large_string()).to_pylist()
                    yield [t if t is not None and t.strip() else None for t in texts]
        except pa.ArrowException as error:
            raise InputError(f"the pages cannot be read ({type(error).__name__})", where=self.url) from error
