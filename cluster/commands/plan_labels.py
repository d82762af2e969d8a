"""What ``definemed plan`` says of labelling: for each step that asks language models, how much it would send, cost and take.

Where the pages are drawn already, they are counted as they are and known answers are taken off; else every page counts as long as
``max_chars`` allows. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from corpus.labelling.ask_params import AskParams
from store.errors import DefinemedError
from store.fs import Folder


@dataclass(frozen=True)
class AskingStep:
    """A step that asks about pages: ``n_pages`` as the recipe says, and their file once it exists."""

    name: str
    n_pages: int
    pages: str | None = None


def print_asking(console: Console, params: AskParams, steps: Sequence[AskingStep], work: Folder) -> None:
    """Print the estimate of each step; ``work`` is the folder given to ``label_pages``."""
    from corpus.labelling.cost import estimate_count, estimate_pages

    console.print("\n[bold]asking language models[/bold]")
    for step in steps:
        try:
            found = estimate_count(params, step.n_pages) if step.pages is None else estimate_pages(params, step.pages, work)
        except DefinemedError as error:  # a plan says what it cannot know, and goes on
            console.print(f"  {step.name}: [yellow]not known[/yellow] [dim]{escape(error.sentence())}[/dim]", soft_wrap=True)
            continue
        head, *models = found.lines()
        console.print(f"  {step.name}: {escape(head)}", soft_wrap=True)
        for line in models:
            console.print(f"  {escape(line)}", soft_wrap=True)
        if params.max_cost is not None and found.cost > params.max_cost:
            console.print(f"    [yellow]more than max_cost ({params.max_cost:g}): the run would refuse[/yellow]")
    rule = f"{params.chars_per_token:g} characters a token; answers of {params.max_tokens} tokens at most; each page asked once"
    console.print(f"  [dim]counted as {rule}[/dim]", soft_wrap=True)
