"""Facts are stated often enough to be learnt; benchmark items are fair and stand in no page except the planted leaks."""

import json
import re
from collections import Counter
from pathlib import Path

from corpus.sample.document import Document
from corpus.sample.facts import TOPICS, facts
from corpus.sample.generate import write_side_files
from corpus.sample.params import SampleParams
from corpus.sample.quiz import items, open_questions, quote


def normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_every_fact_is_stated_at_least_30_times(pages: list[Document]) -> None:
    for topic in TOPICS:
        mentions = Counter(number for page in pages if page.topic == topic for number in page.facts)
        assert min(mentions[fact.number] for fact in facts(topic)) >= 30


def test_recorded_facts_are_in_the_text(pages: list[Document]) -> None:
    for page in pages[:1500]:
        if page.dup_kind == "near":  # its edits may hit a statement
            continue
        for number in set(page.facts):
            fact = facts(page.topic)[number]
            phrasings = (*fact.statements, *fact.lines, *fact.questions)
            assert any(phrasing in page.text for phrasing in phrasings), (page.id, fact.entity)


def test_topics_do_not_share_entities(pages: list[Document]) -> None:
    names = {topic: {fact.entity for fact in facts(topic)} for topic in TOPICS}
    assert not names["general"] & names["medical"]
    medical = re.compile(r"\b(" + "|".join(map(re.escape, names["medical"])) + r")\b")
    assert not [page.text for page in pages if page.topic == "general" and medical.search(page.text)]


def test_world_is_as_large_as_promised() -> None:
    sizes = Counter(fact.relation for topic in TOPICS for fact in facts(topic))
    assert sizes["drug_class"] >= 80
    assert sizes["disease_organ"] >= 65
    for topic in TOPICS:
        for relation in {fact.relation for fact in facts(topic)}:
            assert len({fact.answer for fact in facts(topic) if fact.relation == relation}) >= 4


def test_items_have_four_distinct_choices_and_balanced_answers(params: SampleParams) -> None:
    for topic in TOPICS:
        quiz = items(topic, params.seed, params.n_bench_items)
        assert len(quiz) >= 150
        assert all(len(set(item.choices)) == 4 for item in quiz)
        answers = Counter(item.answer for item in quiz)
        assert max(answers.values()) - min(answers.values()) <= 1
        right = {(fact.bench, fact.answer) for fact in facts(topic)}
        for item in quiz:
            matching = [answer for bench, answer in right if item.question in bench]
            assert matching == [item.choices[item.answer]]


def test_right_answers_are_no_more_frequent_than_wrong_ones(params: SampleParams) -> None:
    """Choosing the most frequent attribute of the world must not beat chance by much."""
    for topic in TOPICS:
        frequency = Counter((fact.relation, fact.answer) for fact in facts(topic))
        relation = {question: fact.relation for fact in facts(topic) for question in fact.bench}
        score = 0.0
        quiz = items(topic, params.seed, params.n_bench_items)
        for item in quiz:
            weights = [frequency[relation[item.question], choice] for choice in item.choices]
            best = [at for at, weight in enumerate(weights) if weight == max(weights)]
            score += (item.answer in best) / len(best)
        assert score / len(quiz) < 0.36


def test_items_stand_in_no_page_except_leaks(params: SampleParams, pages: list[Document]) -> None:
    quizzes = {item.id: item for topic in TOPICS for item in items(topic, params.seed, params.n_bench_items)}
    questions = {normal(item.question) for item in quizzes.values()}
    width = {len(question.split()) for question in questions}
    for page in pages:
        if page.leaked:
            assert quote(quizzes[page.leaked]) in page.text
            continue
        words = normal(page.text).split()
        grams = {" ".join(words[at : at + n]) for n in width for at in range(len(words) - n + 1)}
        assert not grams & questions


def test_open_questions_and_chats(params: SampleParams, tmp_path: Path) -> None:
    counts = write_side_files(params, tmp_path)
    rows = {name: [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()] for name in counts}
    assert {name: len(content) for name, content in rows.items()} == counts
    for topic in TOPICS:
        assert len(rows[f"bench/open_{topic}.jsonl"]) >= 40
        assert rows[f"bench/{topic}.jsonl"][0].keys() == {"id", "question", "choices", "answer", "topic"}
        assert len({row["question"] for row in open_questions(topic, params.seed, params.n_open_items)}) >= 40
    medical = {fact.entity for fact in facts("medical")}
    for chat in rows["chat/general.jsonl"]:
        roles = [message["role"] for message in chat["messages"]]
        assert roles in (["user", "assistant"], ["system", "user", "assistant"], roles[:-4] + ["user", "assistant"] * 2)
        assert not any(name in message["content"].split() for name in medical for message in chat["messages"])


def test_labels_follow_the_truth(params: SampleParams, pages: list[Document], tmp_path: Path) -> None:
    write_side_files(params, tmp_path)
    labels = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text("utf-8").splitlines()]
    truth = {page.id: page for page in pages}
    assert len(labels) >= 800
    for row in labels:
        page = truth[row["id"]]
        assert (page.dup_kind, page.leaked) == ("none", "")
        assert row["label"] == ("medical" if page.topic == "medical" else "other")
    medical = sum(row["label"] == "medical" for row in labels) / len(labels)
    assert 0.3 < medical < 0.55
