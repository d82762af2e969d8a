"""Sources: files of documents, cut into units of work that any worker can read on its own.

A unit is a run of Parquet row groups, a byte range of a plain JSONL file, or a whole compressed JSONL file; one large file becomes
many units. Units are numbered in sorted file order, and a document's key is (unit, row in the unit), so keys do not depend on who
reads what. Memory of a reader: one batch of READ_DOCS documents plus the compressed column chunks of one row group (Parquet), or
one unit's bytes (JSONL).
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from store.errors import InputError
from store.fs import find_inputs, open_input
from store.params import Execution, Json, Params
from store.schema import DOCUMENT, KEY, ROW_BITS, SOURCE, require_columns

log = logging.getLogger(__name__)

READ_DOCS = 1000  # documents decoded at a time; fixed, because output row groups follow it
Format = Literal["parquet", "jsonl"]
SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}


class FileSource(Params):
    """Files of documents in FineWeb2's columns, or in any columns by a mapping."""

    files: tuple[str, ...] = Field(
        description="Paths, folders, globs or URLs (hf://, s3://, gs://) of Parquet or JSONL files; .gz JSONL too.", min_length=1
    )
    format: Format | None = Field(default=None, description="File format; null: from the file's suffix.")
    columns: dict[str, str] = Field(
        default={}, description="Our column name -> the files' column name, where they differ, e.g. {text: content}."
    )
    unit_docs: int = Field(default=5000, ge=1, description="Documents in a unit of work, at least (whole row groups).")
    unit_bytes: int = Field(default=32_000_000, ge=1024, description="Bytes of a plain JSONL file in a unit of work.")
    max_files: int | None = Field(default=None, ge=1, description="Read only the first so many files in name order; null: all.")
    expect_docs: Annotated[int | None, Execution] = Field(
        default=None, ge=0, description="Number of documents, for the plan's estimate when the files cannot be looked at."
    )
    max_doc_bytes: int | None = Field(
        default=20_000_000, ge=1, description="A longer document is quarantined (text_too_large); null: no bound."
    )

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := [name for name in value if name not in SOURCE.names]:
            raise ValueError(f"there is no column {unknown[0]} to map to; expected one of {', '.join(SOURCE.names)}")
        return value


class Unit(Params):
    """A unit of work. ``begin``/``end`` are row groups (Parquet) or bytes (JSONL)."""

    number: int
    file: str
    format: Format
    begin: int
    end: int
    n_docs: int

    @property
    def key(self) -> str:
        return f"{self.number:06d}"


def list_files(source: FileSource) -> list[tuple[str, Format]]:
    """(URL, format) of every input file in name order; InputError for a pattern without files."""
    found: list[tuple[str, Format]] = []
    for pattern in source.files:
        names = find_inputs(pattern)
        if not names:
            raise InputError("no file matches", where=f"corpus.source.files: {pattern}", remedy="check the path or the glob")
        known = [(n, f) for n in names if (f := _format(n, source.format, explicit=len(names) == 1)) is not None]
        if len(known) < len(names):
            suffixes = sorted({os.path.splitext(n)[1] or "no suffix" for n in names} - {os.path.splitext(n)[1] for n, _ in known})
            log.warning("%s: %d files of unknown format are not read (%s)", pattern, len(names) - len(known), ", ".join(suffixes))
        found += known
    unique = sorted(set(found))
    if not unique:
        raise InputError(
            "none of the files has a known format", where=f"corpus.source.files: {', '.join(source.files)}",
            expected=f"a suffix of {', '.join(SUFFIXES)} (or .gz of JSONL)", remedy="set corpus.source.format",
        )  # fmt: skip
    return unique[: source.max_files]


def _format(name: str, given: Format | None, *, explicit: bool) -> Format | None:
    suffix = os.path.splitext(name.removesuffix(".gz"))[1].lower()
    found = given or SUFFIXES.get(suffix)
    if found is None and explicit:  # a folder may hold other files (README); a file named by the user may not be skipped silently
        raise InputError("unknown file format", where=name, expected=f"a suffix of {', '.join(SUFFIXES)}",
                         remedy="set corpus.source.format")  # fmt: skip
    return found


def list_units(source: FileSource, files: list[tuple[str, Format]] | None = None) -> list[Unit]:
    """Cut the files into units. Reads Parquet footers only."""
    units: list[Unit] = []
    for file, kind in files if files is not None else list_files(source):
        cuts = _parquet_cuts(file, source) if kind == "parquet" else _jsonl_cuts(file, source)
        for begin, end, n_docs in cuts:
            units.append(Unit(number=len(units), file=file, format=kind, begin=begin, end=end, n_docs=n_docs))
    return units


