"""``definemed doctor``: what this machine has and lacks, with remedies."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from cluster.doctor import diagnose

MARKS = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


def show_diagnosis(out: str) -> None:
    """Print every check; exit code 2 if one failed."""
    checks = diagnose(out)
    table = Table(show_header=True, header_style="bold", box=None, pad_edge=False)
    for column in ("check", "", "finding"):
        table.add_column(column, overflow="fold")
    for check in checks:
        remedy = f"\n[dim]{check.remedy}[/dim]" if check.remedy and check.ok != "ok" else ""
        table.add_row(check.name, MARKS[check.ok], check.finding.replace("[", r"\[") + remedy)
    Console().print(table)
    if any(c.ok == "fail" for c in checks):
        raise typer.Exit(2)
