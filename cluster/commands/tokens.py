"""``definemed tokens export``, ``import`` and ``ledger``: shards to and from other programs, and what a run has seen of its sources."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.recipe import Recipe, TrainedModel
from cluster.recipe_errors import validate
from corpus.token_files import KINDS, Kind
from store.artifact import Artifact
from store.errors import RecipeError
from store.fs import Folder
from store.params import Json
from store.plan import PackPlan
from store.run import RunRecord
from store.tokens import TokenStore
from training.ledger import Seen, ledger, tokens_by_weight
from training.order import RowOrder


def export_store(artifact: str, to: str, kind: str) -> None:
    """Write a tokens artifact in another program's format."""
    from corpus.token_files.export import export_tokens

    source = Artifact.open(Folder(artifact.rstrip("/")).absolute())
    if source.step != "tokens":
        raise RecipeError(f"this is an artifact of the step {source.step}", where=artifact, expected="a tokens artifact")
    note = export_tokens(source, Folder(to.rstrip("/")).absolute(), _kind(kind))
    n = sum(e.n_rows or 0 for e in source.files("tokens/"))
    _console().print(
        f"{n:,} tokens in {len(source.files('tokens/'))} shards, {len(cast(list[Json], note['files']))} files: {escape(to)}"
    )


def import_store(source: str, to: str, kind: str, tokenizer: str, end_of_text: str | None, written_by: str | None) -> None:
    """Read another program's shards into a tokens artifact and print its folder."""
    from corpus.token_files.imports import import_tokens

    made = import_tokens(
        Folder(source.rstrip("/")).absolute(), Folder(to.rstrip("/")).absolute(), _kind(kind), tokenizer, end_of_text, written_by
    )
    counts = made.manifest.counts
    _console().print(f"{counts['read']:,} documents, {counts['tokens']:,} tokens: {escape(made.folder.url)}")
    if counts.get("closed_here"):
        _console().print(f"{counts['closed_here']:,} documents had no end-of-text id at their end and got one")


def show_ledger(run_folder: str, out: str | None, model: str | None, step: int | None, as_json: bool) -> None:
    """Print tokens and epochs by source for the models of a run."""
    run = Folder(run_folder.rstrip("/")).absolute()
    record = RunRecord.read(run)
    root = Folder(out) if out else Folder(run.url.rsplit("/", 2)[0])
    recipe = validate(Recipe, dict(record.recipe), os.path.join(run_folder, "recipe.json"))
    trained = {n: s for n, s in recipe.models.items() if isinstance(s, TrainedModel)}
    if model is not None and model not in trained:
        raise RecipeError(
            f"no model {model} is trained in this run", where=run_folder, expected=f"one of {', '.join(trained) or 'none'}"
        )
    for name in [model] if model else list(trained):
        packed = record.artifact(root, f"pack/{name}")
        if packed is None and model is None:
            if not as_json:
                _console().print(f"[bold]{escape(name)}[/bold] is not packed yet")
            continue
        if packed is None:
            raise RecipeError(f"the rows of {name} are not packed yet", where=run_folder, remedy=f"run the recipe until pack/{name}")
        plan, spec = PackPlan.open(packed), trained[name].train
        order = RowOrder.plan(plan.n_rows, spec.rows_per_step, epochs=spec.epochs, max_steps=spec.max_steps, seed=spec.seed)
        at = order.n_steps if step is None else min(step, order.n_steps)
        sources = cast("list[dict[str, Json]]", packed.manifest.summary["sources"])
        seen = ledger(plan, order, at, sources)
        weights = _weights(record, root, plan, order, at, sources)
        if as_json:
            body = {"model": name, "step": at, "n_steps": order.n_steps, "sources": [asdict(s) for s in seen], "rehydration": weights}
            print(json.dumps(body))
        else:
            _print(name, at, order.n_steps, seen, weights)


def _weights(
    record: RunRecord, root: Folder, plan: PackPlan, order: RowOrder, step: int, sources: list[dict[str, Json]]
) -> dict[str, list[dict[str, int]]]:
    """Source -> entries of its table with the tokens seen; only of rehydrated sources."""
    out: dict[str, list[dict[str, int]]] = {}
    for number, source in enumerate(sources):
        rows = cast("list[dict[str, int]]", source.get("rehydration") or [])
        artifact = record.artifact(root, f"tokens/{source['name']}") if rows else None
        if artifact is None:
            continue
        table = {row["cluster_size"]: row["weight"] for row in rows}
        tokens = tokens_by_weight(plan, order, step, number, TokenStore.open(artifact), table)
        out[str(source["name"])] = [
            {"cluster_size": n, "weight": w, "tokens": int(t)} for (n, w), t in zip(table.items(), tokens, strict=True)
        ]
    return out


def _print(name: str, step: int, n_steps: int, seen: list[Seen], weights: dict[str, list[dict[str, int]]]) -> None:
    console = _console()
    console.print(f"[bold]{escape(name)}[/bold] after {step:,} of {n_steps:,} steps")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("source", "tokens", "share", "epochs"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for s in seen:
        table.add_row(escape(s.name), f"{s.tokens:,}", f"{s.share:.2%}", f"{s.epochs:.3f}")
        for row in weights.get(s.name, []):
            table.add_row(f"  clusters from {row['cluster_size']:,}, x {row['weight']}", f"{row['tokens']:,}")
    console.print(table)


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise RecipeError(f"there is no format {name}", where="--format", expected=f"one of {', '.join(KINDS)}")
    return cast(Kind, name)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)
