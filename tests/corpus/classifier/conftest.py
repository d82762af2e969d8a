"""Small labelled corpora and the step run in-process."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.classifier import ClassifierParams, train
from corpus.source import FileSource, list_units
from store.artifact import Draft, Identity
from store.executor import SerialExecutor
from store.fs import Folder

MEDICAL = "Patientin Klinik Antibiotikum Entzündung Fieber Diagnose Arzt Therapie Blut Herz Niere Impfung Dosis Pflege"
OTHER = "Fluss Stadt Meer Berge Norden Brücke Straße Wald Verein Tor Haus Konzert Zug Garten"
LAW = "Gesetz Absatz Richter Klage Urteil Frist Vertrag Behörde Antrag Recht Satzung Gericht Paragraph Verordnung"
WORDS = {label: words.split(" ") for label, words in (("medical", MEDICAL), ("other", OTHER), ("law", LAW))}
FILLING = "der die das und in von zu mit auf ist im nicht ein eine als auch es an werden aus er hat dass sie nach wird bei"
PLAIN = FILLING.split()


def page(label, number, seed=0, share=0.3, length=60):
    """Words of a topic among plain ones."""
    rng = np.random.default_rng([seed, number])
    own = WORDS[label]
    return " ".join(str(rng.choice(own)) if rng.random() < share else str(rng.choice(PLAIN)) for _ in range(length))


class Corpus:
    """Pages in one file, with labels and hosts."""

    def __init__(self, folder, labels, texts=None, urls=None, groups=None):
        self.folder, n = folder, len(labels)
        self.texts = texts or [page(label, i) for i, label in enumerate(labels)]
        self.ids = [f"id-{i}" for i in range(n)]
        columns = {"text": self.texts, "id": self.ids, "url": urls or [None] * n}
        table = pa.table(columns, schema=pa.schema([(c, pa.string()) for c in columns]))
        pq.write_table(table, folder / "a.parquet", row_group_size=100, use_dictionary=False)
        rows = [{"id": i, "label": label} for i, label in zip(self.ids, labels, strict=True)]
        if groups:
            rows = [{**r, "article": g} for r, g in zip(rows, groups, strict=True)]
        (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        self.source = FileSource(files=(str(folder / "a.parquet"),), unit_docs=100)

    def params(self, **fields):
        return ClassifierParams(**{"labels": str(self.folder / "labels.jsonl"), "min_count": 1, **fields})

    def train(self, name="out", on_bad_input="fail", unit_docs=None, **fields):
        source = self.source if unit_docs is None else self.source.model_copy(update={"unit_docs": unit_docs})
        draft = Draft.begin(Folder(str(self.folder / name)), Identity("classifier", 3, {}))
        return train(draft, SerialExecutor(), self.params(**fields), source, list_units(source), on_bad_input)


@pytest.fixture(scope="session")
def make_corpus():
    return Corpus


@pytest.fixture
def corpus(tmp_path):
    """400 pages, half of them medical."""
    return Corpus(tmp_path, ["medical" if i % 2 else "other" for i in range(400)])


@pytest.fixture(scope="session")
def write_page():
    return page
