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
from store.run import RunRecord, StepRecord


@pytest.fixture(scope="module")
def pages():
    random = np.random.default_rng(0)
    words = ["".join(chr(97 + int(n) // 26**k % 26) for k in range(6)) for n in random.integers(0, 10**8, 5000)]
    return [" ".join(words[i] for i in random.integers(0, len(words), 200)) for _ in range(50)]


@pytest.fixture(scope="module")
def documents(tmp_path_factory, pages):
    return made_of(pages, tmp_path_factory.mktemp("documents"))


def made_of(pages, folder):
    """The folder of a documents artifact of pages."""
    pq.write_table(pa.table({"text": pages, "id": [f"p-{i}" for i in range(len(pages))]}), folder / "a.parquet")
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
    assert "page.txt 1 page resembles it" in shown and "p-7" in shown and "0.950" in shown
    lines = [json.dumps({"text": pages[3], "id": "eins"}), json.dumps({"text": "etwas ganz anderes", "id": "zwei"})]
    (tmp_path / "pages.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shown = call("dedup", "lookup", str(tmp_path / "pages.jsonl"), "--in", documents)
    assert "exact" in shown and "zwei no page resembles it" in shown


def test_a_page_that_cannot_be_read_is_an_error_and_not_passed_over(tmp_path, documents) -> None:
    (tmp_path / "pages.jsonl").write_text('{"text": null, "id": "eins"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="null_text"):
        call("dedup", "lookup", str(tmp_path / "pages.jsonl"), "--in", documents)


def test_the_folder_of_a_run_will_do(tmp_path, documents, pages) -> None:
    (tmp_path / "page.txt").write_text(pages[11], encoding="utf-8")
    root, made = Folder(documents).url.rstrip("/").rsplit("/documents/", 1)[0], Artifact.open(Folder(documents.rstrip("/")))
    step = StepRecord(name="documents", kind="documents", folder=made.folder.url.removeprefix(root + "/"),
                      fingerprint=made.fingerprint, inputs={}, cached=False, elapsed_s=1.0)  # fmt: skip
    for name, steps in (("whole", (step,)), ("begun", ())):
        RunRecord(name="r", run_id=name, status="failed", recipe={}, steps=steps, started_unix_s=0.0, elapsed_s=0.0,
                  machine={}).write(Folder(root) / "runs" / name)  # fmt: skip
    assert '"id": "p-11"' in call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", f"{root}/runs/whole", "--json")
    with pytest.raises(InputError, match="no finished step documents"):
        call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", f"{root}/runs/begun")
    other = Draft.begin(Folder(str(tmp_path)), Identity("select", 1, {})).commit()
    with pytest.raises(InputError, match="an artifact of the step select; expected a documents artifact, an index, or a run"):
        call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", other.folder.url)


def test_the_number_of_pages_found_is_not_the_number_shown(tmp_path) -> None:
    words = [f"wort{'abcdefghij'[i % 10]}{'klmno'[i // 10 % 5]}" for i in range(60)]
    folder = tmp_path / "pages"
    folder.mkdir()
    kept = made_of([" ".join([*words, last]) for last in ("eins", "zwei", "drei")], folder)
    (tmp_path / "page.txt").write_text(" ".join(words), encoding="utf-8")
    shown = call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", kept, "--n", "2")
    assert "3 pages resemble it; the 2 most alike:" in shown and shown.count("p-") == 2
    assert "most alike" not in call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", kept, "--n", "3")


@pytest.mark.slow
def test_an_index_is_made_on_ray_and_answers_alike(tmp_path, documents, pages) -> None:
    shown = call("dedup", "index", documents, "--to", str(tmp_path / "kept"), "--address", "local")
    assert "50 documents" in shown and "no text" in shown
    (folder,) = (tmp_path / "kept" / "index").iterdir()
    assert Artifact.open(Folder(str(folder))).manifest.summary["n_docs"] == 50
    (tmp_path / "page.txt").write_text(pages[11], encoding="utf-8")
    assert '"id": "p-11"' in call("dedup", "lookup", str(tmp_path / "page.txt"), "--in", str(folder), "--json")
