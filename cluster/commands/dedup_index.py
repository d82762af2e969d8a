"""``definemed dedup index`` and ``lookup``: what remains of a corpus without its text, and which of its pages resemble a page."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.commands.dedup import find_signed
from corpus.dedup.index import signature_params, write_index
from corpus.dedup.lookup import Match, lookup
from corpus.source import BadRow, FileSource, list_units, read_unit
from store.artifact import Artifact, Draft, Identity
from store.errors import InputError
from store.fs import Folder, open_input

INDEX_VERSION = 2


def make_index(artifact: str, to: str, address: str) -> None:
    """Write the index of a documents artifact below ``to`` and print its folder."""
    from cluster.executor import RayExecutor
    from cluster.progress import ProgressDisplay
    from cluster.session import open_session

    source = find_signed(artifact)
    identity = Identity("index", INDEX_VERSION, {"stages": [signature_params(source)]}, {"documents": source.manifest.content_hash})
    draft = Draft.begin(Folder(to).absolute(), identity)
    console = Console(highlight=False, soft_wrap=True)
    if not draft.folder.exists("manifest.json"):
        with open_session(address), ProgressDisplay() as progress:
            write_index(draft, RayExecutor(progress), source)
    made = Artifact.open(draft.folder)
    console.print(f"{made.manifest.summary['n_docs']:,} documents, {made.size_bytes / 1e6:,.1f} MB, no text: {made.folder.url}")
    console.print(f"use it with --set 'corpus.dedup.against=[\"{made.folder.url}\"]'")


def show_matches(file: str, artifact: str, n: int, min_jaccard: float, as_json: bool) -> None:
    """Print the kept pages that resemble the pages of a file."""
    ids, texts = queries(file)
    matches = lookup(find_signed(artifact), texts, min_jaccard)
    by_query: list[list[Match]] = [[] for _ in texts]
    for match in matches:
        by_query[match.query].append(match)
    if as_json:
        for match in (m for found in by_query for m in found[:n]):
            print(json.dumps({**asdict(match), "query": ids[match.query]}, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for name, found in zip(ids, by_query, strict=True):
        console.print(f"[bold]{escape(name)}[/bold] {_said(len(found), n)}")
        if found:
            console.print(_table(found[:n]))


def _said(n_found: int, n_shown: int) -> str:
    count = {0: "no page resembles it", 1: "1 page resembles it"}.get(n_found, f"{n_found:,} pages resemble it")
    return count + (f"; the {n_shown} most alike:" if n_found > n_shown else "")


def _table(matches: list[Match]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("Jaccard", "bands", "id", "url"):
        table.add_column(column, justify="right" if column in ("Jaccard", "bands") else "left", overflow="fold")
    for match in matches:
        similarity = "exact" if match.exact and match.jaccard == 1.0 else f"{match.jaccard:.3f}"
        table.add_row(similarity, str(match.n_bands), escape(match.id or str(match.doc_key)), escape(match.url or ""))
    return table


def queries(file: str) -> tuple[list[str], list[str]]:
    """(ids, texts) of a .txt file, which is one page, or of a file of documents in any of the source's formats."""
    if file.endswith(".txt"):
        with open_input(file) as handle:
            try:
                return [file.rsplit("/", 1)[-1]], [handle.read().decode()]
            except UnicodeDecodeError as error:
                raise InputError("the text is not UTF-8", where=file, remedy="convert it") from error
    source = FileSource(files=(file,))
    ids: list[str] = []
    texts: list[str] = []

    def refuse(bad: BadRow) -> None:
        raise InputError(f"row {bad.row} cannot be looked for ({bad.reason})", where=file, remedy="take it out of the file")

    for unit in list_units(source):
        for batch in read_unit(unit, source, refuse):
            texts += batch.column("text").to_pylist()
            ids += [name or f"page {len(ids) + i}" for i, name in enumerate(batch.column("id").to_pylist())]
    if not texts:
        raise InputError("there is no page to look for", where=file)
    return ids, texts
