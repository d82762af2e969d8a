"""Cheap, loss-free repair of page text, and an id for documents that came without one.

One compiled pass over the UTF-8 buffer per batch:

* line ends (CR LF, CR, VT, FF, U+0085, U+2028, U+2029) become LF; other control characters except TAB vanish;
* every space separator (Unicode category Zs) becomes U+0020, runs of spaces become one, line ends and the whole text are trimmed;
* invisible characters vanish: soft hyphen, zero-width space, word joiner, byte-order mark, direction marks and, unless kept, the
  joiners U+200C and U+200D;
* more than ``max_blank_lines`` blank lines in a row become ``max_blank_lines``.

Rows that hold a character that NFC may change are then composed (UAX #15); the others are known to be NFC already. The result is
a fixed point: normalising twice changes nothing. Memory: twice the batch's text.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import ClassVar, Literal

import numba
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field

from corpus.columns import text_buffers, text_column
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from corpus.stages.code_points import LAST_ASSIGNED, decode, width

KEEP_CHAR, DROP_CHAR, SPACE_CHAR, NEWLINE_CHAR, TAB_CHAR, COMPOSE_CHAR = range(6)
JOINERS = (0x200C, 0x200D)
INVISIBLE = (0x00AD, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x2070), 0xFEFF)
NEWLINES = (0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029)


class Normalise(Stage):
    """Normalise characters, spaces and line ends; write an id where there is none."""

    stage: Literal["normalise"] = Field(default="normalise", description="Name of the stage.")
    max_blank_lines: int | None = Field(default=2, ge=0, description="Blank lines kept in a row; null keeps all.")
    keep_joiners: bool = Field(
        default=False, description="Keep zero-width joiner and non-joiner, which Persian and Indic spelling and emoji need."
    )

    reads: ClassVar[tuple[str, ...]] = ("text", "id")
    writes: ClassVar[tuple[pa.Field, ...]] = (pa.field("text", pa.large_string()), pa.field("id", pa.string()))
    reasons: ClassVar[tuple[str, ...]] = ("empty",)

    def open(self, resources: Resources) -> Apply:  # noqa: ARG002  needs none
        """The function of this stage; ``text`` and ``id`` are replaced, empty results are dropped with value 0."""
        table = character_classes(self.keep_joiners)
        max_newlines = np.iinfo(np.int64).max if self.max_blank_lines is None else self.max_blank_lines + 1

        def apply(batch: pa.RecordBatch) -> Outcome:
            original = batch.column("text")
            text = normalise_text(original, table, max_newlines)
            empty = np.diff(text_buffers(text)[0]) == 0
            verdict = np.where(empty, 0, KEEP).astype(np.int16)
            value = np.where(empty, 0.0, np.nan)
            ids = batch.column("id") if "id" in batch.schema.names else pa.nulls(len(batch), pa.string())
            return Outcome(columns={"text": text, "id": filled_ids(ids, original)}, verdict=verdict, value=value)

        return apply


def normalise_text(column: pa.Array, table: npt.NDArray[np.uint8], max_newlines: int) -> pa.Array:
    """The column after character repair and NFC; ``table`` is of :func:`character_classes`."""
    offsets, data = text_buffers(column)
    clean_offsets, clean, composed = _clean(offsets, data, table, max_newlines)
    text = text_column(clean_offsets, clean)
    if not composed.any():
        return text
    mask = pa.array(composed)
    nfc = pl.Series(text.filter(mask)).str.normalize("NFC").to_arrow().cast(pa.large_string())
    return pc.replace_with_mask(text, mask, nfc)


def filled_ids(ids: pa.Array, original: pa.Array) -> pa.Array:
    """``ids`` with ``xxh3:<32 hex digits>`` of the original text where null or empty.

    The id depends on the document's bytes alone, so it survives re-sharding. Only rows without an id are visited.
    """
    missing = pc.fill_null(pc.equal(ids, ""), True)
    rows = np.flatnonzero(missing.to_numpy(zero_copy_only=False))
    if not len(rows):
        return ids
    offsets, data = text_buffers(original)
    made = [f"xxh3:{xxhash.xxh3_128_hexdigest(data[offsets[row] : offsets[row + 1]].data)}" for row in rows]
    return pc.replace_with_mask(ids, missing, pa.array(made, ids.type))


@lru_cache(maxsize=2)
def character_classes(keep_joiners: bool) -> npt.NDArray[np.uint8]:
    """[0x110000] uint8: what to do with each code point."""
    table = np.zeros(0x110000, np.uint8)
    for point in range(0x300, LAST_ASSIGNED):
        char = chr(point)
        vowel_or_final_jamo = 0x1161 <= point <= 0x11C2  # compose with what stands before them, though not marks
        if vowel_or_final_jamo or unicodedata.category(char)[0] == "M" or not unicodedata.is_normalized("NFC", char):
            table[point] = COMPOSE_CHAR
    table[[p for p in range(0xA0) if unicodedata.category(chr(p)) == "Cc"]] = DROP_CHAR
    table[[p for p in range(0x3001) if unicodedata.category(chr(p)) == "Zs"]] = SPACE_CHAR
    table[list(NEWLINES)] = NEWLINE_CHAR
    table[0x09] = TAB_CHAR
    table[list(INVISIBLE)] = DROP_CHAR
    if keep_joiners:
        table[list(JOINERS)] = KEEP_CHAR
    return table


@numba.njit(nogil=True, cache=True)
def _clean(offsets, data, table, max_newlines):  # type: ignore[no-untyped-def]
    """(offsets [n + 1] int64, bytes uint8, composed [n] bool: rows that NFC may change)."""
    n = len(offsets) - 1
    out = np.empty(offsets[n] - offsets[0], np.uint8)
    ends = np.zeros(n + 1, np.int64)
    composed = np.zeros(n, np.bool_)
    cursor = 0
    for row in range(n):
        cursor = _clean_row(data, offsets[row], offsets[row + 1], table, max_newlines, out, cursor, composed, row)
        ends[row + 1] = cursor
    return ends, out[:cursor], composed


@numba.njit(nogil=True, cache=True)
def _clean_row(data, at, end, table, max_newlines, out, start, composed, row):  # type: ignore[no-untyped-def]
    """Write one cleaned row into ``out`` from ``start``; returns the position behind it."""
    o = start  # next byte to write
    solid = start  # behind the last byte that is not a trailing space or tab
    newlines = 0
    after_cr = False
    while at < end:
        size = width(data[at])
        point = decode(data, at, size)
        kind = table[point]
        if kind == NEWLINE_CHAR:
            o = solid
            if not (after_cr and point == 10) and o > start and newlines < max_newlines:
                out[o] = 10
                o += 1
                newlines += 1
                solid = o
        elif kind == SPACE_CHAR:
            if o > start and out[o - 1] != 32:
                out[o] = 32
                o += 1
        elif kind == TAB_CHAR:
            if o > start:
                out[o] = 9
                o += 1
        elif kind != DROP_CHAR:
            for k in range(size):
                out[o + k] = data[at + k]
            o += size
            solid = o
            newlines = 0
            if kind == COMPOSE_CHAR:
                composed[row] = True
        after_cr = point == 13
        at += size
    while solid > start and out[solid - 1] == 10:
        solid -= 1
    return solid
