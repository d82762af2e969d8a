"""Multiple choice: items read and refused, and the harness's figures against plain transformers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from evaluation.choice import METRICS, ChoiceTask, score_choices
from evaluation.items import Item, read_items, read_questions, spaced
from evaluation.model import open_model
from store.errors import InputError

DATA = Path(os.environ.get("DEFINEMED_DATA", Path(__file__).parents[3] / "shared" / "data"))
TEMPLATE = "Frage: {question}\nAntwort:"
ITEMS = [
    Item(1, "a", "Was senkt Fieber {am {{besten}}?", ("Paracetamol", "Kälte und Öl", "nichts"), 0),
    Item(2, "b", "Wo schlägt das Herz?", ("Im Knie", "In der Brust"), 1),
    Item(3, "c", "Was misst man am Arm?", ("Blutdruck", "Wetter", "Köln", "Größe"), 0),
    Item(5, "c", "Wer verordnet Amoxicillin?", ("Der Arzt", "Die Kinder"), 0),
]


def log_likelihood(lm, prompt: str, choice: str) -> float:
    import torch

    whole, context = lm.tokenizer(f"{prompt} {choice}")["input_ids"], lm.tokenizer(prompt)["input_ids"]
    assert whole[: len(context)] == context
    with torch.no_grad():
        log_p = lm.model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, whole[i]]) for i in range(len(context), len(whole)))


@pytest.mark.parametrize("which", ["plain", "with_bos"])
def test_figures_equal_plain_transformers(request, which):
    lm = open_model(request.getfixturevalue(which), "cpu")
    tasks = [ChoiceTask("Erste Prüfung", ITEMS, TEMPLATE), ChoiceTask("zweite/Prüfung", ITEMS[::-1], "{question} =>")]
    found = score_choices(lm, tasks, batch_size=3)
    assert list(found) == ["Erste Prüfung", "zweite/Prüfung"]
    for task in tasks:
        assert [c.item for c in found[task.name]] == list(task.items)
        for c in found[task.name]:
            prompt = task.template.replace("{question}", c.item.question)
            wanted = np.array([log_likelihood(lm, prompt, choice) for choice in c.item.choices])
            np.testing.assert_allclose(c.log_likelihoods, wanted, rtol=1e-4)
            lengths = {"acc": 1, "acc_norm": [len(t) for t in c.item.choices], "acc_bytes": [len(t.encode()) for t in c.item.choices]}
            assert c.scores == {m: float(np.argmax(wanted / np.array(lengths[m])) == c.item.answer) for m in METRICS}


def test_batch_size_does_not_matter_and_nothing_is_fetched(plain, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the evaluation opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    lm = open_model(plain, "cpu")
    found = [score_choices(lm, [ChoiceTask("x", ITEMS, TEMPLATE)], batch_size=b)["x"] for b in (1, 8)]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.log_likelihoods, b.log_likelihoods, rtol=1e-5)
    assert "HF_HUB_OFFLINE" not in os.environ


def test_shots_come_before_the_item_and_are_not_the_item(plain):
    """With two items and one shot, the shot must be the other item, solved."""
    lm = open_model(plain, "cpu")
    pair = ITEMS[1:3]
    found = score_choices(lm, [ChoiceTask("x", pair, TEMPLATE)], n_shot=1)["x"]
    prompts = [TEMPLATE.replace("{question}", i.question) for i in pair]
    solved = [f"{p} {i.choices[i.answer]}\n\n" for p, i in zip(prompts, pair, strict=True)]
    for k, c in enumerate(found):
        wanted = [log_likelihood(lm, solved[1 - k] + prompts[k], choice) for choice in pair[k].choices]
        np.testing.assert_allclose(c.log_likelihoods, wanted, rtol=1e-4)


def test_a_prompt_that_is_cut_is_marked(plain):
    """The edge to the token: a context of 128 reads 128 tokens and predicts one more, so 129 still fit."""
    lm = open_model(plain, "cpu")
    by_length = {}
    for k in range(40, 200):
        item = Item(k, "z", "x" * k, ("y", "z"), 0)
        by_length.setdefault(len(lm.tokenizer(TEMPLATE.replace("{question}", item.question) + " y")["input_ids"]), item)
    whole, cut = score_choices(lm, [ChoiceTask("x", [by_length[129], by_length[130]], TEMPLATE)])["x"]
    assert (whole.cut, cut.cut) == (False, True)
    wanted = [log_likelihood(lm, TEMPLATE.replace("{question}", whole.item.question), c) for c in whole.item.choices]
    np.testing.assert_allclose(whole.log_likelihoods, wanted, rtol=1e-4)


def test_item_formats(jsonl):
    rows = [
        {"id": 7, "question": " Wo? ", "choices": ["hier", "da "], "answer": 1},
        {"question": "Wann?", "choices": ["jetzt", "nie", "bald"], "answer": [2]},
        {"problem_id": 0, "problem_text": "Where?", "choices": ["here", "there"], "answer": ["a"]},
        {"id": "x", "question": "Wie?", "choices": ["so", "anders"], "answer": "B", "topic": "ignored"},
    ]
    assert read_items(jsonl("x.jsonl", rows)) == [
        Item(1, "7", "Wo?", ("hier", "da"), 1),
        Item(2, "2", "Wann?", ("jetzt", "nie", "bald"), 2),
        Item(3, "0", "Where?", ("here", "there"), 0),
        Item(4, "x", "Wie?", ("so", "anders"), 1),
    ]


GOOD = {"question": "Wo?", "choices": ["hier", "da"], "answer": 0}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**GOOD, "answer": 2}, "answer 2 is out of range"),
        ({**GOOD, "answer": -1}, "answer -1 is out of range"),
        ({**GOOD, "answer": ["c"]}, "is out of range"),
        ({**GOOD, "answer": [0, 1]}, "does not name one choice"),
        ({**GOOD, "answer": True}, "does not name one choice"),
        ({**GOOD, "answer": None}, "does not name one choice"),
        ({**GOOD, "choices": ["hier"]}, "has 1 choice"),
        ({**GOOD, "choices": ["hier", "hier "]}, "same choice twice"),
        ({**GOOD, "choices": ["hier", ""]}, "non-empty texts"),
        ({**GOOD, "choices": "hier"}, "non-empty texts"),
        ({**GOOD, "question": ""}, "question is missing"),
        ({"choices": ["a", "b"], "answer": 0}, "question is missing"),
        ([1, 2], "not a JSON object"),
        ({**GOOD, "question": "Wer?"}, "same as that of line 1"),
        ({**GOOD, "question": "Wer?", "choices": ["da", "hier"]}, "line 1 with another answer"),
    ],
)
def test_bad_items_are_named_by_line(jsonl, bad, message):
    file = jsonl("x.jsonl", [{**GOOD, "question": "Wer?"}, bad])
    with pytest.raises(InputError, match=rf"x\.jsonl, line 2: .*{message}"):
        read_items(file)


def test_duplicates_can_be_left_out_but_not_contradictions(jsonl):
    twice = [GOOD, {**GOOD, "id": "again", "choices": ["da", "hier"], "answer": 1}, {**GOOD, "question": "Wann?"}]
    assert [i.line for i in read_items(jsonl("x.jsonl", twice), "first")] == [1, 3]
    with pytest.raises(InputError, match="another answer"):
        read_items(jsonl("y.jsonl", [GOOD, {**GOOD, "answer": 1}]), "first")


def test_broken_files(tmp_path, jsonl):
    (tmp_path / "b.jsonl").write_text('{"question": "Wo?"\n')
    with pytest.raises(InputError, match=r"line 1: this is not JSON"):
        read_items(str(tmp_path / "b.jsonl"))
    with pytest.raises(InputError, match="holds no items"):
        read_items(jsonl("e.jsonl", []))
    with pytest.raises(InputError, match="no such file"):
        read_items(str(tmp_path / "absent.jsonl"))


def test_open_questions(jsonl):
    rows = [{"question": "Wo?"}, {"id": 4, "question": "Wer?", "reference": "Arzt"}, {"question": "Was?", "reference": ["A", "B"]}]
    assert [(q.id, q.references) for q in read_questions(jsonl("q.jsonl", rows))] == [("1", ()), ("4", ("Arzt",)), ("3", ("A", "B"))]
    with pytest.raises(InputError, match="line 1: the reference is not a text"):
        read_questions(jsonl("q.jsonl", [{"question": "Wo?", "reference": 3}]))


def test_spaced():
    assert spaced(5, None) == spaced(5, 9) == [0, 1, 2, 3, 4]
    assert spaced(10, 3) == [0, 3, 6]
    assert len(set(spaced(1089, 200))) == 200


@pytest.mark.skipif(not DATA.is_dir(), reason="DEFINEMED_DATA is absent")
def test_the_real_files_are_read():
    assert len(read_items(str(DATA / "bench" / "antibiotics_de.jsonl"))) == 51
    with pytest.raises(InputError, match="same as that of line"):
        read_items(str(DATA / "bench" / "en_mmlu_medical.jsonl"))
    assert len(read_items(str(DATA / "bench" / "en_mmlu_medical.jsonl"), "first")) < 1089
