"""``definemed report``: the report of a run, written again."""

from __future__ import annotations

import os

from rich.console import Console

from evaluation.report import write_report
from store.fs import Folder


def rewrite_report(run_folder: str, out: str | None) -> None:
    """Write report.html of a run's folder and print where it is."""
    folder = Folder(run_folder.rstrip("/") if "://" in run_folder else os.path.abspath(run_folder))
    root = Folder(out if out is not None else folder.url.rsplit("/", 2)[0])
    Console().print(f"report: {write_report(root, folder)}", highlight=False, soft_wrap=True)
