"""``definemed dedup index`` and ``lookup`` through the command line, on a documents artifact made by the stages themselves."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from corpus.passes import DocumentsWorker
from corpus.signature import Signature
from corpus.source import FileSource, list_units
from store.artifact import Artifact, Draft, Identity
from store.errors import InputError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder


@pytest.fixture(scope="module")
def pages():
    random = np.random.default_rng(0)
    words = ["".join(chr(97 + int(n) // 26**k % 26) for k in range(6)) for n in random.integers(0, 10**8, 5000)]
    return [" ".join(words[i] for i in random.integers(0, len(words), 200)) for _ in range(50)]


@pytest.fixture(scope="module")
def documents(tmp_path_factory, pages):
    folder = tmp_path_factory.mktemp("documents")
    pq.write_table(pa.table({"text": pages, "id": [f"p-{i}" for i in range(50)]}), folder / "a.parquet")
    source, stage = FileSource(files=(str(folder / "a.parquet"),)), Signature()
    draft = Draft.begin(
        Folder(str(folder)), Identity("documents", 1, {"stages": [{**stage.model_dump(mode="json"), "version": Signature.version}]})
    )
    kwargs = {"folder": draft.folder, "source": source, "stages": (stage,), "resources": {}, "dropped_text_share": 1.0,
              "on_bad_input": "fail"}  # fmt: skip
    tasks = [Task(u.key, u.model_dump(mode="json"), u.n_docs) for u in list_units(source)]
    return draft.commit(SerialExecutor().map(Job("documents", DocumentsWorker, kwargs, tasks, draft))).folder.path("")


def call(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"}).output


def test_a_page_is_found_by_the_command_line(tmp_path, documents, pages) -> None:
    words = pages[7].split()
    words[100] = "geändert"
    (tmp_path / "page.txt").write_text(" ".join(words), encoding="utf-8")
    found = json.loads(call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", documents, "--json"))
    assert found["id"] == "p-7" and found["query"] == "page.txt" and found["jaccard"] == pytest.approx(191 / 201, abs=1e-3)
    shown = call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", documents)
    assert "1 pages resemble it" in shown and "p-7" in shown and "0.950" in shown
    lines = [json.dumps({"text": pages[3], "id": "eins"}), json.dumps({"text": "etwas ganz anderes", "id": "zwei"})]
    (tmp_path / "pages.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shown = call("dedup", "lookup", str(tmp_path / "pages.jsonl"), "--in", documents)
    assert "exact" in shown and "zwei no page resembles it" in shown


def test_a_page_that_cannot_be_read_is_an_error_and_not_passed_over(tmp_path, documents) -> None:
    (tmp_path / "pages.jsonl").write_text('{"text": null, "id": "eins"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="null_text"):
        call("dedup", "lookup", str(tmp_path / "pages.jsonl"), "--in", documents)


@pytest.mark.slow
def test_an_index_is_made_on_ray_and_answers_alike(tmp_path, documents, pages) -> None:
    shown = call("dedup", "index", documents, "--to", str(tmp_path / "kept"), "--address", "local")
    assert "50 documents" in shown and "no text" in shown
    (folder,) = (tmp_path / "kept" / "index").iterdir()
    assert Artifact.open(Folder(str(folder))).manifest.summary["n_docs"] == 50
    (tmp_path / "page.txt").write_text(pages[11], encoding="utf-8")
    assert '"id": "p-11"' in call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", str(folder), "--json")
