"""The command line. Every command prints what a person needs, and any expected failure is one sentence and exit code 2."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from cluster.labels_cli import labels_app
from store.errors import DefinemedError, from_os_error

app = typer.Typer(
    name="definemed",
    help="From web text to a specialised language model, in one recipe: filter, deduplicate, pack, train, merge, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
dedup_app = typer.Typer(name="dedup", help="Look into the deduplication of a run.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(dedup_app)
classifier_app = typer.Typer(name="classifier", help="Look at a run's classifier.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(classifier_app)
app.add_typer(labels_app)
tokens_app = typer.Typer(
    name="tokens", help="Token shards to and from other programs; what a run has seen of them.", no_args_is_help=True,
    rich_markup_mode="rich",
)  # fmt: skip
app.add_typer(tokens_app)
DEFAULT_OUT = "out"

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a built-in recipe (demo, finemed-de, …).")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value, e.g. --set corpus.dedup.keep=longest. Repeatable."),
]
OutOption = Annotated[str, typer.Option("--out", help="Output folder or URL for artifacts and runs.", envvar="DEFINEMED_OUT")]


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    out: OutOption = DEFAULT_OUT,
    address: Annotated[
        str,
        typer.Option(help="auto: a running Ray head if there is one, else a local Ray; local: always a local one; or ray://HOST:PORT."),
    ] = "auto",
    until: Annotated[str | None, typer.Option(help="Stop after this step, e.g. --until select (plan lists the steps).")] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard with a local Ray (on loopback).")] = False,
) -> None:
    """Run a recipe from pages to report. What exists already is not done again; a run that was cut off continues."""
    from cluster.commands.run import run_recipe

    run_recipe(recipe, overrides or [], out, address, until, dashboard)


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    out: OutOption = DEFAULT_OUT,
    gpu: Annotated[str | None, typer.Option(help="Device that training is estimated for, e.g. A100; default with GPUs: H100.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Number of devices; default: cluster.train_workers.")] = None,
    mfu: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the devices' peak that training is assumed to reach.")] = 0.4,
    tokens: Annotated[float | None, typer.Option(min=1, help="Tokens of each training, e.g. 5.1e9; default: what is packed.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Price of one device for one hour, in any money.")] = None,
    docs: Annotated[float | None, typer.Option(min=1, help="Pages to estimate for, e.g. 496e6; default: those of the source.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores; default: cluster.workers, else this machine's.")] = None,
    pass_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the pages that reach an encoder; default: by the classifier's card.")
    ] = None,
    encoder_rate: Annotated[float | None, typer.Option(min=0.001, help="Pages/s that one device scores, if you measured it.")] = None,
) -> None:
    """Show the passes and steps of a recipe, what is done already, and what the rest would cost. Runs nothing."""
    from cluster.commands.plan import show_plan
    from cluster.commands.plan_scoring import Scoring
    from cluster.commands.plan_training import Hardware

    scoring = Scoring(docs, pass_share, encoder_rate, cores)
    show_plan(recipe, overrides or [], out, Hardware(gpu, gpus, mfu, tokens, price), scoring)


@app.command()
def inspect(
    artifact: Annotated[str, typer.Argument(help="The folder of an artifact or of a run.")],
    n: Annotated[int | None, typer.Option("--n", min=0, help="Documents to show; default 5, on a page 400.")] = None,
    reason: Annotated[str | None, typer.Option(help="Documents dropped for it: stage/reason, reason, or its beginning.")] = None,
    stage: Annotated[str | None, typer.Option(help="Documents dropped by this stage.")] = None,
    kept_set: Annotated[str | None, typer.Option("--set", help="Documents kept in this set, e.g. domain-heldout.")] = None,
    doc_id: Annotated[str | None, typer.Option("--id", help="What became of one document, by its id (or key:NUMBER).")] = None,
    sort: Annotated[str, typer.Option(help="sample: drawn by id; value: nearest to the limit first.")] = "sample",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another sample.")] = 0,
    step: Annotated[str | None, typer.Option(help="With a run's folder: the step to look at, e.g. documents.")] = None,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page to browse documents and limits.")] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option("--what-if", metavar="STAGE.PARAM=VALUE", help="Judge a sample again with another parameter. Repeatable."),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Documents that --what-if judges again.")] = 5000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show texts as they are stored: may show personal data.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare it with the manifest.")] = False,
) -> None:
    """Show an artifact and its documents; what became of one; a page to browse; what other parameters would do."""
    from cluster.commands.inspect import inspect_artifact
    from cluster.inspect.show import Query

    query = Query(5 if n is None else n, reason, stage, kept_set, sort, seed, unmasked)
    if html is not None:
        from cluster.commands.inspect_page import write_page

        write_page(artifact, html, replace(query, n=400 if n is None else n), step=step)
    elif what_if:
        from cluster.commands.what_if import show_what_if

        show_what_if(artifact, what_if, query, step=step, sample=sample, as_json=as_json)
    else:
        inspect_artifact(artifact, query, step=step, doc_id=doc_id, verify=verify, as_json=as_json)


@app.command()
def report(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, e.g. out/runs/demo-1a2b3c4d.")],
    out: Annotated[str | None, typer.Option(help="The output folder the run belongs to; default: two levels above RUN.")] = None,
) -> None:
    """Write the report of a run again, from its artifacts."""
    from cluster.commands.report import rewrite_report

    rewrite_report(run_folder, out)


@dedup_app.command("index")
def dedup_index(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT|RUN", help="The folder of a documents artifact, or of a run.")],
    to: Annotated[str, typer.Option("--to", help="Folder or URL below which the index is written.")],
    address: Annotated[str, typer.Option(help="As in run: auto, local, or ray://HOST:PORT.")] = "auto",
) -> None:
    """Keep what deduplication needs of a corpus, without its text: signatures, word n-gram sets, ids, scores."""
    from cluster.commands.dedup_index import make_index

    make_index(artifact, to, address)


@dedup_app.command("lookup")
def dedup_lookup(
    file: Annotated[str, typer.Argument(help="A .txt file (one page), or a file of pages in any format of a source.")],
    artifact: Annotated[str, typer.Option("--in", help="The folder of a documents artifact, of an index, or of a run.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Pages to show for each page, most alike first.")] = 5,
    min_jaccard: Annotated[float, typer.Option(min=0, max=1, help="Show only pages at least this alike.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show which kept pages resemble the pages of a file."""
    from cluster.commands.dedup_index import show_matches

    show_matches(file, artifact, n, min_jaccard, as_json)


