"""A trained tokenizer: the same bytes every time, the same ids through transformers under every model type."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from corpus.tokenizer import (
    PROBE,
    SPECIAL_TOKENS,
    SPLIT,
    TokenizerParams,
    check_tokenizer,
    load_tokenizer,
    require_same_ids,
    tokenizer_digest,
    train_tokenizer,
)
from store.errors import InputError, RecipeError
from store.fs import Folder

STEMS = ("herz", "lunge", "niere", "leber", "arzt", "ärztin", "prüfung", "größe", "blut", "druck", "zucker", "wert", "gabe", "übel")
TEXTS = [
    f"{a.capitalize()}{b}: {i},{j} mg für {b}{a}en über {i + j} Tage.\nDann {b} und {a}?\n"
    for i, a in enumerate(STEMS)
    for j, b in enumerate(STEMS)
]
SAMPLES = [PROBE, *TEXTS[:20], "<|im_start|>user\nÜbelkeit?<|im_end|>\n", "", " ", "don't  Stop\r\n\n x", "A\u0308rzte"]
CHILD = """
import sys
from corpus.tokenizer import train_tokenizer
from store.fs import Folder
texts = open(sys.argv[1], encoding="utf-8").read().split("\\0")
train_tokenizer(iter(texts), 700, Folder(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(iter(TEXTS), 700, Folder(str(path)))
    return path


def test_every_run_and_number_of_threads_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("\0".join(TEXTS), encoding="utf-8")
    wanted = digests(folder)
    for threads in ("1", "2"):
        out = tmp_path / threads
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": threads}
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "texts"), str(out)], check=True, env=env)
        assert digests(out) == wanted


def test_the_split_is_the_one_transformers_rebuilds() -> None:
    assert SPLIT == PRETOKENIZE_REGEX


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "llama", "mistral", None])
def test_transformers_gives_the_same_ids_under_every_model_type(folder: Path, tmp_path: Path, model_type: str | None) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    if model_type:
        (model / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": 700}))
    ours = load_tokenizer(str(folder)).tokenizer
    for place in (model, tmp_path / "again"):
        theirs = AutoTokenizer.from_pretrained(place)
        assert [theirs(s)["input_ids"] for s in SAMPLES] == [ours.encode(s).ids for s in SAMPLES]
        assert [theirs.decode(ours.encode(s).ids) for s in TEXTS[:20]] == TEXTS[:20]
        assert theirs.eos_token_id == theirs.pad_token_id == 0
        theirs.save_pretrained(tmp_path / "again")
        if model_type:
            shutil.copy(model / "config.json", tmp_path / "again")
    check_tokenizer(str(model))


def test_vocabulary_and_special_tokens(folder: Path) -> None:
    loaded = load_tokenizer(str(folder))
    assert loaded.vocab_size == 700
    assert [loaded.tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == [0, 1, 2]
    assert (loaded.eos_token, loaded.eos_id) == ("<|endoftext|>", 0)
    assert load_tokenizer(str(folder), "<|im_end|>").eos_id == 2


def test_chat_template_is_chatml_without_a_system_prompt(folder: Path) -> None:
    messages = [{"role": "user", "content": "Was tun?"}, {"role": "assistant", "content": "Ruhen."}]
    text = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>user\nWas tun?<|im_end|>\n<|im_start|>assistant\nRuhen.<|im_end|>\n"
    prompt = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nWas tun?<|im_end|>\n<|im_start|>assistant\n"


def test_identity_is_content_not_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("not a part of it")
    assert tokenizer_digest(str(copy)) == tokenizer_digest(str(folder))
    one, two = (TokenizerParams(source=str(p)).identity(str) for p in (folder, copy))
    assert one == two
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text().replace("NFC", "NFD"))
    assert tokenizer_digest(str(copy)) != tokenizer_digest(str(folder))


def test_a_tokenizer_that_transformers_would_read_differently_is_refused(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # GPT-2's: digits stay together, Qwen2's stand alone
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=list(SPECIAL_TOKENS), show_progress=False))
    tokenizer.save(str(model / "tokenizer.json"))
    check_tokenizer(str(model))
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": 700}))
    with pytest.raises(RecipeError, match="Qwen2Tokenizer"):
        check_tokenizer(str(model))


def test_a_source_without_an_end_is_refused(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    (model / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no end-of-text token.*end_of_text"):
        load_tokenizer(str(model))
    with pytest.raises(InputError, match="has no token </s>"):
        load_tokenizer(str(model), "</s>")
    assert load_tokenizer(str(model), "<|endoftext|>").eos_id == 0


def test_padding_and_truncation_of_the_source_are_off(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(model / "tokenizer.json"))
    ids = load_tokenizer(str(model)).tokenizer.encode(TEXTS[0]).ids
    assert ids == load_tokenizer(str(folder)).tokenizer.encode(TEXTS[0]).ids


def test_code_beside_a_tokenizer_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (model / "tokenizer_config.json").write_text(json.dumps({**config, **own}))
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Own\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask, and run it
    with pytest.raises(InputError, match="without running code"):
        check_tokenizer(str(model))
    assert not (tmp_path / "ran").exists()


def test_parameters_name_one_tokenizer() -> None:
    for wrong in ({}, {"source": "x", "vocab_size": 1000}):
        with pytest.raises(ValidationError):
            TokenizerParams(**wrong)
    assert TokenizerParams(vocab_size=1000).identity(str) == {"source": None, "vocab_size": 1000, "end_of_text": None}


def test_a_folder_without_a_tokenizer_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        tokenizer_digest(str(tmp_path))
    with pytest.raises(InputError):
        load_tokenizer(str(tmp_path))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_a_model_made_for_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its ids may all be in the model's vocabulary, so that nothing else would notice."""
    other = tmp_path / "other"
    train_tokenizer(iter(["Ganz andere Wörter als die, aus denen das Vokabular sonst besteht. " * 20]), 700, Folder(str(other)))
    with pytest.raises(RecipeError, match=r"the model.s own tokenizer gives other ids than.*tokens\.tokenizer\.source"):
        require_same_ids(str(folder), str(other))
    require_same_ids(str(folder), str(folder))
    (tmp_path / "none").mkdir()
    require_same_ids(str(folder), str(tmp_path / "none"))  # nothing to compare with


def test_a_model_may_have_more_added_tokens_but_not_another_end(folder: Path, tmp_path: Path) -> None:
    instruct = tmp_path / "instruct"
    shutil.copytree(folder, instruct)
    tokenizer = Tokenizer.from_file(str(instruct / "tokenizer.json"))
    tokenizer.add_special_tokens(["<tool>"])
    tokenizer.add_tokens(["<think>"])
    tokenizer.save(str(instruct / "tokenizer.json"))
    require_same_ids(str(folder), str(instruct))
    require_same_ids(str(instruct), str(folder))
    with pytest.raises(RecipeError, match="other ids"):
        require_same_ids(str(instruct), str(folder), end_of_text="<tool>")
