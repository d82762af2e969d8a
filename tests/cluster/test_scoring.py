"""A cascade through a recipe: fastText lets pages through, an encoder scores what deduplication left, pass 2 judges by both."""

import contextlib
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.pipeline import execute, plan_run
from cluster.recipe import load_recipe
from corpus.stages.lid_model import find_lid176
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
SCORING = "corpus.scoring={fine: {min: 0.1, check_pages: 200}}"
CASCADE = [*SMALL, CLASSIFIERS, STAGES, SETS, SCORING, "corpus.after_dedup=[]", "evaluation=null"]


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

    def execute_with(*overrides):
        plan = plan_run(load_recipe("demo", [*CASCADE, *overrides]), out)
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
    kept = [r for name in ("domain", "general") for r in read(select, f"{name}/")]
    dropped = [r for r in read(select, "dropped/") if r["stage"] == "scoring-fine"]
    assert len(p) == counts["scored"] == len(kept) + sum(r["stage"] != "dedup" for r in read(select, "dropped/"))
    assert dropped and all(r["reason"] == "below_min" and p[r["doc_key"]] == r["value"] < 0.1 for r in dropped)
    assert all(r["score_fine"] == p[r["doc_key"]] >= 0.1 and r["score_medical"] >= 0.2 for r in kept)
    assert all(float(v * 4096).is_integer() for v in p.values())
    assert select.manifest.counts["dropped/scoring-fine/below_min"] == len(dropped)
    assert "score_fine" in select.manifest.summary["histograms"] and "topic_score" in documents.manifest.summary["histograms"]


def test_labels_stay_to_the_end_and_choose_the_set(run):
    record, out = run()
    select = record.artifact(out, "select")
    sure, rest = read(select, "domain/"), read(select, "general/")
    assert sure and rest and {r["topic"] for r in sure} == {"medical"} and {r["topic"] for r in sure + rest} <= {"medical", "other"}
    for r in sure + rest:
        expected = 1 - r["topic_other"] if r["topic"] == "medical" else r["topic_other"]
        assert r["topic_score"] == pytest.approx(expected, abs=1e-4) and r["topic_score"] >= 0.4999
        taken = r["score_fine"] >= 0.5 and r["topic"] == "medical" and r["score_medical"] >= 0.5
        assert taken == (r in sure)


def test_another_threshold_costs_no_second_scoring(run):
    first, out = run()
    second, _ = run("corpus.scoring.fine.min=0.6", "corpus.scoring.fine.column=p")
    cached = {s.name: s.cached for s in second.steps}
    assert cached["scoring/fine"] and not cached["select"]
    kept = [r for a in [second.artifact(out, "select")] for n in ("domain", "general") for r in read(a, f"{n}/")]
    assert kept and all(r["p"] >= 0.6 for r in kept)
    assert first.artifact(out, "select").fingerprint != second.artifact(out, "select").fingerprint
