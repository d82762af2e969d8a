"""What asking language models for labels would cost, in ``definemed plan``: round by round, nothing is sent.

A round whose pages are drawn already is counted page by page, less the answers that are kept; of another, every page is taken to be as
long as ``ask.max_chars`` allows.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from cluster.inputs import with_local_files
from cluster.pipeline import Plan
from cluster.steps.labels import WORK, step_of
from corpus.labelling.params import LabellingParams
from corpus.labelling.sample import PAGES
from store.errors import DefinemedError


def print_labelling(console: Console, plan: Plan) -> None:
    """Print the estimate of every round that is still to be asked."""
    params = plan.recipe.corpus.labelling
    if params is None or params.ask is None:
        return
    lines: list[str] = []
    for number in range(1, len(params.sample.rounds) + 1):
        if not _is_asked(plan, number):
            first, *more = _lines(plan, params, number)
            lines += [f"  round {number}: {first}", *(f"  {line}" for line in more)]
    if lines:
        console.print("\n[bold]estimate for labelling[/bold] (if every answer is a label at once)")
        for line in lines:
            console.print(escape(line), soft_wrap=True)


def _is_asked(plan: Plan, number: int) -> bool:
    try:
        return plan.graph.is_done(plan.root, step_of("label-answers", number))
    except DefinemedError:  # a file that the recipe names is not there yet: _print_steps says so
        return False


def _lines(plan: Plan, params: LabellingParams, number: int) -> list[str]:
    from corpus.labelling.cost import estimate_count, estimate_pages

    ask, sample = params.ask, step_of("label-sample", number)
    assert ask is not None
    try:
        local = with_local_files(ask, plan.inputs.local)
        if plan.graph.is_done(plan.root, sample):
            return estimate_pages(local, plan.graph.folder(plan.root, sample).path(PAGES), plan.out / WORK).lines()
        n_chars = min(ask.max_chars, params.sample.max_chars)
        return estimate_count(local, params.sample.rounds[number - 1].n, n_chars).lines()
    except DefinemedError as error:
        return [f"not known yet: {error.sentence()}"]
