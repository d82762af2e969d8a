"""The classifier through recipes: by name, with the language stage before the count, its page, and what it refuses."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.commands.classifier import borderline, find
from cluster.pipeline import execute, plan_run
from cluster.recipe import load_recipe
from corpus.stages.lid_model import find_lid176
from store.artifact import Artifact
from store.errors import InputError, RecipeError, ResourceError
from store.executor import SerialExecutor, ignore
from store.fs import Folder

SMALL = ["corpus.source.sample.n_docs=900", "corpus.source.sample.docs_per_row_group=100", "corpus.source.unit_docs=300"]
TOPICS = "corpus.classifiers={topic: {labels: 'sample://labels.jsonl', classes: [medical, other], min_count: 2, sample_pages: null}}"
STAGES = "corpus.stages=[{stage: normalise}, {stage: language, languages: [de]}, {stage: score}, {stage: signature}]"


def needs_language_model():
    try:
        find_lid176()
    except ResourceError:
        pytest.skip("needs the language model")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(run's folder, record, output folder) of the sample to its documents."""
    needs_language_model()
    out = tmp_path_factory.mktemp("run")
    overrides = [*SMALL, TOPICS, STAGES, "corpus.classifier.calibrate=true", "corpus.classifier.target={precision: 0.9}"]
    plan = plan_run(load_recipe("demo", overrides), Folder(str(out)))
    context = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=plan.inputs.local)
    record = execute(plan, lambda: contextlib.nullcontext(context), {}, lambda *_: None, until="documents")
    return plan.run_folder.url, record, Folder(str(out))


def page(*arguments):
    done = CliRunner().invoke(app, ["classifier", "page", *arguments], env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_two_classifiers_and_their_counts(made):
    _, record, out = made
    own, topic = record.artifact(out, "classifier"), record.artifact(out, "classifier/topic")
    card = json.loads(own.folder.read_bytes("card.json"))
    sizes = card["sizes"]
    assert (sizes["n_source_pages"], sizes["n_sample_pages"]) == (900, 900)
    # The language stage of pass 1 keeps as many as the count of the sample.
    n_language = record.artifact(out, "documents").manifest.counts.get("dropped/language/language", 0)
    dropped = sum(n for k, n in record.artifact(out, "documents").manifest.counts.items() if k.startswith("dropped/language/"))
    assert sizes["n_sample_passed"] == 900 - dropped and n_language <= dropped > 0
    assert json.loads(topic.folder.read_bytes("card.json"))["per_class"][0]["label"] == "medical"
    assert not any(f.name == "sample.parquet" for f in topic.files()) or topic.manifest.summary["card"].get("sizes") is None


def test_calibrated_scores_reach_the_documents(made):
    _, record, out = made
    own, documents = record.artifact(out, "classifier"), record.artifact(out, "documents")
    kept = {r["id"]: r["score_medical"] for f in documents.files("kept/") for r in pq.read_table(documents.path(f.name)).to_pylist()}
    tested = {r["id"]: r["score"] for r in pq.read_table(own.path("pages.parquet")).to_pylist()}
    both = kept.keys() & tested.keys()
    assert len(both) > 20 and all(kept[i] == pytest.approx(tested[i], abs=1e-6) for i in both)
    assert json.loads(own.folder.read_bytes("calibration.json"))["applied"] is True


def test_the_page_shows_ids_and_texts_only_when_asked(made, tmp_path):
    run, record, out = made
    said = page(run, "--html", str(tmp_path / "a.html"), "--n", "6")
    page(record.artifact(out, "classifier").folder.url, "--html", str(tmp_path / "b.html"), "--n", "6")
    page(run, "--html", str(tmp_path / "c.html"), "--n", "6", "--text")
    plain, again, texts = ((tmp_path / f"{n}.html").read_text(encoding="utf-8") for n in "abc")
    assert plain == again and "Tells medical pages" in said and "For a precision of 0.9" in said
    place, artifact = find(run, "classifier")
    card = json.loads(artifact.folder.read_bytes("card.json"))
    nearest = borderline(artifact, card, 6)
    assert len(nearest) == 6 and all(p.id.split(":")[-1].strip("<>") in plain for p in nearest)
    words = {r["id"]: r["text"] for a in place.of_kind("documents") for f in a.files() if "text" in schema(a, f) for r in rows(a, f)}
    known = [words[p.id].split()[2] for p in nearest if words.get(p.id)]
    assert known and all(w in texts for w in known[:3])
    target = card["target"]
    shown = f"threshold {target['threshold']:g}"
    assert shown in plain and "all were scored" in plain, "the chosen threshold is marked; what was counted has no interval"
    chosen = plain.split("What each threshold keeps")[-1].split(f">{target['threshold']:g}<")[1].split("</tr>")[0]
    assert all(f"{target[f'test_{k}']:.3f}" in chosen for k in ("precision", "recall"))
    assert "<script" not in texts and "default-src &#39;none&#39;" in texts
    assert "Tells 2 classes apart" in page(run, "--step", "classifier/topic", "--html", str(tmp_path / "d.html"))


def schema(artifact, entry):
    return pq.read_schema(artifact.path(entry.name)).names if entry.name.endswith(".parquet") else []


def rows(artifact, entry):
    return pq.read_table(artifact.path(entry.name), columns=["id", "text"]).to_pylist()


def test_what_the_page_refuses(made, tmp_path):
    run, record, out = made
    with pytest.raises(InputError, match="artifact of the step documents"):
        find(record.artifact(out, "documents").folder.url, "classifier")
    with pytest.raises(InputError, match="no finished step classifier/x"):
        find(run, "classifier/x")
    alone = tmp_path / "alone" / "classifier" / "x"
    shutil.copytree(record.artifact(out, "classifier").folder.url, alone)
    assert Artifact.open(Folder(str(alone)))
    with pytest.raises(InputError, match="no document of this run"):
        page(str(alone), "--html", str(tmp_path / "x.html"), "--text")


def test_recipes_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="applies fastText models"):
        plan_run(load_recipe("demo", ["corpus.classifier.kind=encoder"]), Folder(str(tmp_path)))
    with pytest.raises(RecipeError, match="classifier needs labels"):
        plan_run(load_recipe("demo", ["corpus.classifier.labels=null"]), Folder(str(tmp_path)))


def test_what_bears_identity(tmp_path):
    """Where an encoder lies does not; what it is, what is calibrated and which pages are counted does."""

    def fingerprint(*overrides):
        plan = plan_run(load_recipe("demo", [*SMALL, "corpus.stages=[{stage: signature}]", *overrides]), Folder(str(tmp_path)))
        return plan.graph.identity("classifier").fingerprint

    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(content)
    kind = "corpus.classifier.kind=embedding"
    a, b, c = (fingerprint(kind, f"corpus.classifier.transformer.model={tmp_path / n}") for n in "abc")
    assert a == b != c and len({fingerprint(), fingerprint("corpus.classifier.calibrate=true"), fingerprint(kind), a}) == 4
