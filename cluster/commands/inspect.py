"""``definemed inspect``: what an artifact is, what it counts, some of its documents. Personal data is masked before display."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.report.mask import mask
from store.artifact import Artifact
from store.errors import InputError
from store.fs import Folder, open_input
from store.run import RECORD, RunRecord

EXCERPT_CHARS = 400


def show_artifact(path: str, n: int, reason: str | None, verify: bool) -> None:
    """Print an artifact's manifest in words, or the steps of a run's folder."""
    console = Console(highlight=False)
    folder = Folder(path.rstrip("/"))
    if folder.exists(RECORD):
        _show_run(console, folder)
        return
    artifact = Artifact.open(folder)
    m = artifact.manifest
    console.print(f"[bold]{m.step}[/bold] {m.fingerprint[:16]}  {len(m.files)} files, {artifact.size_bytes / 1e6:,.1f} MB")
    console.print(f"content hash {m.content_hash}")
    if verify:
        artifact.verify()
        console.print("[green]every file is what the manifest says[/green]")
    _show_counts(console, artifact)
    for key, value in m.summary.items():
        if not isinstance(value, (dict, list)):
            console.print(f"{key}: {escape(str(value))}")
    for title, text in _documents(artifact, n, reason):
        console.print(f"\n[bold]{escape(title)}[/bold]")
        console.print(escape(mask(text)[:EXCERPT_CHARS]), soft_wrap=True)


def _show_run(console: Console, folder: Folder) -> None:
    record = RunRecord.read(folder)
    console.print(f"[bold]{record.name}[/bold] {record.status}, {record.elapsed_s:,.0f} s, {len(record.steps)} steps")
    if record.error:
        console.print(f"[red]{escape(record.error)}[/red]")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "seconds", "artifact"):
        table.add_column(column, justify="right" if column == "seconds" else "left", overflow="fold")
    for step in record.steps:
        table.add_row(step.name, "found" if step.cached else f"{step.elapsed_s:,.1f}", step.folder)
    console.print(table)


def _show_counts(console: Console, artifact: Artifact) -> None:
    counts = artifact.manifest.counts
    if not counts:
        return
    read = counts.get("read", 0)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("count")
    table.add_column("n", justify="right")
    table.add_column("share of read", justify="right")
    for name, value in counts.items():
        is_document = name.split("/")[0] in ("kept", "dropped", "quarantined")
        table.add_row(escape(name), f"{value:,}", f"{value / read:.2%}" if read and is_document else "")
    console.print(table)


def _documents(artifact: Artifact, n: int, reason: str | None) -> Iterator[tuple[str, str]]:
    """(title, text) of the first n documents, kept ones or those dropped for a reason."""
    if n == 0:
        return
    prefix = "dropped/" if reason else next((p for p in ("kept/", "domain/") if artifact.files(p)), None)
    if prefix is None:
        prefix = next((f.name.split("/")[0] + "/" for f in artifact.files() if f.name.endswith(".parquet") and "/" in f.name), None)
    shown, known = 0, set()
    for entry in artifact.files(prefix) if prefix else []:
        with open_input(artifact.path(entry.name)) as handle:
            file = pq.ParquetFile(handle)
            if "text" not in file.schema_arrow.names:
                return
            for batch in file.iter_batches(256):
                if reason:
                    known |= set(pc.unique(batch.column("reason")).to_pylist())
                    batch = batch.filter(pc.equal(batch.column("reason"), reason))
                for row in batch.filter(pc.is_valid(batch.column("text"))).to_pylist():
                    value = "" if row.get("value") is None else f" value {row['value']:.4g}"
                    what = f"{row['stage']}/{row['reason']}{value}" if reason else f"{row.get('language') or ''}"
                    yield f"{row['id']} {what}", row["text"]
                    shown += 1
                    if shown == n:
                        return
    if reason and reason not in known:
        raise InputError(f"nothing here was dropped for the reason {reason}", where=artifact.folder.url,
                         expected=f"one of {', '.join(sorted(known))}" if known else None)  # fmt: skip
