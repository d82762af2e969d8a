"""Free answers: greedy decoding against a loop over argmax, and measures against answers known by heart."""

from __future__ import annotations

import pytest

from evaluation.answers import answer_questions, end_ids, holds
from evaluation.items import Question
from evaluation.model import open_model
from store.errors import InputError

TEMPLATE = "Frage: {question}\nAntwort:"


def ask(lm, questions, **kwargs):
    return answer_questions(lm, questions, template=TEMPLATE, **{"max_new_tokens": 24, **kwargs})


def questions_of(texts, references=()):
    return [Question(i + 1, str(i), t, tuple(references)) for i, t in enumerate(texts)]


def argmax_loop(lm, text: str, n: int, special: bool) -> list[int]:
    import torch

    ids = lm.tokenizer(text, add_special_tokens=special)["input_ids"]
    start = len(ids)
    for _ in range(n):
        with torch.no_grad():
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in end_ids(lm):
            return ids[start:-1]
    return ids[start:]


@pytest.mark.parametrize("which", ["plain", "with_bos"])
def test_batches_equal_one_at_a_time(request, texts, which):
    """Left padding must not leak into the answers; the model without a template is asked by the plain form, after its BOS."""
    lm = open_model(request.getfixturevalue(which), "cpu")
    questions = questions_of(texts[:5])
    answers = ask(lm, questions, max_new_tokens=12, batch_size=3)
    assert [a.question for a in answers] == questions
    for a in answers:
        q = a.question.question
        prompt = f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" if which == "plain" else f"Frage: {q}\nAntwort:"
        wanted = argmax_loop(lm, prompt, 12, special=which == "with_bos")
        assert (a.text, a.n_tokens) == (lm.tokenizer.decode(wanted, skip_special_tokens=True).strip(), len(wanted))
        assert a.truncated == (len(wanted) == 12)


def test_answers_known_by_heart(scholar, learnt):
    lm = open_model(scholar, "cpu")
    questions = [Question(i + 1, str(i), q, (a.upper().rstrip("."),)) for i, (q, a) in enumerate(learnt.items())]
    answers = ask(lm, questions, identify=lambda texts: [("en" if t.startswith("A high") else "__label__de", 0.9) for t in texts])
    assert [a.text for a in answers] == list(learnt.values())
    assert not any(a.truncated or a.empty for a in answers)
    assert all(a.correct for a in answers)
    assert [a.language for a in answers] == ["de", "de", "en"]
    short = ask(lm, questions, max_new_tokens=2)
    assert all(a.truncated and not a.correct and a.language is None for a in short)
    assert [a.n_tokens for a in short] == [2, 2, 2]


def test_sampling_settings_of_the_model_are_ignored(scholar, learnt):
    lm = open_model(scholar, "cpu")
    lm.model.generation_config.do_sample = True
    lm.model.generation_config.temperature = 5.0
    lm.model.generation_config.repetition_penalty = 3.0
    assert [a.text for a in ask(lm, questions_of(learnt))] == list(learnt.values())


def test_empty_answers_have_no_language(scholar, learnt):
    """Ending at once is an empty answer, not a truncated one; fastText must never see it."""
    lm = open_model(scholar, "cpu")
    first = ask(lm, questions_of(learnt))[1]
    stop = lm.tokenizer(first.text)["input_ids"][0]
    lm.model.generation_config.eos_token_id = [lm.tokenizer.eos_token_id, stop]
    asked: list[str] = []

    def identify(texts):
        asked.extend(texts)
        return [("de", 1.0)] * len(texts)

    answer = ask(lm, [first.question], identify=identify)[0]
    assert (answer.text, answer.empty, answer.truncated, answer.language, answer.n_tokens) == ("", True, False, None, 0)
    assert asked == []


def test_identify_sees_single_lines(plain, texts):
    seen: list[str] = []

    def identify(found):
        seen.extend(found)
        return [("de", 1.0)] * len(found)

    ask(open_model(plain, "cpu"), questions_of(texts[:5]), max_new_tokens=30, identify=identify)
    assert seen
    assert not any("\n" in t for t in seen)


def test_a_prompt_that_leaves_no_room_is_named(plain, texts):
    with pytest.raises(InputError, match=r"question 0: the prompt of \d+ tokens and 100 new ones exceed"):
        ask(open_model(plain, "cpu"), questions_of([texts[5]]), max_new_tokens=100)


@pytest.mark.parametrize(
    ("text", "reference", "wanted"),
    [
        ("Es ist AMOXICILLIN.", "Amoxicillin", True),
        ("Amoxicillintherapie", "Amoxicillin", False),
        ("in der  Straße\nnebenan", "der STRASSE nebenan", True),
        ("ﬁeber (38 °C)", "Fieber", True),
        ("Vitamin B12", "Vitamin B1", False),
        ("a.b", "a+b", False),
        ("40 %", "40 %", True),
        ("", "x", False),
    ],
)
def test_holding_a_reference(text, reference, wanted):
    assert holds(text, reference) is wanted
