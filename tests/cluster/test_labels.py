"""Labelling through recipes: two rounds by a scripted server, people's sheets, agreement, the page, and what is refused."""

import contextlib
import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from benchmarks.chat_server import PAGE, Action, Server, completion, said
from cluster.cli import app
from cluster.commands.labels import open_drawn
from cluster.pipeline import execute, plan_run
from cluster.recipe import load_recipe
from corpus.labelling.people import read_people
from corpus.labelling.sheet import read_sheet
from corpus.stages.lid_model import find_lid176
from store.artifact import Artifact
from store.errors import DefinemedError, InputError, RecipeError, ResourceError
from store.executor import SerialExecutor, ignore
from store.fs import Folder

RECIPE = """
name: labelled
corpus:
  source: {sample: {n_docs: 1500, docs_per_row_group: 100}, unit_docs: 300}
  labelling:
    sample:
      max_per_host: 20
      rounds:
        - {n: 300, by: strata, strata: [{by: length, quantiles: 2}, {by: language_score, bounds: [0.95]}]}
        - {n: 60, by: boundary, classifier: {positive: medical, min_count: 1, sample_pages: null}}
    ask:
      prompts: [de, en]
      labels:
        - {name: medical, about: Krankheiten und ihre Behandlung}
        - {name: other, about: alles andere}
      models: [{name: scripted, endpoint: {url: "URL"}}]
      vote: unanimous
  classifier: {positive: medical, min_count: 1, sample_pages: 300}
  stages: [{stage: normalise}, {stage: language, languages: [de]}, {stage: privacy}, {stage: score}, {stage: signature}]
"""


def needs_language_model():
    try:
        find_lid176()
    except ResourceError:
        pytest.skip("needs the language model")


