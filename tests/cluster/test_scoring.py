"""A cascade through a recipe: fastText lets pages through, an encoder scores what deduplication left, pass 2 judges by both."""

import contextlib
import functools
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.pipeline import execute, plan_run
from cluster.recipe import load_recipe
from cluster.steps.scoring import cpus
from corpus.stages.lid_model import find_lid176
from evaluation.report.page import write_report
from store.errors import RecipeError, ResourceError
from store.executor import SerialExecutor, ignore
from store.fs import Folder

SMALL = ["corpus.source.sample.n_docs=900", "corpus.source.sample.docs_per_row_group=100", "corpus.source.unit_docs=300"]
LABELS = "labels: 'sample://labels.jsonl', min_count: 2, sample_pages: null"
TRANSFORMER = "transformer: {max_tokens: 96}"
CLASSIFIERS = f"""corpus.classifiers={{fine: {{{LABELS}, kind: embedding, {TRANSFORMER}, threshold: 0.4}},
  topic: {{{LABELS}, classes: [medical, other]}}}}"""
STAGES = """corpus.stages=[{stage: normalise}, {stage: language, languages: [de]}, {stage: score, min: 0.2},
  {stage: score, classifier: topic, label: null, column: topic, classes: [other]}, {stage: signature}]"""
SETS = """corpus.select.sets={domain: {column: score_fine, min: 0.5, where: {topic: medical, score_medical: {min: 0.5}}},
  general: {where: {topic: [medical, other]}}}"""
SETS_NAMES = ("domain", "general")
MIN = 0.3
SCORING = "corpus.scoring={fine: {min: 0.3, check_pages: 200}}"
CASCADE = [*SMALL, CLASSIFIERS, STAGES, SETS, SCORING, "corpus.after_dedup=[]", "evaluation=null"]


