"""Sheets: pages with the beginnings of their texts that people label in an editor or a spreadsheet, as JSONL or CSV.

CSV is made for spreadsheets. It is UTF-8 with a byte order mark (Excel knows umlauts by it), CRLF, every cell quoted, separated by
semicolons (what German Excel opens by a double click) or as asked. A cell that a spreadsheet would take for a formula, and an id that
it would take for a number or a date, begins with an apostrophe, which reading takes off again. Line breaks in texts become " ¶ ", and
control characters blanks. Reading takes any separator, the marks of UTF-8 and UTF-16, and Windows-1252 where it is not UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from corpus.classifier.labels import shares
from corpus.draw import unit_interval
from store.errors import InputError
from store.fs import read_bytes

COLUMNS = ("id", "text", "model_label", "label", "annotator", "note")
SEPARATORS = (";", ",", "\t")
MOST_CELL_CHARS = 32_000  # Excel cuts cells at 32,767
_FORMULA = re.compile(r"\s*[=+\-@\t\r|%'＝＋－＠]")
_PLAIN_ID = re.compile(r"<|urn:|https?://")
_BREAK = re.compile(r"[ \t]*(?:\r\n|[\n\r\v\f\x85\u2028\u2029])\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class SheetRow:
    """A page on a sheet. ``model_label`` None: the model gave none, or the sheet is blind."""

    id: str
    text: str
    model_label: str | None = None


def balanced(pages: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """At most ``n`` of the pages (id, model_label: null without one), as many of each model's label as far as they go.

    Those with the smallest draws, a function of id and seed. They come in an order of their own, so that the order says nothing.
    """
    frame = pages.with_columns(draw=_draws(pages["id"], f"label_sheet/{seed}")).sort("draw", "id")
    parts = [part for _, part in sorted(frame.group_by("model_label", maintain_order=True), key=lambda g: str(g[0][0] or ""))]
    taken = [p.head(q) for p, q in zip(parts, shares([p.height for p in parts], n), strict=True)]
    found = pl.concat([frame.clear(), *taken])
    return found.with_columns(order=_draws(found["id"], f"label_sheet_order/{seed}")).sort("order", "id").drop("draw", "order")


def _draws(ids: pl.Series, salt: str) -> pl.Series:
    import pyarrow as pa

    return pl.Series(unit_interval(pa.array(ids.to_list(), pa.string()), pa.nulls(len(ids)), salt))


def as_jsonl(rows: Sequence[SheetRow], blind: bool) -> bytes:
    """The sheet as JSON Lines."""
    lines = [json.dumps(_fields(r, blind) | {"text": r.text}, ensure_ascii=False) for r in rows]
    return "".join(line + "\n" for line in lines).encode()


def as_csv(rows: Sequence[SheetRow], blind: bool, separator: str = ";") -> bytes:
    """The sheet for spreadsheets (see the module)."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    columns = [c for c in COLUMNS if not (blind and c == "model_label")]
    writer.writerow(columns)
    for row in rows:
        fields = _fields(row, blind) | {"text": row.text}
        writer.writerow([_id_cell(row.id) if c == "id" else cell(str(fields[c] or "")) for c in columns])
    return out.getvalue().encode("utf-8-sig")


def _fields(row: SheetRow, blind: bool) -> dict[str, str | None]:
    shown: dict[str, str | None] = {} if blind else {"model_label": row.model_label}
    return {"id": row.id, "text": "", **shown, "label": None, "annotator": None, "note": None}


def cell(text: str) -> str:
    """A text as one line that no spreadsheet runs."""
    line = _CONTROL.sub(" ", _BREAK.sub(" ¶ ", text))[:MOST_CELL_CHARS]
    return "'" + line if _FORMULA.match(line) else line


def _id_cell(name: str) -> str:
    """An id as it is; what could be a number, a date or a formula is marked as text."""
    if _CONTROL.search(name) or _BREAK.search(name) or name != name.strip():
        raise InputError("an id holds line breaks, control characters or blanks around it", where="the sheet",
                         expected="ids that a spreadsheet keeps", remedy="write the sheet as .jsonl")  # fmt: skip
    return name if _PLAIN_ID.match(name) else "'" + name


def read_sheet(url: str) -> pl.DataFrame:
    """Columns id, label, annotator (null: empty) and row (of the file, the header is 1; a line of JSONL), as text.

    InputError: it is no sheet, or the columns id and label are missing.
    """
    data, name = read_bytes(url), url.lower()
    if name.endswith(".parquet"):
        records = [(n, dict(r)) for n, r in enumerate(pl.read_parquet(io.BytesIO(data)).to_dicts(), 1)]
    else:
        records = _from_csv(data, url) if name.endswith(".csv") else _from_jsonl(data, url)
    rows = [{**{c: _text(r.get(c)) for c in ("id", "label", "annotator")}, "row": n} for n, r in records]
    schema = {"id": pl.String, "label": pl.String, "annotator": pl.String, "row": pl.Int64}
    if records and (missing := [c for c in ("id", "label") if all(c not in r for _, r in records)]):
        what = f"the column {missing[0]} is missing" if len(missing) == 1 else f"the columns {' and '.join(missing)} are missing"
        raise InputError(what, where=url, expected="columns id and label (annotator, if several people labelled)",
                         remedy="keep the sheet's first line as it was written")  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _text(value: object) -> str | None:
    return (str(value).strip() or None) if value is not None else None


def _from_jsonl(data: bytes, url: str) -> list[tuple[int, dict[str, object]]]:
    out: list[tuple[int, dict[str, object]]] = []
    for number, line in enumerate(decoded(data).split("\n"), 1):
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError as error:
                raise InputError(f"line {number} is no JSON", where=url, expected='lines such as {"id": "…", "label": "…"}') from error
            if not isinstance(found, dict):
                raise InputError(f"line {number} is no JSON object", where=url, expected='lines such as {"id": "…", "label": "…"}')
            out.append((number, found))
    return out


def _from_csv(data: bytes, url: str) -> list[tuple[int, dict[str, object]]]:
    text = decoded(data)
    if text[:4].lower() == "sep=":
        text = text.partition("\n")[2]
    header = text.partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    csv.field_size_limit(1 << 24)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise InputError(f"this is no CSV ({error})", where=url, expected="cells in quotes, separated by ; , or tabs") from error
    names = [n.strip().lower() for n in lines[0]] if lines else []
    out: list[tuple[int, dict[str, object]]] = []
    for number, line in enumerate(lines[1:], 2):
        if not any(c.strip() for c in line):
            continue
        if len(line) > len(names):
            raise InputError(f"row {number} has {len(line)} cells, and the first row {len(names)}", where=url,
                             remedy="save the sheet with cells in quotes")  # fmt: skip
        out.append((number, dict(zip(names, map(_without_mark, line), strict=False))))
    return out


def _without_mark(text: str) -> str:
    return text[1:] if text.startswith("'") else text


def decoded(data: bytes) -> str:
    """UTF-8 or UTF-16 by their marks, UTF-8 without, else Windows-1252, as German Excel writes "CSV"."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
