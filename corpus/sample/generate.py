"""Writes the sample: web and truth files that independent tasks may write in any order, and the side files.

Layout under a root: web/00000.parquet (FineWeb2's columns, language columns empty), truth/00000.parquet (same rows),
labels.jsonl, bench/{medical,general}.jsonl, bench/open_{medical,general}.jsonl, chat/general.jsonl. The same parameters
give the same bytes with the same pyarrow. Memory: one row group.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.sample.document import Document, build_document, document_id
from corpus.sample.draw import Draw
from corpus.sample.facts import TOPICS
from corpus.sample.layout import layout
from corpus.sample.params import SampleParams
from corpus.sample.quiz import chats, items, open_questions

WEB_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("text", "id", "dump", "url", "date", "file_path", "language")]
    + [("language_score", pa.float64()), ("language_script", pa.string())]
    + [("minhash_cluster_size", pa.int64()), ("top_langs", pa.string())]
)
_LISTS = ("pii_kinds", "pii_values", "lookalike_kinds", "lookalike_values")
TRUTH_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "language", "topic", "page_type", "dup_kind", "dup_group")]
    + [("edit_rate", pa.float64())]
    + [(name, pa.list_(pa.string())) for name in _LISTS]
    + [(name, pa.string()) for name in ("junk", "leaked")]
)
_DUMPS = ("CC-MAIN-2022-33", "CC-MAIN-2023-06", "CC-MAIN-2023-40", "CC-MAIN-2024-10")
_SITES = ("stadtblatt", "wissensnetz", "unser-dorf", "ratgeber-portal", "marktplatz", "tagesnotiz", "forum-mitte")


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One web file: its number, its name, its first page and how many pages it holds."""

    index: int
    name: str
    start: int
    n_docs: int


def file_plan(params: SampleParams) -> list[FileSpec]:
    """The web files (and truth files of the same names) of a sample."""
    starts = range(0, params.n_docs, params.docs_per_file)
    return [
        FileSpec(index, f"{index:05d}.parquet", start, min(params.docs_per_file, params.n_docs - start))
        for index, start in enumerate(starts)
    ]


def _web_row(params: SampleParams, index: int, document: Document) -> dict[str, str | float | int]:
    draw = Draw(params.seed, "crawl", index)
    dump = draw.pick(_DUMPS)
    year, month, day = dump.split("-")[2], draw.between(1, 12), draw.between(1, 28)
    clock = f"{draw.below(24):02d}:{draw.below(60):02d}:{draw.below(60):02d}"
    return {
        "text": document.text,
        "id": document.id,
        "dump": dump,
        "url": f"https://www.{draw.pick(_SITES)}{draw.below(400)}.example/{draw.below(900)}/{index}.html",
        "date": f"{year}-{month:02d}-{day:02d}T{clock}Z",
        "file_path": f"s3://commoncrawl/crawl-data/{dump}/segments/{draw.below(100):05d}/warc/{draw.below(9000):05d}.warc.gz",
        "language": "",
        "language_score": 0.0,
        "language_script": "",
        "minhash_cluster_size": 0,
        "top_langs": "",
    }


def _truth_row(document: Document) -> dict[str, str | float | list[str]]:
    return {
        "id": document.id,
        "language": document.language,
        "topic": document.topic,
        "page_type": document.page_type,
        "dup_kind": document.dup_kind,
        "dup_group": document.dup_group,
        "edit_rate": document.edit_rate,
        "pii_kinds": [kind for kind, _ in document.pii],
        "pii_values": [value for _, value in document.pii],
        "lookalike_kinds": [kind for kind, _ in document.lookalikes],
        "lookalike_values": [value for _, value in document.lookalikes],
        "junk": document.junk,
        "leaked": document.leaked,
    }


def write_web_file(params: SampleParams, file_index: int, web_path: str | Path, truth_path: str | Path) -> dict[str, int]:
    """Write one web file and its truth file; returns the number of pages by kind ("docs" is their sum)."""
    spec = file_plan(params)[file_index]
    counts: Counter[str] = Counter(docs=spec.n_docs)
    with (
        pq.ParquetWriter(web_path, WEB_SCHEMA, compression="zstd") as web,
        pq.ParquetWriter(truth_path, TRUTH_SCHEMA, compression="zstd") as truth,
    ):
        for start in range(spec.start, spec.start + spec.n_docs, params.docs_per_row_group):
            stop = min(start + params.docs_per_row_group, spec.start + spec.n_docs)
            documents = [build_document(params, index) for index in range(start, stop)]
            counts.update(layout(params).kind(index)[0] for index in range(start, stop))
            rows = [_web_row(params, start + at, document) for at, document in enumerate(documents)]
            web.write_table(pa.Table.from_pylist(rows, schema=WEB_SCHEMA))
            truth.write_table(pa.Table.from_pylist([_truth_row(d) for d in documents], schema=TRUTH_SCHEMA))
    return dict(counts)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            n_rows += 1
    return n_rows


def write_labels(params: SampleParams, path: str | Path) -> int:
    """Write the topic labels {"id", "label": medical|other} of a subset of the German pages; returns their number."""
    names = {"general": "other", "medical": "medical"}
    labelled = layout(params).labelled()
    return _write_jsonl(Path(path), ({"id": document_id(params, at), "label": names[topic]} for at, topic in labelled))


def write_bench(params: SampleParams, topic: str, path: str | Path) -> int:
    """Write the multiple-choice benchmark of a topic ("general", "medical"); returns the number of items."""
    return _write_jsonl(Path(path), map(asdict, items(topic, params.seed, params.n_bench_items)))


def write_open_bench(params: SampleParams, topic: str, path: str | Path) -> int:
    """Write the open questions of a topic; returns their number."""
    return _write_jsonl(Path(path), open_questions(topic, params.seed, params.n_open_items))


def write_chat(params: SampleParams, path: str | Path) -> int:
    """Write the instruction conversations; returns their number."""
    return _write_jsonl(Path(path), chats(params.seed, params.n_chats))


def write_side_files(params: SampleParams, root: str | Path) -> dict[str, int]:
    """Write everything but web and truth under `root`; returns the number of rows by relative path."""
    base = Path(root)
    counts = {"labels.jsonl": write_labels(params, base / "labels.jsonl")}
    for topic in TOPICS:
        counts[f"bench/{topic}.jsonl"] = write_bench(params, topic, base / "bench" / f"{topic}.jsonl")
        counts[f"bench/open_{topic}.jsonl"] = write_open_bench(params, topic, base / "bench" / f"open_{topic}.jsonl")
    counts["chat/general.jsonl"] = write_chat(params, base / "chat" / "general.jsonl")
    return counts


def write_sample(params: SampleParams, root: str | Path) -> dict[str, int]:
    """Write the whole sample under `root`, one file after the other; returns the number of pages by kind."""
    base, counts = Path(root), Counter[str]()
    for folder in ("web", "truth"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for spec in file_plan(params):
        counts.update(write_web_file(params, spec.index, base / "web" / spec.name, base / "truth" / spec.name))
    write_side_files(params, base)
    return dict(counts)