def plan_of(out, *overrides):
    return plan_run(load_recipe("demo", [*CASCADE, *overrides]), out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function: run the cascade until select with overrides, into one output folder; gives (record, folder)."""
    try:
        find_lid176()
    except ResourceError:
        pytest.skip("needs the language model")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = Folder(str(tmp_path_factory.mktemp("run")))

    @functools.cache
    def execute_with(*overrides):
        plan = plan_of(out, *overrides)
        context = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=plan.inputs.local)
        return execute(plan, lambda: contextlib.nullcontext(context), {}, lambda *_: None, until="select"), out

    yield execute_with
    torch.set_num_threads(threads)


def read(artifact, prefix):
    tables = [pq.read_table(artifact.path(f.name)) for f in artifact.files(prefix)]
    return pa.concat_tables(tables).to_pylist() if tables else []


def test_pages_go_through_both_steps_and_none_is_lost(run):
    record, out = run()
    documents, scores, select = (record.artifact(out, n) for n in ("documents", "scoring/fine", "select"))
    counts = scores.manifest.counts
    assert counts["read"] == documents.manifest.counts["kept"] == counts["scored"] + counts["duplicates"] and counts["duplicates"] > 0
    p = {r["doc_key"]: r["medical"] for r in read(scores, "scores/")}
    kept = [r for name in SETS_NAMES for r in read(select, f"{name}/")]
    gone = read(select, "dropped/")
    dropped = [r for r in gone if r["stage"] == "scoring-fine"]
    assert len(p) == counts["scored"] == len(kept) + sum(r["stage"] != "dedup" for r in gone)
    assert dropped and all(r["reason"] == "below_min" and p[r["doc_key"]] == r["value"] < MIN for r in dropped)
    assert all(r["score_fine"] == p[r["doc_key"]] >= MIN and r["score_medical"] >= 0.2 for r in kept)
    assert all(float(v * 4096).is_integer() for v in p.values())
    assert select.manifest.counts["dropped/scoring-fine/below_min"] == len(dropped)
    assert "score_fine" in select.manifest.summary["histograms"] and "topic_score" in documents.manifest.summary["histograms"]


def test_labels_stay_to_the_end_and_choose_the_set(run):
    record, out = run()
    select = record.artifact(out, "select")
    domain, general = (read(select, f"{name}/") for name in SETS_NAMES[:2])
    assert domain and general and {r["topic"] for r in domain} == {"medical"}
    for r in domain + general:
        expected = 1 - r["topic_other"] if r["topic"] == "medical" else r["topic_other"]
        assert r["topic_score"] == pytest.approx(expected, abs=1e-4) and r["topic_score"] >= 0.4999
        taken = r["score_fine"] >= 0.5 and r["topic"] == "medical" and r["score_medical"] >= 0.5
        assert taken == (r in domain)


def test_another_threshold_costs_no_second_scoring(run):
    first, out = run()
    second, _ = run("corpus.scoring.fine.min=0.6", "corpus.scoring.fine.classes=[other]")
    cached = {s.name: s.cached for s in second.steps}
    assert cached["scoring/fine"] and not cached["select"]
    kept = [r for n in SETS_NAMES for r in read(second.artifact(out, "select"), f"{n}/")]
    assert kept and all(r["score_fine"] >= 0.6 and r["score_fine"] + r["score_fine_other"] == 1 for r in kept)
    assert first.artifact(out, "select").fingerprint != second.artifact(out, "select").fingerprint


def test_the_recall_lost_is_within_its_interval_of_what_all_dropped_pages_say(run):
    """Planted truth: with every dropped page checked the loss is counted, not estimated."""
    record, out = run()
    everything, _ = run("corpus.scoring.fine.check_pages=100000")
    some, all_ = (r.artifact(out, "select").manifest.summary["recall_lost"]["fine"] for r in (record, everything))
    assert all_["n_checked"] == all_["n_dropped"] == some["n_dropped"] > some["n_checked"] > 50
    assert all_["source"]["recall_lost_low"] == all_["source"]["recall_lost"] == all_["source"]["recall_lost_high"] > 0
    assert some["source"]["recall_lost_low"] <= all_["source"]["recall_lost"] <= some["source"]["recall_lost_high"]
    scores = everything.artifact(out, "scoring/fine")
    lost = sum(r["medical"] >= MIN for r in read(scores, "checked/"))
    documents, select = everything.artifact(out, "documents"), everything.artifact(out, "select")
    sizes = {r["doc_key"]: r["minhash_cluster_size"] for n in SETS_NAMES for r in read(select, f"{n}/")}
    assert all_["source"]["lost"] == lost and all_["source"]["n_found"] == sum(sizes.values())
    assert all_["n_dropped"] == documents.manifest.counts["dropped/score/below_min"]
    assert "may lose" in some["warning"] and some["labels"]["n_test"] > 20


def test_recipes_that_cannot_work_are_refused(tmp_path):
    out = Folder(str(tmp_path))
    for override, message in (
        ("corpus.scoring={missing: {}}", "there is no classifier missing"),
        ("corpus.scoring={topic: {}}", "list the stage score with classifier: topic"),
        ("corpus.scoring={fine: {after: language_x}}", "there is no stage language_x"),
        ("corpus.stages.score-topic.classifier=fine", "name it in corpus.scoring"),
        ("corpus.stages.score-topic.classifier=nobody", "there is no classifier nobody"),
        ("corpus.stages.score-topic.model=x.bin", "give either classifier or model"),
    ):
        with pytest.raises(RecipeError, match=message):
            plan_of(out, override)
    plan = plan_of(out, "cluster.use_gpu=true", "cluster.scoring.gpus=0.5")
    assert "0.5 GPU" in next(n.about for n in plan.graph.nodes if n.name == "scoring/fine")
    assert cpus(plan.recipe.cluster.scoring, 0.5) == 8 and cpus(plan.recipe.cluster.scoring, 0.0) == 1


def test_what_bears_identity(tmp_path):
    def fingerprints(*overrides):
        graph = plan_of(Folder(str(tmp_path)), *overrides).graph
        return graph.identity("scoring/fine").fingerprint, graph.identity("select").fingerprint

    plain = fingerprints()
    for name, value in (("min", 0.7), ("column", "p"), ("label", "other"), ("classes", "[other]"), ("keep_below", 0.1)):
        scores, select = fingerprints(f"corpus.scoring.fine.{name}={value}")
        assert scores == plain[0] and select != plain[1], name
    for name, value in (("dtype", "float32"), ("tokens_per_batch", 512), ("check_pages", 7), ("after", "score-topic")):
        assert fingerprints(f"corpus.scoring.fine.{name}={value}")[0] != plain[0], name
    assert fingerprints("cluster.use_gpu=true", "cluster.scoring={gpus: 0.25, cpus: 3, workers: 2}") == plain


def test_page_and_report_say_what_the_first_step_loses(run, tmp_path):
    record, out = run()
    folder = out / "runs" / f"{record.name}-{record.run_id}"
    report = open_report(write_report(out, folder))
    arguments = ["classifier", "page", folder.url, "--step", "classifier/fine", "--html", str(tmp_path / "p.html")]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for page in (report, open_report(str(tmp_path / "p.html"))):
        assert "The stage score dropped" in page and "Recall of the cascade before fine" in page
    assert "scoring-fine" in report and "could not be read" not in report
    arguments[4] = "classifier/topic"
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert "The stage score dropped" not in open_report(str(tmp_path / "p.html"))


def open_report(path):
    with open(path, encoding="utf-8") as file:
        return file.read()