def truth_of(out):
    """Label by id of the built-in sample."""
    (folder,) = (out / "artifacts" / "sample").iterdir()
    lines = (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    return {r["id"]: r["label"] for r in map(json.loads, lines)}


class Labeller(Server):
    """Gives the sample's own label of a page; one page in 20 the wrong one, and to one in 40 an answer that is none."""

    def __init__(self, out):
        super().__init__()
        self.out, self.by_text = out, {}

    def label(self, text):
        if text not in self.by_text:
            truth = truth_of(self.out)
            for path in sorted((self.out / "artifacts").glob("label-sample/*/pages.parquet")):
                table = pq.read_table(path)
                self.by_text |= {
                    t.strip(): truth.get(i, "other") for i, t in zip(*(table[c].to_pylist() for c in ("id", "text")), strict=True)
                }
        return self.by_text[text.strip()]

    def handle(self, call):
        raw = call.rfile.read(int(call.headers["content-length"]))
        text = PAGE.search(json.loads(raw)["messages"][-1]["content"])[2]
        with self.lock:
            self.asked.append(text)
            label, number = self.label(text), sum(text.encode()) % 40
        wrong = {"medical": "other", "other": "medical"}[label]
        self.act(call, Action(body=completion("I am not sure.") if number == 7 else said(wrong if number in (3, 4) else label)), "")


def run(path, out, *overrides, until="classifier"):
    """(run's folder, record) of a recipe without Ray."""
    plan = plan_run(load_recipe(str(path), list(overrides)), Folder(str(out)))
    context = SimpleNamespace(executor=SerialExecutor(), watch=ignore, local=plan.inputs.local)
    return plan.run_folder.url, execute(plan, lambda: contextlib.nullcontext(context), {}, lambda *_: None, until=until)


def command(*words, code=0):
    done = CliRunner().invoke(
        app, ["labels", *map(str, words)], env={"COLUMNS": "300", "TERM": "dumb"}, catch_exceptions=code == 0 or None
    )
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The loop with models only: recipe, folders, record, server."""
    needs_language_model()
    folder = tmp_path_factory.mktemp("labels")
    server = Labeller(folder / "out")
    recipe = folder / "labelled.yaml"
    recipe.write_text(RECIPE.replace("URL", server.url), encoding="utf-8")
    url, record = run(recipe, folder / "out")
    yield SimpleNamespace(recipe=recipe, out=folder / "out", run=url, record=record, server=server, folder=folder)
    server.close()


def artifact(made, step):
    return made.record.artifact(Folder(str(made.out)), step)


def test_the_steps_of_two_rounds(made):
    names = [s.name for s in made.record.steps]
    assert names == ["sample", "label-sample", "label-answers", "labels/1", "label-classifier/2", "label-sample/2", "label-answers/2",
                     "labels", "classifier"]  # fmt: skip
    one, two = (pl.read_parquet(artifact(made, s).path("sample.parquet")) for s in ("label-sample", "label-sample/2"))
    assert (one.height, two.height) == (300, 60) and not set(one["id"]) & set(two["id"])
    assert dict(two.group_by("picked").len().iter_rows()) == {"random": 12, "boundary": 48}
    near = two.filter(pl.col("picked") == "boundary")
    assert near["probability"].null_count() == 48 and one["probability"].null_count() == 0
    # The second round's pages are nearer to the threshold than the pages of a plain draw.
    gap = (pl.col("score") - 0.5).abs().mean()
    assert near.select(gap).item() < two.filter(pl.col("picked") == "random").select(gap).item()


def test_the_labels_and_their_counts(made):
    labels = pl.read_parquet(artifact(made, "labels").path("labels.parquet"))
    summary, truth = artifact(made, "labels").manifest.summary, truth_of(made.out)
    assert summary["n_sampled"] == 360 == summary["n_labels"] + summary["n_unlabelled"]
    assert 0 < summary["n_unlabelled"] < 30 and summary["n_by_model"] == labels.height == sum(summary["by_label"].values())
    right = sum(truth.get(i, "other") == label for i, label in labels.select("id", "label").iter_rows()) / labels.height
    assert 0.9 < right < 0.99
    assert labels["weight"].null_count() == labels.filter(pl.col("picked") == "boundary").height > 40
    answers = summary["answers"]
    assert [a["pages"] for a in answers] == [300, 60] and len(answers[0]["voters"]) == 2 and answers[0]["agreement"][0]["kappa"] == 1.0


def test_the_share_of_the_corpus_is_in_its_interval(made):
    medical = artifact(made, "labels").manifest.summary["shares_by_model"][0]
    # What the server would say of every page that the language stage keeps is not known; of the truth a twentieth is turned.
    kept = list(truth_of(made.out).values())
    truth = kept.count("medical") / artifact(made, "label-sample").manifest.summary["n_pool"]
    assert medical["label"] == "medical" and medical["share_low"] < 0.9 * truth + 0.05 * (1 - truth) < medical["share_high"]


def test_a_second_run_asks_nothing_and_one_with_other_workers_makes_the_same_bytes(made, tmp_path):
    n_asked = len(made.server.asked)
    assert n_asked > 600  # pages of equal text are asked about once
    run(made.recipe, made.out)
    assert len(made.server.asked) == n_asked
    server = Labeller(tmp_path / "out")
    recipe = tmp_path / "again.yaml"
    recipe.write_text(RECIPE.replace("URL", server.url), encoding="utf-8")
    _, record = run(recipe, tmp_path / "out", until="labels")
    server.close()
    again = record.artifact(Folder(str(tmp_path / "out")), "labels")
    assert again.fingerprint == artifact(made, "labels").fingerprint
    assert again.manifest.content_hash == artifact(made, "labels").manifest.content_hash


def label_sheet(path, truth, to, people=("anna", "bert"), wrong=11):
    """Fill a sheet as two people would: the truth, and one of them errs on one page in ``wrong``."""
    rows = read_sheet(str(path)).with_row_index("at").to_dicts()
    lines = [
        {"id": r["id"], "label": flipped(truth.get(r["id"], "other"), who == "bert" and r["at"] % wrong == 0), "annotator": who}
        for who in people for r in rows
    ]  # fmt: skip
    to.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def flipped(label, is_wrong):
    return {"medical": "other", "other": "medical"}[label] if is_wrong else label


@pytest.fixture(scope="module")
def labelled(made):
    """The loop with people: a sheet exported, labelled by two, imported, and the recipe run with it."""
    sheet, done, people = (made.folder / n for n in ("sheet.csv", "done.jsonl", "people.jsonl"))
    said_export = command("export", made.run, "--to", sheet, "--n", 150)
    label_sheet(sheet, truth_of(made.out), done)
    said_import = command("import", done, "--run", made.run, "--to", people)
    n_asked = len(made.server.asked)
    url, record = run(made.recipe, made.out, f"corpus.labelling.people={people}")
    assert len(made.server.asked) == n_asked
    return SimpleNamespace(run=url, record=record, people=people, sheet=sheet, said=(said_export, said_import))


def test_the_sheet_is_balanced_masked_and_said_to_be(made, labelled):
    text = labelled.sheet.read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))
    assert len(rows) == 150 and list(rows[0]) == ["id", "text", "model_label", "label", "annotator", "note"]
    counts = {v: sum(r["model_label"] == v for r in rows) for v in ("medical", "other", "")}
    assert counts["medical"] > 40 and counts["other"] > 60 and counts[""] > 0
    assert "personal data masked" in labelled.said[0] and "by the model's label" in labelled.said[0]
    assert "2 people" in labelled.said[1] and "undecided" in labelled.said[1]


def test_masking_is_the_privacy_stages_and_can_be_left_out(made, tmp_path):
    command("export", made.run, "--to", tmp_path / "a.jsonl", "--n", 360)
    shown = command("export", made.run, "--to", tmp_path / "b.jsonl", "--n", 360, "--no-mask", "--blind")
    masked, plain = (
        [json.loads(line) for line in (tmp_path / n).read_text(encoding="utf-8").splitlines()] for n in ("a.jsonl", "b.jsonl")
    )
    assert any("<EMAIL>" in r["text"] or "<TELEFON>" in r["text"] or "<IBAN>" in r["text"] for r in masked)
    assert not any("<EMAIL>" in r["text"] for r in plain) and "is not masked" in shown
    assert [r["id"] for r in masked] == [r["id"] for r in plain] and "model_label" in masked[0] and "model_label" not in plain[0]


def test_agreement_is_that_of_the_planted_errors(made, labelled):
    summary = labelled.record.artifact(Folder(str(made.out)), "labels").manifest.summary
    agreement = summary["agreement"]
    frame, truth = open_drawn(made.run).labelled(None).pages, truth_of(made.out)
    right = frame.with_columns(truth=pl.Series([truth.get(i, "other") for i in frame["id"]]))
    hits = right.filter((pl.col("truth") == "medical") & (pl.col("model_label") == "medical")).height
    f1 = 2 * hits / ((right["truth"] == "medical").sum() + (right["model_label"] == "medical").sum())
    medical = agreement["sample"]["by_label"][0]
    assert medical["f1_low"] <= f1 <= medical["f1_high"] and 0.6 < agreement["sample"]["kappa"] < 1.0
    assert agreement["corpus"]["n"] < agreement["sample"]["n"] and len(agreement["voters"]) == 2
    people = agreement["people"][0]
    assert (people["one"], people["other"], people["n"]) == (1, 2, 150) and 0.7 < people["kappa"] < 0.95
    assert "anna" not in json.dumps(summary)


def test_peoples_labels_come_first_unless_told_otherwise(made, labelled):
    labels = pl.read_parquet(labelled.record.artifact(Folder(str(made.out)), "labels").path("labels.parquet"))
    decided = dict(read_people([str(labelled.people)], ("medical", "other")).decided().iter_rows())
    mine = labels.filter(pl.col("origin") == "people")
    assert dict(mine.select("id", "label").iter_rows()) == decided
    assert mine.filter(pl.col("model_label") != pl.col("label")).height > 0
    _, record = run(
        made.recipe, made.out, f"corpus.labelling.people={labelled.people}", "corpus.labelling.prefer=model", until="labels"
    )
    other = pl.read_parquet(record.artifact(Folder(str(made.out)), "labels").path("labels.parquet"))
    assert other.filter(pl.col("model_label").is_not_null() & (pl.col("label") != pl.col("model_label"))).height == 0
    assert 0 < other.filter(pl.col("origin") == "people").height < mine.height  # pages to which the model gave no label


def test_agree_says_it(made, labelled):
    said = command("agree", labelled.run)
    assert "weighed to the sample" in said and "person 1 and person 2" in said and "voter" in said
    assert json.loads(command("agree", made.run, "--people", labelled.people, "--json")) == (
        labelled.record.artifact(Folder(str(made.out)), "labels").manifest.summary["agreement"])  # fmt: skip


def test_the_page_has_a_chapter(made, labelled, tmp_path):
    done = CliRunner().invoke(app, ["classifier", "page", labelled.run, "--html", str(tmp_path / "a.html")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    for words in ("Labelling", "Pages drawn to be labelled", "Votes of the language models", "The models against people",
                  "People among themselves", "How much of the corpus bears a label"):  # fmt: skip
        assert words in html
    assert "anna" not in html and "urn:uuid" in html


def test_a_plan_says_what_asking_would_cost(made, tmp_path):
    def said(out, *sets):
        words = [w for s in sets for w in ("--set", s)]
        done = CliRunner().invoke(
            app, ["plan", str(made.recipe), "--out", str(out), *words], env={"COLUMNS": "200"}, catch_exceptions=False
        )
        assert done.exit_code == 0
        return done.output

    fresh = said(tmp_path / "out")
    assert "label-answers: 300 pages, each as long as max_chars allows" in fresh and "label-answers/2: 60 pages" in fresh
    assert "asking language models" not in said(made.out)  # all are asked
    # With another rule of voting every answer is known.
    assert "300 pages: " in (again := said(made.out, "corpus.labelling.ask.vote=majority")) and " 0 requests to send" in again


def test_the_report_names_its_classifiers(made):
    done = CliRunner().invoke(app, ["report", made.run], catch_exceptions=False)
    assert done.exit_code == 0
    html = Path(made.run, "report.html").read_text(encoding="utf-8")
    assert "Step label-classifier/2:" in html and "Step classifier:" in html and "label-sample/2" in html


def test_a_file_is_not_written_over(made, labelled, tmp_path):
    for words in (["export", made.run, "--to", labelled.sheet], ["import", labelled.sheet, "--run", made.run, "--to", labelled.people]):
        with pytest.raises(InputError, match="this file exists"):
            CliRunner().invoke(app, ["labels", *map(str, words)], catch_exceptions=False)
    command("export", made.run, "--to", labelled.sheet, "--n", 150, "--force")
    with pytest.raises(RecipeError, match="a sheet is a"):
        CliRunner().invoke(app, ["labels", "export", made.run, "--to", str(tmp_path / "a.xlsx")], catch_exceptions=False)


def test_a_next_sheet_leaves_out_what_was_labelled(made, labelled, tmp_path):
    command("export", made.run, "--to", tmp_path / "next.csv", "--n", 150, "--without", labelled.people)
    before, after = (set(read_sheet(str(p))["id"]) for p in (labelled.sheet, tmp_path / "next.csv"))
    assert len(after) == 150 and not before & after


def test_people_alone(made, tmp_path):
    """Without a model: the run stops where people are needed, says so, and goes on with their labels."""
    alone = ("corpus.labelling.ask=null", "corpus.labelling.labels=[medical, other]", "corpus.labelling.sample.rounds=[{n: 200}]")
    with pytest.raises(InputError, match="nobody has labelled them yet"):
        run(made.recipe, made.out, *alone)
    plan = plan_run(load_recipe(str(made.recipe), list(alone)), Folder(str(made.out)))
    command("export", plan.run_folder.url, "--to", tmp_path / "a.csv", "--n", 180, "--separator", ",")
    assert "model_label" not in (tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    label_sheet(tmp_path / "a.csv", truth_of(made.out), tmp_path / "done.jsonl", people=("anna",))
    command("import", tmp_path / "done.jsonl", "--run", plan.run_folder.url, "--to", tmp_path / "people.jsonl")
    _, record = run(made.recipe, made.out, *alone, f"corpus.labelling.people={tmp_path / 'people.jsonl'}")
    labels = record.artifact(Folder(str(made.out)), "labels").manifest
    assert labels.summary["n_by_people"] == 180 == labels.counts.get("x", 180) and "agreement" not in labels.summary
    share = labels.summary["shares_by_people"][0]
    assert share["n"] == 180 and share["share_low"] < share["share"] < share["share_high"]
    assert record.artifact(Folder(str(made.out)), "classifier") is not None


def test_peoples_labels_of_other_pages_are_used_too_and_counted(made, tmp_path):
    truth = truth_of(made.out)
    drawn = set(open_drawn(made.run).labelled(None).pages["id"])
    others = sorted(set(truth) - drawn)[:20]
    (tmp_path / "p.csv").write_text("id,label\n" + "".join(f"{i},{truth[i]}\n" for i in others), encoding="utf-8")
    _, record = run(made.recipe, made.out, f"corpus.labelling.people={tmp_path / 'p.csv'}", until="labels")
    summary = record.artifact(Folder(str(made.out)), "labels").manifest.summary
    assert (summary["n_not_drawn"], summary["n_by_people"]) == (20, 20) and summary["n_sampled"] == 360
    with pytest.raises(InputError, match="20 ids are not of pages that were drawn"):
        CliRunner().invoke(app, ["labels", "import", str(tmp_path / "p.csv"), "--run", made.run, "--to", str(tmp_path / "o.jsonl")],
                           catch_exceptions=False)  # fmt: skip


def test_identity(made, tmp_path):
    """What decides the pages changes their fingerprint; where the server is, the later rounds and people do not."""

    def fingerprint(step, *overrides):
        return plan_run(load_recipe(str(made.recipe), list(overrides)), Folder(str(made.out))).graph.identity(step).fingerprint

    people = tmp_path / "p.csv"
    people.write_text("id,label\nx,medical\n", encoding="utf-8")
    elsewhere = "corpus.labelling.ask.models.0.endpoint.url=http://127.0.0.1:2/v1"
    for step in ("label-sample", "label-answers", "label-sample/2", "label-answers/2"):
        same = fingerprint(step)
        assert fingerprint(step, elsewhere, f"corpus.labelling.people={people}", "corpus.labelling.prefer=model") == same
        assert fingerprint(step, "corpus.labelling.sample.seed=2") != same
        assert fingerprint(step, "corpus.stages.language.min_score=0.7") != same
    first = fingerprint("label-answers")
    assert fingerprint("label-answers", "corpus.labelling.sample.rounds.1.n=70") == first
    assert fingerprint("label-answers", "corpus.labelling.ask.vote=majority") != first
    assert fingerprint("labels", f"corpus.labelling.people={people}") != fingerprint("labels")


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("corpus.classifier.positive=medicine", "corpus.classifier:"),
        ("corpus.classifiers={topic: {classes: [medical, law]}}", "corpus.classifiers.topic:"),
        ("corpus.labelling.sample.rounds.1.classifier.positive=law", "corpus.labelling.sample.rounds.1.classifier:"),
    ],
)
def test_a_label_that_nobody_gives_is_refused_before_anything_runs(made, override, where):
    with pytest.raises(RecipeError, match=r"no label of corpus\.labelling; expected one of medical, other") as caught:
        plan_run(load_recipe(str(made.recipe), [override]), Folder(str(made.out)))
    assert caught.value.sentence().startswith(where)


def test_with_people_alone_a_second_round_learns_from_their_file(made, tmp_path):
    (tmp_path / "first.csv").write_text("id,label\nx,medical\n", encoding="utf-8")
    rounds = f"[{{n: 200}}, {{n: 50, by: boundary, classifier: {{positive: medical, labels: '{tmp_path}/first.csv'}}}}]"
    sets = ["corpus.labelling.ask=null", "corpus.labelling.labels=[medical, other]", f"corpus.labelling.sample.rounds={rounds}"]
    graph = plan_run(load_recipe(str(made.recipe), sets), Folder(str(made.out))).graph
    names = [n.name for n in graph.nodes if "label" in n.name]
    assert names == ["label-sample", "label-classifier/2", "label-sample/2", "labels"]
    assert "labels" not in next(n for n in graph.nodes if n.name == "label-classifier/2").inputs


def test_what_has_no_labelling_is_refused(made, tmp_path):
    with pytest.raises(DefinemedError):
        open_drawn(str(tmp_path))
    with pytest.raises(InputError, match="not the folder of a run"):
        open_drawn(artifact(made, "labels").folder.url)
    assert isinstance(artifact(made, "labels"), Artifact)


@pytest.mark.slow
def test_the_built_in_recipe_on_ray_with_any_number_of_workers(tmp_path):
    """The loop by the command line: the same labels and classifier for one worker and for two; kept answers need no server."""
    needs_language_model()
    server = Labeller(tmp_path / "one")
    made = {}
    for name, workers, url in (("one", 1, server.url), ("two", 2, "http://127.0.0.1:1/v1")):
        out = tmp_path / name
        if name == "two":
            shutil.copytree(tmp_path / "one" / "labelling", out / "labelling")
            server.close()
        sets = ["corpus.source.sample.n_docs=1500", f"corpus.labelling.ask.models.0.endpoint.url={url}", f"cluster.workers={workers}"]
        words = [w for s in sets for w in ("--set", s)] + ["--out", str(out), "--until", "classifier", "--address", "local"]
        command = [sys.executable, "-m", "cluster.cli", "run", "demo-labelled", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        (run_folder,) = (out / "runs").iterdir()
        record = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
        made[name] = {
            s["name"]: json.loads((out / s["folder"] / "manifest.json").read_text(encoding="utf-8"))["content_hash"]
            for s in record["steps"]
        }
    assert {"label-sample/2", "label-answers/2", "labels", "classifier"} <= set(made["one"]) and made["two"] == made["one"]
    assert len(server.asked) > 800