@dedup_app.command("lean")
def dedup_lean(
    artifact: Annotated[
        str, typer.Argument(metavar="ARTIFACT|RUN", help="The folder of a documents artifact, of an index, or of a run.")
    ],
    to: Annotated[str, typer.Option("--to", help="Parquet file to write.")],
) -> None:
    """Write the signatures as datasketch's LeanMinHash. They must be of family datasketch, with keep_minima."""
    from cluster.commands.dedup_lean import write_lean

    write_lean(artifact, to)


@dedup_app.command("report")
def dedup_report(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT|RUN", help="The folder of a dedup artifact, or of a run.")],
    documents: Annotated[str | None, typer.Option(help="The folder of the documents artifact, if it was moved.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to compare; more take longer and tell more.")] = 2000,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page, with pairs side by side.")] = None,
) -> None:
    """Measure how good the clusters of a run are, from a sample of its own pages (personal data masked)."""
    from cluster.commands.dedup import report_quality

    report_quality(artifact, documents, pairs, html)


@classifier_app.command("page")
def classifier_page(
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT|RUN", help="The folder of a classifier's artifact, or of a run.")],
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    step: Annotated[str, typer.Option(help="With a run's folder: the classifier's step.")] = "classifier",
    n: Annotated[int, typer.Option("--n", min=0, help="Borderline pages to list.")] = 24,
    text: Annotated[bool, typer.Option("--text", help="Show texts of borderline pages (personal data masked).")] = False,
) -> None:
    """Say how good a run's classifier is; with --html as a page with plots and what each threshold keeps."""
    from cluster.commands.classifier import write_page

    write_page(artifact, step, html, n, text)


