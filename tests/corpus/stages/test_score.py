"""The score column against the classifier's own probabilities."""

import fasttext
import pyarrow as pa
import pytest

from corpus.stages.fasttext_text import classifier_text
from corpus.stages.score import Score
from store.errors import RecipeError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("classifier")
    words = {"medical": "arzt klinik patient therapie", "other": "auto straße haus garten"}
    lines = [f"__label__{label} {text} nummer{i}" for i in range(100) for label, text in words.items()]
    (folder / "train.txt").write_text("\n".join(lines))
    fasttext.train_supervised(str(folder / "train.txt"), dim=8, epoch=20, thread=1, verbose=0).save_model(str(folder / "c.bin"))
    return str(folder / "c.bin")


def test_scores_are_the_models_probabilities(model: str) -> None:
    texts = ["Der ARZT in der\nKlinik", "Ein Haus mit Garten\tund Auto", "", "Arzt " * 2000]
    batch = pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"])
    stage = Score(model=model, column="p", max_chars=50)
    scores = stage.open({})(batch).columns["p"]
    loaded = fasttext.load_model(model)
    for text, score in zip(texts, scores.to_pylist(), strict=True):
        labels, values = loaded.predict(" ".join(text[:50].lower().split("\n")).replace("\t", " "), k=-1)
        expected = dict(zip(labels, values, strict=True)).get("__label__medical", 0.0)
        assert score == pytest.approx(min(expected, 1.0), abs=1e-6)
    assert [f.name for f in stage.writes] == ["p"]
    assert scores.type == stage.writes[0].type
    assert scores[0].as_py() > 0.9 > 0.1 > scores[1].as_py()


def test_the_resource_is_the_default_model(model: str) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["arzt"], pa.large_string())], ["text"])
    assert (
        Score().open({"classifier": model})(batch).columns["score_medical"]
        == Score(model=model).open({})(batch).columns["score_medical"]
    )
    with pytest.raises(RecipeError, match="no classifier"):
        Score().open({})
    with pytest.raises(RecipeError, match=r"no label 'law'.*medical, other"):
        Score(model=model, label="law").open({})


def test_text_form() -> None:
    column = pa.array(["ÄRZTE\r\n\nund\tPflege\x00", "", "abcdef"], pa.large_string())
    assert classifier_text(column, 4) == ["ärzt", "", "abcd"]
    assert classifier_text(column, 100)[0] == "ärzte und pflege "


def test_with_min_pages_below_go_and_a_share_of_them_stays_by_id(tmp_path):
    lines = ["__label__medical arzt patient klinik", "__label__other fluss berg wald"] * 50
    (tmp_path / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(str(tmp_path / "train.txt"), thread=1, seed=1, epoch=30, minCount=1, verbose=0, dim=4)
    model.save_model(str(tmp_path / "model.bin"))
    texts = ["arzt klinik patient", "fluss wald berg"] * 1000
    columns = {"text": pa.array(texts, pa.large_string()), "id": [f"i{i}" for i in range(2000)], "doc_key": range(2000)}
    batch = pa.RecordBatch.from_pydict(columns)

    def dropped(**fields):
        outcome = Score(model=str(tmp_path / "model.bin"), **fields).open({})(batch)
        return None if outcome.verdict is None else outcome.verdict == 0

    assert dropped() is None
    assert (dropped(min=0.5) == ([False, True] * 1000)).all()
    some = dropped(min=0.5, keep_below=0.1)
    assert not some[::2].any() and 850 < some[1::2].sum() < 950


def test_the_most_probable_label_and_labels_of_their_own(model):
    texts = ["Arzt Klinik Patient", "Haus und Garten", "", "zzz"]
    batch = pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"])
    one = Score(model=model, column="p").open({})(batch).columns["p"].to_pylist()
    stage = Score(classifier="topic", label=None, column="topic", classes=("other", "medical"), min=0.6)
    outcome = stage.open({"classifier/topic": model})(batch)
    assert stage.name == "score-topic" and list(outcome.columns) == [f.name for f in stage.writes]
    assert [c.type for c in outcome.columns.values()] == [f.type for f in stage.writes]
    assert outcome.columns["topic"].to_pylist()[:2] == ["medical", "other"] and outcome.columns["topic_medical"].to_pylist() == one
    best = [max(pair) for pair in zip(one, outcome.columns["topic_other"].to_pylist(), strict=True)]
    known = [label is not None for label in outcome.columns["topic"].to_pylist()]
    assert outcome.columns["topic_score"].to_pylist() == pytest.approx(
        [p if k else 0 for p, k in zip(best, known, strict=True)], abs=1e-6
    )
    assert (outcome.verdict == 0).tolist() == [p < 0.6 for p in outcome.columns["topic_score"].to_pylist()]
    with pytest.raises(RecipeError, match="no classifier"):
        stage.open({"classifier": model})
    with pytest.raises(ValueError, match="same name"):
        Score(label=None, column="topic", classes=("score",))
