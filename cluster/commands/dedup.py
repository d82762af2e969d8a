"""``definemed dedup report``: how good the clusters of a run are, from a sample of its own pages; and what a user's folder means."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.dedup_page import console_tables, render, verdict
from corpus.dedup.quality import measure
from evaluation.report import blocks
from store.artifact import Artifact
from store.errors import InputError
from store.fs import Folder
from store.run import RECORD, RunRecord


def report_quality(path: str, documents: str | None, n_pairs: int, html: str | None) -> None:
    """Print the quality of clusters, or write it as a page.

    Args:
        path: the folder of a run, or of a dedup artifact.
        documents: the folder of the documents artifact, if it is not where the run put it.
        n_pairs: pairs to compare.
        html: file to write.
    """
    clusters, pages = find_artifacts(Folder(path.rstrip("/")).absolute(), documents)
    quality = measure(clusters, pages, n_pairs)
    console = Console(highlight=False)
    if html is not None:
        limit = clusters.manifest.params.get("min_jaccard")
        page = render(f"dedup {clusters.fingerprint[:16]}", quality, float(str(limit)) if limit is not None else None)
        with open(html, "w", encoding="utf-8") as file:
            file.write(page)
        console.print(f"written: {html}", soft_wrap=True)
        return
    console.print(escape(verdict(quality)))
    for table in console_tables(quality):
        console.print()
        console.print(_console_table(table))


def find_artifacts(folder: Folder, documents: str | None) -> tuple[Artifact, Artifact]:
    """(dedup, documents) artifacts of a run's folder, or of the folder of a dedup artifact."""
    if folder.exists(RECORD):
        record, out = RunRecord.read(folder), Folder(folder.url.rsplit("/", 2)[0])
        clusters = record.artifact(out, "dedup")
        if clusters is None:
            raise InputError("the run has no finished step dedup", where=folder.url, remedy="run it until dedup")
    else:
        clusters = Artifact.open(folder)
    if clusters.step != "dedup":
        raise InputError(f"this is an artifact of the step {clusters.step}", where=folder.url, expected="a dedup artifact, or a run")
    if documents is None:
        found = clusters.manifest.inputs.get("documents", "")
        documents = Folder(clusters.folder.url.rsplit("/", 2)[0]).path(f"documents/{found[:16]}")
    return clusters, Artifact.open(Folder(documents.rstrip("/")))


def find_signed(path: str) -> Artifact:
    """The documents artifact of a run's folder; or the artifact of a folder, which is one of documents or an index."""
    folder = Folder(path.rstrip("/")).absolute()
    if folder.exists(RECORD):
        found = RunRecord.read(folder).artifact(Folder(folder.url.rsplit("/", 2)[0]), "documents")
        if found is None:
            raise InputError("the run has no finished step documents", where=folder.url, remedy="run it until documents")
        return found
    artifact = Artifact.open(folder)
    if artifact.step not in ("documents", "index"):
        raise InputError(f"this is an artifact of the step {artifact.step}", where=folder.url,
                         expected="a documents artifact, an index, or a run")  # fmt: skip
    return artifact


def _console_table(content: blocks.Table) -> Table:
    out = Table(title=content.caption, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name, numeric in zip(content.head, content.numeric, strict=True):
        out.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in content.rows:
        out.add_row(*(escape(cell.text) for cell in row))
    return out
