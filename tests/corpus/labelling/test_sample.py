"""Rounds of pages over a source: the same bytes for any units and order, every page accounted for, no page twice."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.labelling.params import LabellingParams, SamplingParams
from corpus.labelling.sample import PAGES, SAMPLE, read_sample, sample_pages
from corpus.source import FileSource, list_units
from corpus.stages.language import Language
from corpus.stages.lid_model import find_lid176
from store.artifact import Draft, Identity
from store.errors import ResourceError, StepError
from store.executor import SerialExecutor
from store.fs import Folder

ROUNDS = [{"n": 60, "by": "strata", "strata": [{"by": "length", "quantiles": 3}]}, {"n": 40}]


class Backwards(SerialExecutor):
    """The last task first; receipts still in the order of the tasks."""

    def map(self, job):
        from dataclasses import replace

        return list(reversed(super().map(replace(job, tasks=list(reversed(job.tasks))))))


@dataclass
class Made:
    """A folder with two files of pages, and a way to draw from them."""

    root: object
    n: int = 700

    def __post_init__(self):
        rng = np.random.default_rng(1)
        for k, name in enumerate("ab"):
            rows = range(k * self.n // 2, (k + 1) * self.n // 2)
            texts = [f"Seite {i} " + "ist eine deutsche Seite über das Wetter und " * int(rng.integers(1, 60)) for i in rows]
            names = [None if i % 50 == 7 else "" if i % 50 == 8 else f"id-{i % 650}" for i in rows]
            urls = [f"https://h{i % 9}.de/{i}" if i % 3 else "https://gross.de/x" for i in rows]
            table = pa.table({"text": texts, "id": pa.array(names, pa.string()), "url": urls})
            pq.write_table(table, self.root / f"{name}.parquet", row_group_size=25)

    def draw(self, name, number=1, executor=None, unit_docs=100, earlier=(), judges=(), **sample):
        params = SamplingParams.model_validate({"rounds": ROUNDS, "max_per_host": 15, **sample})
        source = FileSource(files=(str(self.root / "*.parquet"),), unit_docs=unit_docs)
        draft = Draft.begin(Folder(str(self.root / name)), Identity("label-sample", 1, {"round": number}))
        return sample_pages(
            draft, executor or SerialExecutor(), params, number, source, list_units(source), earlier=earlier, judges=judges
        )


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def files_of(artifact):
    return {name: artifact.folder.read_bytes(name) for name in (PAGES, SAMPLE)}


def test_the_same_bytes_for_any_units_and_order(made):
    first = made.draw("a")
    for name, options in {"b": {"unit_docs": 25}, "c": {"executor": Backwards()}, "d": {"unit_docs": 10_000}}.items():
        again = made.draw(name, **options)
        assert files_of(again) == files_of(first) and again.manifest.summary == first.manifest.summary
        assert again.manifest.content_hash == first.manifest.content_hash
    assert files_of(made.draw("e", seed=2)) != files_of(first)


def test_every_page_is_accounted_for(made):
    found = made.draw("a", rounds=[{"n": 60, "pool_pages": 300}]).manifest
    counts = found.counts
    assert counts["read"] == 700 == counts["without_id"] + counts["not_drawn"] + counts["pool"]
    assert counts["pool"] == counts["repeated_id"] + counts["chosen"] + counts["not_chosen"]
    assert counts["without_id"] == 28 and counts["repeated_id"] > 0 and counts["chosen"] == 60 and counts["not_drawn"] > 300
    assert found.summary["n_pool"] == counts["chosen"] + counts["not_chosen"]


def test_pages_hold_the_heads_of_what_was_drawn(made):
    artifact = made.draw("a", max_chars=100)
    sample, pages = read_sample(artifact), pq.read_table(artifact.path(PAGES))
    assert sorted(pages["id"].to_pylist()) == sample["id"].to_list() and sample["id"].is_unique().all()
    numbers = [int(t.split()[1]) for t in pages["text"].to_pylist()]
    assert numbers == sorted(numbers) and max(len(t) for t in pages["text"].to_pylist()) <= 100
    for name, text in zip(pages["id"].to_pylist(), pages["text"].to_pylist(), strict=True):
        assert name == f"id-{int(text.split()[1])}"  # of an id that occurs twice the first page
    assert sample["n_chars"].max() > 1000 and sample.group_by("host").len()["len"].max() <= 15


def test_no_page_is_in_two_rounds(made):
    first = made.draw("a")
    second = made.draw("b", number=2, earlier=[first.path(SAMPLE)])
    assert not set(read_sample(first)["id"]) & set(read_sample(second)["id"])
    counts = second.manifest.counts
    assert counts["read"] == sum(counts.get(k, 0) for k in ("without_id", "not_drawn", "earlier_round", "pool"))
    assert 0 < counts["earlier_round"] <= 60 and read_sample(second)["round"].to_list() == [2] * 40


def test_pages_of_other_languages_are_not_drawn(made):
    try:
        find_lid176()
    except ResourceError:
        pytest.skip("needs the language model")
    table = pq.read_table(made.root / "a.parquet")
    english = ["This page is written in plain English and says nothing about anything at all."] * len(table)
    pq.write_table(table.set_column(0, "text", pa.array(english)), made.root / "a.parquet", row_group_size=25)
    found = made.draw("a", rounds=[{"n": 60, "pool_pages": 700}], judges=[Language(languages=("de",), min_score=None)])
    counts = found.manifest.counts
    assert counts["dropped/language/other_language"] >= 300
    assert all(t.startswith("Seite") for t in pq.read_table(found.path(PAGES))["text"].to_pylist())
    assert counts["read"] == counts["without_id"] + counts["pool"] + sum(n for k, n in counts.items() if k.startswith("dropped/"))


def test_a_killed_task_is_done_again_with_the_same_bytes(made):
    first = made.draw("a")

    class Dies(SerialExecutor):
        def map(self, job):
            if job.tasks[0].key == "choose":
                raise KeyboardInterrupt
            return super().map(job)

    with pytest.raises(KeyboardInterrupt):
        made.draw("b", executor=Dies())
    (made.root / "b/label-sample").mkdir(exist_ok=True)
    folder = next((made.root / "b/label-sample").iterdir())
    (folder / "pool" / "pool-00000.parquet.tmp-1234").write_bytes(b"half a file")
    again = made.draw("b")
    assert files_of(again) == files_of(first) and sorted(again.folder.names()) == sorted(first.folder.names())


def test_a_source_without_ids_is_refused(made):
    for name in "ab":
        table = pq.read_table(made.root / f"{name}.parquet").drop_columns(["id"])
        pq.write_table(table, made.root / f"{name}.parquet")
    with pytest.raises(StepError, match="no page of the source can be labelled"):
        made.draw("a")


def test_more_strata_than_pages_are_refused(made):
    strata = [{"by": "length", "quantiles": 20}, {"by": "host", "quantiles": 2}]
    with pytest.raises(StepError, match="cannot stand for"):
        made.draw("a", rounds=[{"n": 5, "by": "strata", "strata": strata, "pool_pages": 700}])


ASK = {"labels": [{"name": "medical", "about": "a"}, {"name": "other", "about": "b"}],
       "models": [{"name": "m", "endpoint": {"url": "http://127.0.0.1:1/v1"}}]}  # fmt: skip
NEAR = {"n": 5, "by": "boundary", "classifier": {"positive": "medical"}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nobody is asked"),
        ({"labels": ["medical"]}, "at least two"),
        ({"labels": ["medical", "Medical"]}, "more than capitals"),
        ({"labels": ["medical", " other"]}, "without blanks"),
        ({"ask": ASK, "labels": ["OTHER"]}, "more than capitals"),
        ({"labels": ["a", "b"], "sample": {"rounds": [NEAR]}}, "first round"),
        ({"labels": ["a", "b"], "sample": {"rounds": [{"n": 5}, NEAR]}}, "classifier.labels names"),
        ({"ask": ASK, "sample": {"rounds": [{"n": 5}, {"n": 5, "by": "boundary"}]}}, "classifier belongs"),
        ({"ask": ASK, "sample": {"rounds": [{"n": 5}, {**NEAR, "classifier": {"kind": "encoder"}}]}}, "fastText model"),
        ({"ask": ASK, "sample": {"rounds": [{"n": 5, "by": "strata"}]}}, "strata belong"),
        ({"ask": ASK, "sample": {"rounds": [{"n": 5, "pool_pages": 4}]}}, "at least n"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_recipe_is_read(fields, message):
    with pytest.raises(ValueError, match=message):
        LabellingParams.model_validate_json(json.dumps(fields))


def test_what_fits():
    params = LabellingParams.model_validate_json(json.dumps({"ask": ASK, "labels": ["unsure"], "sample": {"rounds": [{"n": 5}, NEAR]}}))
    assert params.names == ("medical", "other", "unsure") and params.sample.rounds[1].pool == 50
