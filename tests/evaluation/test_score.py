"""Whole evaluations: what scores.json says against the parts, the same bytes twice, and going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from evaluation.answers import answer_questions
from evaluation.choice import ChoiceTask, score_choices
from evaluation.items import read_items, read_questions
from evaluation.likelihood import score_texts
from evaluation.model import open_model
from evaluation.params import EvaluationParams
from evaluation.score import combine, evaluate, evaluate_one
from evaluation.statistics import mean, paired_ratio_difference
from store.errors import ArtifactError, InputError, RecipeError


def identify(texts: list[str]) -> list[tuple[str, float]]:
    return [("en" if t.startswith("A high") else "de", 0.875) for t in texts]


@pytest.fixture
def setup(tmp_path, jsonl, make_model, scholar, texts, learnt):
    """Parameters, models and held-out files of a small evaluation."""
    bench = [{"question": f"Frage {i}?", "choices": ["Brust", "Wetter", "Arzt"][: 2 + i % 2], "answer": i % 2} for i in range(12)]
    asked = [{"question": q, "reference": "Penicillin"} for q in learnt]
    params = EvaluationParams.model_validate({
        "benchmarks": [
            {"name": "Prüfung", "file": jsonl("bench.jsonl", bench)},
            {"name": "school", "file": jsonl("school.jsonl", bench[:8]), "group": "general", "template": "{question}"},
        ],
        "open_questions": [{"name": "Fragen", "file": jsonl("open.jsonl", asked)}],
        "expected_language": "de", "max_new_tokens": 24, "max_items": 10, "context": 64,
    })  # fmt: skip
    heldout = {}
    for name, some in (("medical", texts[:4]), ("general", texts[2:])):
        pq.write_table(pa.table({"text": some}), tmp_path / f"{name}.parquet")
        heldout[name] = [str(tmp_path / f"{name}.parquet")]
    return params, {"instruct": scholar, "trained": make_model(5), "merged": make_model(6)}, heldout


def test_scores_are_made_of_the_parts(setup, tmp_path, texts):
    params, models, heldout = setup
    scores = evaluate(params, models, heldout, str(tmp_path / "out"), identify, "cpu")
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores
    assert scores["models"] == ["instruct", "trained", "merged"]
    metrics = {m["name"]: m for m in scores["metrics"]}
    opened = {n: open_model(f, "cpu") for n, f in models.items()}

    bits = metrics["medical bits per byte"]
    parts = {n: score_texts(lm, texts[:4], context=64) for n, lm in opened.items()}
    assert (bits["group"], bits["better"], metrics["general bits per byte"]["group"]) == ("domain", "lower", "general")
    for n, found in parts.items():
        wanted = found.bits_per_byte
        assert bits["values"][n] == {"value": pytest.approx(wanted.value, 1e-5), "stderr": pytest.approx(wanted.stderr, 1e-4), "n": 4}
    a, b = parts["merged"], parts["instruct"]
    wanted = paired_ratio_difference(a.nats / np.log(2), b.nats / np.log(2), a.n_bytes.astype(float), b.n_bytes.astype(float))
    assert list(bits["paired"]) == ["trained - instruct", "merged - instruct", "merged - trained"]
    assert bits["paired"]["merged - instruct"]["difference"] == pytest.approx(wanted.value, rel=1e-4)
    assert bits["paired"]["merged - instruct"]["stderr"] == pytest.approx(wanted.stderr, rel=1e-4)

    items = read_items(params.benchmarks[0].file)
    some = [items[i * 12 // 10] for i in range(10)]
    choices = score_choices(opened["trained"], [ChoiceTask("x", some, params.template)])["x"]
    accuracy = mean(np.array([c.scores["acc"] for c in choices]))
    assert metrics["Prüfung accuracy"]["values"]["trained"]["value"] == pytest.approx(accuracy.value)
    assert metrics["Prüfung accuracy"]["values"]["trained"]["stderr"] == pytest.approx(accuracy.stderr, rel=1e-4)
    assert metrics["Prüfung accuracy"]["chance"] == pytest.approx(np.mean([1 / len(i.choices) for i in some]))
    low, high = metrics["Prüfung accuracy"]["values"]["trained"]["interval"]
    assert low < accuracy.value < high or accuracy.value in (0.0, 1.0)
    assert (metrics["school accuracy"]["group"], metrics["school accuracy"]["values"]["merged"]["n"]) == ("general", 8)

    values = {k.removeprefix("Fragen: "): m["values"]["instruct"] for k, m in metrics.items() if m["group"] == "answers"}
    assert values["answers in the expected language (de)"]["value"] == pytest.approx(2 / 3, rel=1e-5)
    assert values["answers with the reference"]["value"] == pytest.approx(1 / 3, rel=1e-5)
    assert values["truncated answers"]["value"] == values["empty answers"]["value"] == 0.0
    questions = read_questions(params.open_questions[0].file)
    answers = answer_questions(opened["instruct"], questions, template=params.template, max_new_tokens=24)
    assert values["median answer length in characters"]["value"] == np.median([len(a.text) for a in answers])
    assert values["mean answer length in tokens"]["value"] == pytest.approx(np.mean([a.n_tokens for a in answers]), rel=1e-5)
    assert all(v["stderr"] is not None for m in metrics.values() for v in m["values"].values())


def test_samples_and_items_are_kept(setup, tmp_path, learnt):
    params, models, heldout = setup
    evaluate_one(params, "instruct", models["instruct"], heldout, str(tmp_path / "out"), identify, "cpu")
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples" / "instruct.jsonl").read_text().splitlines()]
    assert {s["question"]: s["answer"] for s in samples} == learnt
    assert samples[0]["reference"] == ["Penicillin"]
    assert samples[0]["language_probability"] == 0.875
    items = [json.loads(line) for line in (tmp_path / "out" / "items" / "instruct.jsonl").read_text().splitlines()]
    assert {i["kind"] for i in items} == {"text", "choice", "answer"}
    one = next(i for i in items if i["kind"] == "choice" and i["n_choices"] == 3)
    assert len(one["log_likelihoods"]) == 3
    assert one["acc"] == int(np.argmax(one["log_likelihoods"]) == one["gold"])


def test_same_bytes_whoever_does_it_in_whatever_order(setup, tmp_path):
    params, models, heldout = setup
    evaluate(params, models, heldout, str(tmp_path / "a"), identify, "cpu")
    for name in ("merged", "instruct", "trained"):
        evaluate_one(params, name, models[name], heldout, str(tmp_path / "b"), identify, "cpu")
    combine(params, list(models), str(tmp_path / "b"))
    files = [{p.relative_to(r): p.read_bytes() for p in sorted(r.rglob("*")) if p.is_file()} for r in (tmp_path / "a", tmp_path / "b")]
    assert files[0] == files[1]
    assert len(files[0]) == 1 + 3 * 3
    for name, data in files[0].items():
        assert str(tmp_path).encode() not in data, name


def test_a_scored_model_is_not_scored_again_but_a_changed_one_is(setup, tmp_path, make_model):
    params, models, heldout = setup
    out = tmp_path / "out"
    evaluate_one(params, "merged", models["merged"], heldout, str(out), identify, "cpu")
    (out / "items" / "merged.jsonl").write_bytes(b"kept\n")
    evaluate_one(params, "merged", models["merged"], heldout, str(out), identify, "cpu")
    assert (out / "items" / "merged.jsonl").read_bytes() == b"kept\n"
    quicker = params.model_copy(update={"batch_size": 1, "tokens_per_batch": 100})
    evaluate_one(quicker, "merged", models["merged"], heldout, str(out), identify, "cpu")
    assert (out / "items" / "merged.jsonl").read_bytes() == b"kept\n"
    for changed, folder in ((params.model_copy(update={"max_items": 3}), models["merged"]), (params, models["trained"])):
        (out / "items" / "merged.jsonl").write_bytes(b"kept\n")
        evaluate_one(changed, "merged", folder, heldout, str(out), identify, "cpu")
        assert (out / "items" / "merged.jsonl").read_bytes() != b"kept\n"
    (out / "models" / "merged.json").unlink()  # killed before the end
    (out / "items" / "merged.jsonl").write_bytes(b"half")
    evaluate_one(params, "merged", models["merged"], heldout, str(out), identify, "cpu")
    assert (out / "items" / "merged.jsonl").read_bytes() != b"half"


def test_what_cannot_be_combined(setup, tmp_path):
    params, models, heldout = setup
    out = str(tmp_path / "out")
    evaluate_one(params, "instruct", models["instruct"], heldout, out, None, "cpu")
    with pytest.raises(ArtifactError, match="the model merged has not been scored"):
        combine(params, ["instruct", "merged"], out)
    evaluate_one(params.model_copy(update={"max_items": 4}), "merged", models["merged"], heldout, out, None, "cpu")
    with pytest.raises(ArtifactError, match="merged was scored on other items of Prüfung than instruct"):
        combine(params, ["instruct", "merged"], out)


def test_without_languages_or_references_there_is_no_such_metric(setup, tmp_path, jsonl):
    _, models, _ = setup
    asked = [{"name": "frei", "file": jsonl("free.jsonl", [{"question": "Wo schlägt das Herz?"}])}]
    bare = EvaluationParams.model_validate({"open_questions": asked, "expected_language": "de", "max_new_tokens": 8})
    names = [m["name"] for m in evaluate(bare, {"a": models["instruct"]}, {}, str(tmp_path / "out"), None, "cpu")["metrics"]]
    assert "frei: truncated answers" in names
    assert not any("language" in n or "reference" in n for n in names)


def test_wrong_parameters(setup, tmp_path):
    params, models, heldout = setup
    with pytest.raises(RecipeError, match="cannot name a model"):
        evaluate_one(params, "../x", models["merged"], heldout, str(tmp_path), None, "cpu")
    with pytest.raises(InputError, match="too few for 12 shots"):
        evaluate_one(params.model_copy(update={"n_shot": 12}), "x", models["merged"], heldout, str(tmp_path), None, "cpu")
    for wrong in ({"template": "no place"}, {"max_new_tokens": 0}, {"benchmark": []}):
        with pytest.raises(ValidationError):
            EvaluationParams.model_validate(wrong)
    file = params.benchmarks[0].file
    with pytest.raises(ValidationError, match="called 'x'"):
        EvaluationParams.model_validate({"benchmarks": [{"name": "x", "file": file}], "open_questions": [{"name": "x", "file": file}]})


def test_identity_is_by_content_and_without_batch_sizes(setup, tmp_path):
    params, _, _ = setup
    moved = Path(params.benchmarks[0].file).rename(tmp_path / "elsewhere.jsonl")
    first = params.benchmarks[0].model_copy(update={"file": str(moved)})
    other = params.model_copy(update={"benchmarks": (first, params.benchmarks[1]), "batch_size": 3, "tokens_per_batch": 9})
    digests = {params.benchmarks[0].file: "1", str(moved): "1"}
    assert params.identity(lambda f: digests.get(f, f)) == other.identity(lambda f: digests.get(f, f))
