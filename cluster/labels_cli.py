"""The commands ``definemed labels …``: their options; the work is in cluster.commands.labels."""

from __future__ import annotations

from typing import Annotated

import typer

labels_app = typer.Typer(
    name="labels",
    help="Pages for people to label, and how far a model agrees with them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, e.g. out/runs/demo-1a2b3c4d.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over a file that exists.")]


@labels_app.command("export")
def labels_export(
    run_folder: RunArgument,
    to: Annotated[str, typer.Option("--to", help="File to write: .csv (for spreadsheets) or .jsonl. It holds text of pages.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Pages, as many of each of the model's labels as far as they go.")] = 300,
    blind: Annotated[bool, typer.Option("--blind", help="Leave the model's label out, so that it sways nobody.")] = False,
    mask: Annotated[bool, typer.Option("--mask/--no-mask", help="Mask personal data as the recipe's privacy stage does.")] = True,
    chars: Annotated[int, typer.Option(min=1, help="Characters of a page's beginning.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other pages.")] = 1,
    separator: Annotated[str, typer.Option(help="Of CSV cells: ; as German spreadsheets expect, or a comma, or a tab.")] = ";",
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="FILE", help="Leave out pages labelled in this file. Repeatable.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write a sheet of a run's drawn pages for people to label."""
    from cluster.commands.labels import export_sheet

    export_sheet(run_folder, to, n, blind=blind, masked=mask, chars=chars, seed=seed, separator=separator, without=without or [],
                 force=force)  # fmt: skip


@labels_app.command("import")
def labels_import(
    sheets: Annotated[list[str], typer.Argument(metavar="SHEET...", help="Labelled sheets, .csv or .jsonl.")],
    run_folder: Annotated[str, typer.Option("--run", metavar="RUN", help="The folder of the run that the sheets are of.")],
    to: Annotated[str, typer.Option("--to", help="File to write, .jsonl: ids, labels and annotators, no text.")],
    force: ForceOption = False,
) -> None:
    """Check labelled sheets and write the labels for the recipe (corpus.labelling.people)."""
    from cluster.commands.labels import import_sheets

    import_sheets(sheets, run_folder, to, force=force)


@labels_app.command("agree")
def labels_agree(
    run_folder: RunArgument,
    people: Annotated[str | None, typer.Option(help="People's labels; default: those that the recipe names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Say how far the models agree with people, each of them, and people among themselves."""
    from cluster.commands.labels import show_agreement

    show_agreement(run_folder, people, as_json)
