"""Embedding and encoder from small random weights: they learn, repeat their bytes, and their files are all that scoring needs."""

import json

import numpy as np
import pytest

from corpus.classifier.encoder import batches
from corpus.classifier.finetune import Progress, class_weights, rate_at
from corpus.classifier.train import CARD, HELD_OUT

FAST = {"max_tokens": 48, "epochs": 4, "batch_rows": 16, "folds": 3, "l2": [1e-3, 1e-2]}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_corpus):
    """(corpus, artifact by kind, artifact of a second training by kind)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    corpus = make_corpus(tmp_path_factory.mktemp("encoders"), ["medical" if i % 2 else "other" for i in range(300)])
    kinds, fields = ("embedding", "encoder"), {"transformer": FAST, "sample_pages": 100, "prevalence": 0.3}
    first = {k: corpus.train(k, kind=k, **fields) for k in kinds}
    yield corpus, first, {k: corpus.train(k + "2", unit_docs=300, kind=k, **fields) for k in kinds}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["embedding", "encoder"])
def test_it_learns_and_repeats_its_bytes(made, kind):
    _, first, second = made
    names = {f.name for f in first[kind].files()}
    assert {"model/config.json", "model/model.safetensors", "model/tokenizer.json", "encoder.json", CARD} <= names
    assert ("head.safetensors" in names) == (kind == "embedding") and "model.bin" not in names
    assert first[kind].manifest.files == second[kind].manifest.files
    card = json.loads(first[kind].folder.read_bytes(CARD))
    assert card["kind"] == kind and card["average_precision"] > 0.9 and "small random" in " ".join(card["limits"])


def held_out(corpus, artifact):
    import pyarrow.parquet as pq

    rows = pq.read_table(artifact.path(HELD_OUT)).to_pylist()
    texts = dict(zip(corpus.ids, corpus.texts, strict=True))
    return [texts[r["id"]] for r in rows], np.array([r["score"] for r in rows])


def test_the_encoders_folder_gives_the_scores_that_were_tested(made):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    corpus, first, _ = made
    folder = first["encoder"].path("model")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.id2label == {0: "medical", 1: "other"}
    about = json.loads(first["encoder"].folder.read_bytes("encoder.json"))
    texts, scores = held_out(corpus, first["encoder"])
    with torch.inference_mode():
        for text, score in zip(texts[:20], scores, strict=False):
            given = tokenizer(about["prefix"] + text, truncation=True, max_length=about["max_tokens"], return_tensors="pt")
            assert torch.softmax(model(**given).logits, -1)[0, 0].item() == pytest.approx(float(score), abs=1e-5)


def test_the_embeddings_folder_gives_the_scores_that_were_tested(made):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    corpus, first, _ = made
    folder = first["embedding"].path("model")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    head, about = (
        load_file(first["embedding"].path("head.safetensors")),
        json.loads(first["embedding"].folder.read_bytes("encoder.json")),
    )
    assert about["labels"] == ["medical", "other"] and head["weight"].shape == (2, about["dim"])
    texts, scores = held_out(corpus, first["embedding"])
    with torch.inference_mode():
        for text, score in zip(texts[:20], scores, strict=False):
            given = tokenizer(about["prefix"] + text, truncation=True, max_length=about["max_tokens"], return_tensors="pt")
            mean = model(**given).last_hidden_state[0].mean(0)
            assert torch.softmax(head["weight"] @ mean + head["bias"], -1)[0].item() == pytest.approx(float(score), abs=1e-4)


def test_a_given_encoder_is_taken_by_its_content_wherever_it_lies(made, tmp_path):
    """A trained folder as a start: copied elsewhere it gives the same bytes; the path is in no file."""
    import shutil

    corpus, first, _ = made
    found = []
    for name in ("here", "elsewhere"):
        shutil.copytree(first["encoder"].path("model"), tmp_path / name)
        transformer = {**FAST, "model": str(tmp_path / name), "epochs": 1}
        found.append(corpus.train(name, kind="embedding", transformer=transformer, sample_pages=None))
    assert found[0].manifest.files == found[1].manifest.files
    assert all(str(tmp_path).encode() not in found[0].folder.read_bytes(f.name) for f in found[0].files())
    card = json.loads(found[0].folder.read_bytes(CARD))
    assert card["average_precision"] > 0.95 and len(card["model"]["encoder"]["model.safetensors"]) == 64


def test_batches_hold_every_row_once_within_the_budget():
    lengths = np.random.default_rng(1).integers(3, 600, 300).tolist()
    found = list(batches(lengths))
    assert sorted(r for b in found for r in b) == list(range(300))
    assert all(len(b) == 1 or len(b) * max(lengths[r] for r in b) <= 8192 for b in found)
    assert [lengths[r] for b in found for r in b] == sorted(lengths) and list(batches([])) == []


def test_the_rate_rises_and_falls_and_classes_count_alike():
    rates = [rate_at(s, 100, 0.1) for s in range(100)]
    assert rates[0] > 0 and rates[10] == max(rates) == 1.0 and rates[99] < 0.02 and rates[55] == pytest.approx(0.5)
    classes = np.array([0] * 10 + [1] * 30)
    weights = class_weights(classes, 2)
    assert weights[classes][:10].sum() == pytest.approx(weights[classes][10:].sum()) and weights[classes].mean() == pytest.approx(1)


def test_training_stops_after_looks_without_a_better_one():
    import torch

    model, progress = torch.nn.Linear(1, 1), Progress(patience=2)
    stops = [progress.look(i, loss, model) for i, loss in enumerate((0.5, 0.4, 0.6, 0.41))]
    assert stops == [False, False, False, True] and progress.best == 0.4
    assert not any(Progress(None).look(i, 1.0, model) for i in range(9))
