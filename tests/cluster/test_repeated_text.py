"""Repeated text on the road: a node of its own between deduplication and pass 2, and pages without their boilerplate."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.pipeline import execute, plan_run
from cluster.recipe import Recipe
from store.artifact import Artifact
from store.executor import SerialExecutor, ignore
from store.fs import Folder

COOKIES = "Diese Seite verwendet Cookies, um Ihnen den besten Dienst zu bieten."
CONTEXT = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=lambda url: url)


def recipe_of(path, unit_docs=100, task_memory_mb=2000, **repeated):
    corpus = {
        "source": {"files": [str(path)], "unit_docs": unit_docs}, "stages": [{"stage": "normalise"}, {"stage": "signature"}],
        "repeated_text": {"max_documents": 20, "task_memory_mb": task_memory_mb, **repeated} if repeated else None,
    }  # fmt: skip
    return Recipe.model_validate({"name": "lines", "corpus": corpus})


def run(recipe, out):
    plan = plan_run(recipe, Folder(str(out)))
    execute(plan, lambda: nullcontext(CONTEXT), {}, lambda *_: None)
    return {n.name: Artifact.open(plan.graph.folder(plan.root, n.name)) for n in plan.graph.nodes}


def pages(path):
    """100 pages of own sentences with a notice at the end, and 60 copies of a page without it."""
    random = np.random.default_rng(0)
    own = [
        "\n".join(" ".join("".join(chr(97 + c) for c in word) for word in random.integers(0, 26, (9, 7))) for _ in range(4))
        for _ in range(101)
    ]
    texts = [f"{text}\n{COOKIES}" for text in own[:100]] + [own[100]] * 60
    pq.write_table(pa.table({"text": texts, "id": [f"p{i}" for i in range(160)]}), path, row_group_size=20)
    return own


def test_boilerplate_goes_once_copies_have_gone(tmp_path):
    own = pages(tmp_path / "pages.parquet")
    made = run(recipe_of(tmp_path / "pages.parquet", keep="none"), tmp_path / "out")
    assert list(made) == ["documents", "dedup", "repeated_text", "select"]
    assert made["repeated_text"].manifest.summary["n_docs"] == 101 and made["repeated_text"].manifest.summary["n_repeated"] == 1
    select = made["select"]
    texts = [t for f in select.files("domain/") for t in pq.read_table(select.path(f.name))["text"].to_pylist()]
    assert texts == own
    assert select.manifest.counts["repeated/line"] == 100 and select.manifest.counts["repeated/characters"] == 100 * len(COOKIES)

    # Other units of work and another memory: the same bytes. What only cutting looks at counts nothing anew; what is off is not there.
    small = run(recipe_of(tmp_path / "pages.parquet", unit_docs=20, task_memory_mb=16, keep="none"), tmp_path / "small")
    assert small["repeated_text"].manifest.summary == made["repeated_text"].manifest.summary
    first = run(recipe_of(tmp_path / "pages.parquet", keep="first"), tmp_path / "out")
    assert first["repeated_text"].fingerprint == made["repeated_text"].fingerprint
    assert first["select"].fingerprint != select.fingerprint and first["select"].manifest.counts["repeated/line"] == 99
    off = run(recipe_of(tmp_path / "pages.parquet"), tmp_path / "out")
    assert list(off) == ["documents", "dedup", "select"] and "repeated/line" not in off["select"].manifest.counts


def test_the_plan_shows_it(tmp_path, capsys):
    from cluster.commands.plan import show_plan

    show_plan("demo", ["corpus.repeated_text.unit=paragraph"], str(tmp_path))
    shown = " ".join(capsys.readouterr().out.split())
    assert "count every paragraph of the survivors" in shown and "drop duplicates > cut repeated text >" in shown