@tokens_app.command("export")
def tokens_export(
    artifact: Annotated[str, typer.Argument(help="The folder of a tokens artifact.")],
    to: Annotated[str, typer.Option("--to", help="Folder or URL that gets the files.")],
    kind: Annotated[str, typer.Option("--format", help="datatrove (.ds, .ds.index, .ds.metadata) or megatron (.bin, .idx).")],
) -> None:
    """Write token shards for datatrove or Megatron-LM."""
    from cluster.commands.tokens import export_store

    export_store(artifact, to, kind)


@tokens_app.command("import")
def tokens_import(
    source: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder or URL of the shards.")],
    to: Annotated[str, typer.Option("--to", help="Folder or URL below which the tokens artifact is written.")],
    kind: Annotated[str, typer.Option("--format", help="datatrove or megatron.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or hub name of the tokenizer that made the shards.")],
    end_of_text: Annotated[str | None, typer.Option("--end-of-text", help="Token that closes a document.")] = None,
    written_by: Annotated[
        str | None, typer.Option("--written-by", help="The tokenizer's name in the shards' metadata, if it is another.")
    ] = None,
) -> None:
    """Read token shards of datatrove or Megatron-LM into a tokens artifact."""
    from cluster.commands.tokens import import_store

    import_store(source, to, kind, tokenizer, end_of_text, written_by)


@tokens_app.command("ledger")
def tokens_ledger(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, e.g. out/runs/demo-1a2b3c4d.")],
    model: Annotated[str | None, typer.Option(help="A trained model of the recipe; default: all.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="After so many optimizer steps; default: at the end.")] = None,
    out: Annotated[str | None, typer.Option(help="The output folder the run belongs to; default: two levels above RUN.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show how many tokens, and epochs, of every source a model has seen at a step, from the plan alone."""
    from cluster.commands.tokens import show_ledger

    show_ledger(run_folder, out, model, step, as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors and for reading: every key with its type, default and meaning."""
    import json

    from cluster.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def doctor(out: OutOption = DEFAULT_OUT) -> None:
    """Check this machine: Python, packages, memory, disk, Ray, GPU, and say what to do about what is wrong."""
    from cluster.commands.doctor import show_diagnosis

    show_diagnosis(out)


def main() -> None:
    """The console script: errors a user can cause become one sentence and exit code 2; --debug shows the traceback."""
    # On-premise means that no library reports home either; workers of a local Ray inherit this.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    debug = "--debug" in sys.argv
    if debug:  # accepted before or after the command
        sys.argv = [sys.argv[0], "--debug", *[a for a in sys.argv[1:] if a != "--debug"]]
    try:
        app()
    except DefinemedError as error:
        _fail(error, debug)
    except OSError as error:
        # The paths a user gave fail here as they do in store.fs: full disk, no permission, no such folder.
        _fail(from_os_error(error, str(error.filename or "")), debug)
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted. Finished work is kept; the same command continues.", style="yellow")
        raise SystemExit(130) from None


def _fail(error: DefinemedError, debug: bool) -> None:
    if debug:
        raise error
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/bold red] {_escape(error.sentence())}")
    sys.stderr.flush()
    # Ray's threads may still be closing; the exit code is what scripts look at.
    os._exit(error.exit_code) if _ray_is_up() else sys.exit(error.exit_code)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _ray_is_up() -> bool:
    ray = sys.modules.get("ray")
    return bool(ray is not None and ray.is_initialized())


if __name__ == "__main__":
    main()
