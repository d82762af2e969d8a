"""``definemed plan``: the passes and steps of a recipe, what is done, and an estimate of what the rest costs. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.commands.plan_labels import AskingStep, print_asking
from cluster.commands.plan_scoring import Scoring, cores, print_scoring
from cluster.commands.plan_training import Hardware, print_trainings
from cluster.costs import Rates, estimate_pass, human_time
from cluster.inputs import with_local_files
from cluster.pipeline import Plan, plan_run
from cluster.recipe import Recipe, SampleSource, load_recipe
from cluster.steps.labels import WORK, step_of
from corpus.labelling.sample import PAGES
from corpus.passes import fused
from corpus.scoring.attach import stage_name
from corpus.source import FileSource, list_units
from corpus.stage import Stage
from store.errors import DefinemedError
from store.fs import Folder


def show_plan(name: str, overrides: Sequence[str], out: str, hardware: Hardware | None = None, scoring: Scoring | None = None) -> None:
    """Print the plan."""
    hardware, scoring = hardware or Hardware(), scoring or Scoring()
    console = Console(highlight=False)
    recipe = load_recipe(name, overrides)
    plan = plan_run(recipe, Folder(out))
    console.print(f"[bold]{recipe.name}[/bold] {escape(recipe.about)}")
    n_docs = _print_source(console, recipe)
    _print_passes(console, recipe)
    _print_steps(console, plan)
    n_docs = round(scoring.n_docs) if scoring.n_docs is not None else n_docs
    if n_docs is not None:
        _print_cost(console, recipe, n_docs, cores(recipe, scoring))
    _print_labelling(console, plan)
    print_scoring(
        console, plan, n_docs, scoring, hardware.kind(recipe.cluster.use_gpu), hardware.n_devices or recipe.cluster.train_workers
    )
    print_trainings(console, plan, hardware)
    plan.inputs.save() if plan.out.exists() else None


def _print_source(console: Console, recipe: Recipe) -> int | None:
    source = recipe.corpus.source
    if isinstance(source, SampleSource):
        console.print(f"source: the built-in synthetic sample, {source.sample.n_docs:,} pages")
        return source.sample.n_docs
    try:
        units = list_units(source, on_bad_input=recipe.corpus.on_bad_input)
    except Exception as error:  # a plan must not need the network: say what could not be seen, and go on with what the recipe expects
        why = error.sentence() if isinstance(error, DefinemedError) else type(error).__name__
        return _print_unreachable(console, source, why)
    n_docs = sum(u.n_docs for u in units)
    files = len({part.file for u in units for part in u.parts})
    console.print(f"source: {files:,} files, about {n_docs:,} documents, {len(units):,} units of work")
    return n_docs


def _print_unreachable(console: Console, source: FileSource, why: str) -> int | None:
    expected = f"; the recipe expects {source.expect_docs:,} documents" if source.expect_docs is not None else ""
    console.print(f"source: {escape(', '.join(source.files))} [yellow]cannot be looked at from here[/yellow]{expected}")
    console.print(f"  [dim]{escape(why)}[/dim]")
    return source.expect_docs


def _print_passes(console: Console, recipe: Recipe) -> None:
    corpus = recipe.corpus
    console.print("\n[bold]passes[/bold] (each reads and writes the documents once; stages in brackets judge the same rows)")
    console.print(f"  1  read > {escape(in_order(corpus.stages))} > write kept, dropped, signatures", soft_wrap=True)
    if corpus.dedup is not None:
        console.print("  -  barrier: deduplicate by signatures (no text is read)")
    for scored in corpus.scoring:
        console.print(f"  -  score what is left with the encoder of {scored}, on workers of its own")
    if corpus.repeated_text is not None:
        console.print(f"  -  barrier: count every {corpus.repeated_text.unit} of the survivors (reads their text once)")
    cut = " > cut repeated text" if corpus.repeated_text is not None else ""
    after = f" > {escape(in_order(corpus.after_dedup))}" if corpus.after_dedup else ""
    joined = "".join(f" > {stage_name(n)}" for n in corpus.scoring)
    console.print(f"  2  read > drop duplicates{joined}{cut}{after} > sets {', '.join(corpus.select.sets)} > write")


def in_order(stages: Sequence[Stage]) -> str:
    """The stages as a pass runs them: "language > [gopher_repetition + gopher_quality] > signature"."""
    names = [[s.name for s in group] for group in fused(stages)]
    return " > ".join(group[0] if len(group) == 1 else f"[{' + '.join(group)}]" for group in names)


def _print_steps(console: Console, plan: Plan) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "step", "artifact"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it does", overflow="fold")
    unknown: list[str] = []
    for node in plan.graph.nodes:
        try:
            identity = plan.graph.identity(node.name)
            mark = "[green]have[/green]" if plan.graph.is_done(plan.root, node.name) else "[cyan]run[/cyan]"
            folder = identity.fingerprint[:16]
        except DefinemedError as error:
            mark, folder = "[yellow]?[/yellow]", "not known yet"
            unknown.append(error.sentence())
        table.add_row(mark, node.name, folder, escape(node.about))
    console.print("\n[bold]steps[/bold]")
    console.print(table)
    for sentence in dict.fromkeys(unknown):
        console.print(f"[yellow]?[/yellow] {escape(sentence)}", soft_wrap=True)


def _print_labelling(console: Console, plan: Plan) -> None:
    """What asking language models would cost, for rounds that are still to be asked."""
    labelling, graph = plan.recipe.corpus.labelling, plan.graph
    if labelling is None or labelling.ask is None:
        return
    steps: list[AskingStep] = []
    for number, round_ in enumerate(labelling.sample.rounds, 1):
        name, drawn = step_of("label-answers", number), step_of("label-sample", number)
        try:
            if not graph.is_done(plan.root, name):
                there = graph.is_done(plan.root, drawn)
                steps.append(AskingStep(name, round_.n, graph.folder(plan.root, drawn).path(PAGES) if there else None))
        except DefinemedError:  # a file is not there yet, which the table of steps says
            steps.append(AskingStep(name, round_.n))
    if steps:
        print_asking(console, with_local_files(labelling.ask, plan.inputs.local), steps, plan.out / WORK)


def _print_cost(console: Console, recipe: Recipe, n_docs: int, n_cores: int) -> None:
    rates = Rates.load()
    if rates is None:
        return
    found = estimate_pass([s.stage for s in recipe.corpus.stages], n_docs, rates)
    console.print("\n[bold]estimate for pass 1[/bold]")
    console.print(
        f"  at most {human_time(found.core_s)} of one core; {human_time(found.core_s / n_cores)} with {n_cores} workers, "
        f"{human_time(found.core_s / 128)} with 128. Slowest stage: {found.slowest}"
    )
    console.print(f"  [dim]from rates measured on {escape(rates.machine)}; as if no filter spared a later stage anything[/dim]")
    if found.unknown:
        console.print(f"  [dim]not measured, so not counted: {', '.join(found.unknown)}[/dim]")
