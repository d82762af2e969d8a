"""The step with fastText: it learns, gives the same bytes again, refuses what cannot work, searches, and scores as it was tested."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.calibration import read_calibration
from corpus.classifier.fasttext_model import MODEL, epochs_for
from corpus.classifier.params import ClassifierParams
from corpus.classifier.search import survivors, trial
from corpus.classifier.train import CALIBRATION, CARD, CARD_TEXT, HELD_OUT, SCORED
from corpus.stages.score import Score
from store.artifact import Draft, Identity
from store.errors import StepError
from store.fs import Folder

FILES = sorted([CALIBRATION, CARD, CARD_TEXT, MODEL, HELD_OUT, SCORED])


def card_of(made):
    return json.loads(made.folder.read_bytes(CARD))


def table(made, name):
    return pq.read_table(made.path(name)).to_pylist()


def test_it_learns_and_the_artifact_holds_no_text(corpus):
    made = corpus.train()
    assert sorted(f.name for f in made.files()) == FILES
    assert sorted(made.folder.names()) == sorted([*FILES, "manifest.json", "provenance.json"])
    card = card_of(made)
    assert card["f1"] == 1.0 and card["f1_low"] <= card["f1"] <= card["f1_high"] and card["average_precision"] == 1.0
    assert card["split"]["n_train"] + card["split"]["n_validation"] + card["n_test"] == 400 and 50 < card["n_test"] < 110
    assert made.manifest.counts == {"labelled": 400, "pages": 400}
    for name in (CARD, CARD_TEXT, CALIBRATION):
        assert "Patientin" not in made.folder.read_bytes(name).decode()


def test_the_same_labels_give_the_same_bytes_whatever_the_units(corpus):
    first = corpus.train("one", search={"n_trials": 2})
    second = corpus.train("two", unit_docs=400, search={"n_trials": 2})
    assert first.manifest.files == second.manifest.files
    assert first.manifest.content_hash == second.manifest.content_hash


def test_the_stage_score_writes_the_scores_that_were_tested(corpus):
    for name, calibrate in (("raw", False), ("calibrated", True)):
        made = corpus.train(name, calibrate=calibrate, validation_share=0.3, epoch=2)
        held = {r["id"]: r["score"] for r in table(made, HELD_OUT)}
        rows = [i for i, name in enumerate(corpus.ids) if name in held]
        batch = pa.record_batch({"text": pa.array([corpus.texts[i] for i in rows], pa.large_string())})
        resources = {"classifier": made.path(MODEL)} | ({"calibration": made.path(CALIBRATION)} if calibrate else {})
        scores = Score(label="medical").open(resources)(batch).columns["score_medical"].to_numpy()
        assert np.array_equal(scores, np.array([held[corpus.ids[i]] for i in rows], np.float32))
    assert read_calibration(made.path(CALIBRATION)).method != "none"  # two epochs leave scores that say too little


def test_every_sampled_page_is_counted_and_the_corpus_size_is_the_count(tmp_path, make_corpus):
    corpus = make_corpus(tmp_path, ["medical" if i % 4 == 0 else "other" for i in range(600)])
    card = card_of(corpus.train(sample_pages=600))
    sizes = card["sizes"]
    assert (sizes["n_source_pages"], sizes["n_sample_pages"]) == (600, 600) and sum(sizes["histogram"]) == 600
    at = next(r for r in sizes["at"] if r["threshold"] == 0.5)
    assert abs(at["pages"] - 150) <= 6 and at["pages_low"] <= at["pages"] <= at["pages_high"]
    some = card_of(corpus.train("some", sample_pages=100, unit_docs=150))["sizes"]
    assert some["n_sample_pages"] == 100 and sum(r["n_sample"] for r in some["at"]) > 0
    assert "sizes" not in card_of(corpus.train("none", sample_pages=None))


def test_several_classes(tmp_path, make_corpus):
    labels = [("medical", "other", "law")[i % 3] for i in range(450)]
    made = make_corpus(tmp_path, labels).train(classes=["medical", "law", "other"], ignore=["unsure"])
    card = card_of(made)
    assert [c["label"] for c in card["per_class"]] == ["medical", "law", "other"] and card["f1"] > 0.95
    confusion = np.array(card["confusion"])
    assert confusion.sum() == card["n_test"] and np.trace(confusion) / confusion.sum() == pytest.approx(card["accuracy"], abs=1e-5)
    assert {r["predicted"] for r in table(made, SCORED)} == {"medical", "law", "other"}


def test_a_search_begins_with_the_recipe_and_keeps_the_best_third(corpus):
    params = corpus.params(seed=7)
    assert trial(params, 0) == params and trial(params, 3) == trial(params, 3) != trial(params, 4)
    assert survivors([{"trial": i, "score": s} for i, s in enumerate([0.5, 0.9, 0.9, 0.1])]) == [1, 2]
    made = corpus.train(search={"n_trials": 4})
    found = card_of(made)["search"]
    assert [t["trial"] for t in found["trials"][:4]] == [0, 1, 2, 3] and len(found["trials"]) == 6
    best = min(found["trials"][4:], key=lambda t: (-t["score"], t["trial"]))
    assert {k: best[k] for k in found["chosen"]} == found["chosen"]
    assert all(t["n_train"] < u["n_train"] for t in found["trials"][:4] for u in found["trials"][4:])


def test_labels_of_other_pages_are_noticed(corpus):
    rows = [{"id": f"elsewhere-{i}", "label": "medical" if i % 2 else "other"} for i in range(100)]
    (corpus.folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(StepError, match="only 0 labelled pages"):
        corpus.train()


def test_few_pages_get_more_epochs():
    params = ClassifierParams(labels="x")
    assert [epochs_for(params, n) for n in (100, 4000, 1_000_000)] == [50, 25, 5]
    assert epochs_for(ClassifierParams(labels="x", epoch=3), 100) == 3


def test_half_a_file_that_a_killed_attempt_left_is_passed_over(corpus):
    left = Draft.begin(Folder(str(corpus.folder / "out")), Identity("classifier", 3, {})).folder
    left.write_bytes("texts/collect-000000.parquet.tmp-0badcafe", b"PAR1 half a file")
    made = corpus.train()
    assert made.manifest.files == corpus.train("clean").manifest.files
    assert sorted(made.folder.names()) == sorted([*FILES, "manifest.json", "provenance.json"])


def test_an_unreadable_unit_fails_the_step_or_is_counted_as_the_recipe_says(corpus):
    path = corpus.folder / "a.parquet"
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 30] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(StepError, match="cannot be read"):
        corpus.train("failing")
    made = corpus.train("going", on_bad_input="quarantine")
    assert made.manifest.counts == {"labelled": 300, "pages": 300, "unreadable": 1}
