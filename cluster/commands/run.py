"""``definemed run``: open what the recipe needs, execute its graph, write the report, say where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from cluster.graph import Context, Node
from cluster.pipeline import Plan, execute, plan_run
from cluster.recipe import load_recipe
from evaluation.report import write_report
from store.errors import DefinemedError
from store.executor import Executor, Watcher
from store.fs import Folder
from store.run import RunRecord


@dataclass(frozen=True)
class RayContext:
    """What steps run on: a Ray session's executor."""

    executor: Executor
    watch: Watcher
    plan: Plan

    def local(self, url: str) -> str:
        return self.plan.inputs.local(url)


def run_recipe(name: str, overrides: Sequence[str], out: str, address: str, until: str | None, dashboard: bool) -> None:
    """Run a recipe; prints steps as they pass, the scores, and the report's address."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    plan = plan_run(load_recipe(name, overrides), Folder(out))
    console.print(f"[bold]{plan.recipe.name}[/bold] {plan.recipe.about}")

    def announce(node: Node, what: str) -> None:
        marks = {"cached": "[dim]have[/dim]", "removed": "[dim]gone[/dim]", "start": "[cyan]run [/cyan]", "done": "[green]done[/green]"}
        console.print(f"{marks[what]} {node.name:<24} {'' if what == 'done' else '[dim]' + node.about + '[/dim]'}")

    @contextmanager
    def resources() -> Iterator[Context]:
        from cluster.executor import RayExecutor
        from cluster.progress import ProgressDisplay
        from cluster.session import open_session

        with open_session(address, dashboard=dashboard) as session, ProgressDisplay() as progress:
            console.print(f"[dim]{session.describe()}[/dim]")
            cluster = plan.recipe.cluster
            yield RayContext(RayExecutor(progress, n_attempts=cluster.attempts, max_workers=cluster.workers), progress, plan)

    from cluster.machine import describe_machine

    try:
        record = execute(plan, resources, describe_machine(plan.out.url), announce, until)
    except DefinemedError:
        if plan.run_folder.exists("run.json"):
            console.print(f"report of the failed run: {write_report(plan.out, plan.run_folder)}")
        raise
    page = write_report(plan.out, plan.run_folder)
    _print_scores(plan, record)
    cached = sum(s.cached for s in record.steps)
    console.print(f"{len(record.steps)} steps, {cached} of them found finished, {record.elapsed_s:.0f} s")
    Console(highlight=False, soft_wrap=True).print(f"report: {page}")


def _print_scores(plan: Plan, record: RunRecord) -> None:
    scores = record.artifact(plan.out, "evaluate")
    if scores is None:
        return
    from cluster.commands.scores import scores_table

    # A log file is not 80 columns wide.
    Console(width=None if Console().is_terminal else 120).print(scores_table(scores))