def _parquet_cuts(file: str, source: FileSource) -> list[tuple[int, int, int]]:
    with open_input(file) as handle:
        try:
            meta = pq.ParquetFile(handle)
        except pa.ArrowException as error:
            raise InputError(
                f"not a readable Parquet file ({error})", where=file, remedy="fetch the file again, or take it out of the source"
            ) from error
        require_columns(meta.schema_arrow, [source.columns.get("text", "text")], file)
        sizes = [meta.metadata.row_group(g).num_rows for g in range(meta.metadata.num_row_groups)]
    cuts, begin, docs = [], 0, 0
    for group, size in enumerate(sizes):
        docs += size
        if docs >= source.unit_docs or group == len(sizes) - 1:
            cuts.append((begin, group + 1, docs))
            begin, docs = group + 1, 0
    return cuts


def _jsonl_cuts(file: str, source: FileSource) -> list[tuple[int, int, int]]:
    with open_input(file) as handle:
        size = handle.seek(0, io.SEEK_END)
    if size == 0:
        return []
    if file.endswith(".gz"):
        return [(0, size, max(1, size // 1000))]
    step = source.unit_bytes
    return [(b, min(b + step, size), max(1, (min(b + step, size) - b) // 3000)) for b in range(0, size, step)]


Quarantine = Callable[[int, str, str], None]
"""Called with (row in the unit, id or "", reason) for a document that cannot be judged."""


def read_unit(unit: Unit, source: FileSource, quarantine: Quarantine) -> Iterator[pa.RecordBatch]:
    """Batches of store.schema.DOCUMENT with valid, non-null text; rows left out are given to ``quarantine``."""
    row = 0
    for table in _read_parquet(unit, source) if unit.format == "parquet" else _read_jsonl(unit, source, quarantine):
        keyed = _conform(table, source, unit, row)
        row += table.num_rows
        yield _without_bad_text(keyed, source.max_doc_bytes, quarantine)


def is_damage(error: InputError) -> bool:
    """Whether the data itself is wrong. A file that is not there is none of it: one machine may lack the mount that others have."""
    return not isinstance(error.__cause__, FileNotFoundError)


def _read_parquet(unit: Unit, source: FileSource) -> Iterator[pa.Table]:
    with open_input(unit.file) as handle:
        try:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            wanted = [c for n in SOURCE.names if (c := source.columns.get(n, n)) in file.schema_arrow.names]
            for batch in file.iter_batches(READ_DOCS, row_groups=list(range(unit.begin, unit.end)), columns=wanted):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            # Arrow reports damage as a plain OSError; a network's or a disk's has a class or a number, may pass, and is retried.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            raise InputError(
                f"row groups {unit.begin} to {unit.end - 1} cannot be read ({type(error).__name__}: {error})", where=unit.file,
                remedy="fetch the file again, or set corpus.on_bad_input: quarantine",
            ) from error  # fmt: skip


def _read_jsonl(unit: Unit, source: FileSource, quarantine: Quarantine) -> Iterator[pa.Table]:
    names = {n: source.columns.get(n, n) for n in SOURCE.names}
    wanted = frozenset(names.values())
    lines = _lines(unit)
    first = 0
    while block := lines[first : first + READ_DOCS]:
        rows = [_parse(line, wanted) for line in block]
        for i, row in enumerate(rows):
            if isinstance(row, str):
                quarantine(first + i, "", row)
        columns = {
            n: pa.array([None if isinstance(r, str) else _text_of(r.get(theirs)) for r in rows], SOURCE.field(n).type, from_pandas=True)
            if pa.types.is_string(SOURCE.field(n).type) or pa.types.is_large_string(SOURCE.field(n).type)
            else pa.array([None if isinstance(r, str) else _number_of(r.get(theirs), SOURCE.field(n).type) for r in rows],
                          SOURCE.field(n).type)
            for n, theirs in names.items()
        }  # fmt: skip
        table = pa.table(columns)
        # Unparsable lines keep their row number (keys stay stable) and carry a mark so they are not quarantined twice.
        yield table.append_column("_bad", pa.array([isinstance(r, str) for r in rows]))
        first += READ_DOCS


def _lines(unit: Unit) -> list[bytes]:
    with open_input(unit.file) as handle:
        if unit.file.endswith(".gz"):
            body = handle.read()
            try:
                return [line for line in gzip.decompress(body).split(b"\n") if line.strip()]
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"the gzip stream is damaged or cut off ({error})", where=unit.file,
                                 remedy="fetch the file again, or set corpus.on_bad_input: quarantine") from error  # fmt: skip
        # A line belongs to the unit in which it begins.
        handle.seek(max(0, unit.begin - 1))
        if unit.begin > 0:
            handle.readline()
        lines = []
        while handle.tell() < unit.end and (line := handle.readline()):
            if line.strip():
                lines.append(line)
        return lines


def _parse(line: bytes, wanted: frozenset[str]) -> dict[str, Json] | str:
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        return "broken_utf8"
    except (ValueError, RecursionError):
        return "bad_json"
    return {k: v for k, v in row.items() if k in wanted} if isinstance(row, dict) else "bad_json"


def _text_of(value: Json) -> str | None:
    text = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A lone surrogate is valid JSON but no text: such a row becomes null and is quarantined by name below.
    return text if text is None or text.isascii() or _encodable(text) else None


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number_of(value: Json, kind: pa.DataType) -> float | int | None:
    """The number as the column holds it; None for what is no number, or one beyond the column's range (JSON knows no bounds)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if pa.types.is_integer(kind):
        return int(value) if abs(value) < 1 << 63 else None
    return float(value) if abs(value) <= sys.float_info.max else None


def _conform(table: pa.Table, source: FileSource, unit: Unit, first_row: int) -> pa.Table:
    """The columns of DOCUMENT in order: mapped, cast, absent ones null; plus "_bad" if the reader marked rows."""
    n = table.num_rows
    keys = pa.array(range(first_row, first_row + n), pa.int64())
    columns: dict[str, pa.Array] = {KEY.name: pc.add(keys, unit.number << ROW_BITS)}
    for field in SOURCE:
        theirs = field.name if unit.format == "jsonl" else source.columns.get(field.name, field.name)
        if theirs not in table.column_names:
            columns[field.name] = pa.nulls(n, field.type)
            continue
        try:
            columns[field.name] = table[theirs].cast(field.type)
        except pa.ArrowException as error:
            if field.name == "text" and pa.types.is_string(table[theirs].type):
                columns[field.name] = table[theirs].cast(pa.large_binary()).view(pa.large_string())
                continue
            # Arrow's own words quote the value, which may be anybody's name.
            raise InputError(f"the column {theirs} has type {table[theirs].type} and values that do not fit", where=unit.file,
                             expected=str(field.type), remedy="map another column in corpus.source.columns") from error  # fmt: skip
    out = pa.table(columns)
    return out.append_column("_bad", table["_bad"]) if "_bad" in table.column_names else out


def _without_bad_text(table: pa.Table, max_bytes: int | None, quarantine: Quarantine) -> pa.RecordBatch:
    """One contiguous batch of the rows whose text can be judged."""
    batch = table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)
    marked = batch.column("_bad") if "_bad" in batch.schema.names else None
    batch = batch.select(DOCUMENT.names)
    text = batch.column("text")
    reasons: dict[int, str] = {}
    if text.null_count:
        reasons |= {i: "null_text" for i, bad in enumerate(pc.is_null(text).to_pylist()) if bad}
    if max_bytes is not None:
        sizes = pc.fill_null(pc.binary_length(text), 0)
        if (pc.max(sizes).as_py() or 0) > max_bytes:
            reasons |= {i: "text_too_large" for i, big in enumerate(pc.greater(sizes, max_bytes).to_pylist()) if big}
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            reasons |= _broken_utf8(column)
    if not reasons:
        return batch
    ids = batch.column("id")
    for i, reason in sorted(reasons.items()):
        if marked is None or not marked[i].as_py():
            quarantine((batch.column(KEY.name)[i].as_py()) & ((1 << ROW_BITS) - 1), _id_text(ids, i), reason)
    keep = pa.array([i not in reasons for i in range(batch.num_rows)])
    return batch.filter(keep)


def _id_text(ids: pa.Array, i: int) -> str:
    try:
        return ids[i].as_py() or ""
    except UnicodeDecodeError:
        return ""


def _broken_utf8(text: pa.Array) -> dict[int, str]:
    """Rows of a string column that are not UTF-8. Arrow checks a whole column at once; rows one by one only if that fails."""
    try:
        text.validate(full=True)
        return {}
    except pa.ArrowInvalid:
        raw = text.view(pa.large_binary() if pa.types.is_large_string(text.type) else pa.binary())
        return {i: "broken_utf8" for i in range(len(raw)) if raw[i].is_valid and not _decodes(raw[i].as_buffer())}


def _decodes(data: pa.Buffer) -> bool:
    try:
        str(memoryview(data), "utf-8")
    except UnicodeDecodeError:
        return False
    return True
