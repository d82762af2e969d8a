"""An exported folder loads everywhere, gives the same ids and answers, and has no trace of the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import InputError
from store.models import ModelFolder
from training.export import PROBE, check_tokenizer
from training.loop import train
from training.params import ModelInit, TrainParams

TEXTS = ["Der Patient klagt über Kopfschmerzen.", "Die Ärztin verordnet 500 mg Paracetamol.", "Blutdruck 120/80 mmHg, Puls 72."] * 20
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PARAMS = TrainParams(max_steps=2, rows_per_step=2, micro_batch_rows=2, cpu_threads=1, eval_rows=4)


@pytest.fixture(scope="module")
def qwen_tokenizer(tmp_path_factory) -> Path:
    """A byte-level BPE trained through the class AutoTokenizer will rebuild, with a chat template."""
    from transformers import Qwen2Tokenizer

    base = Qwen2Tokenizer()
    tok = base.train_new_from_iterator(TEXTS, vocab_size=400, new_special_tokens=SPECIAL)
    tok.chat_template, folder = TEMPLATE, tmp_path_factory.mktemp("tokenizer")
    tok.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(world, qwen_tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    init = ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=16)
    train(PARAMS, init, world.plan, world.stores, str(folder / "out"), str(folder / "state"), tokenizer=str(qwen_tokenizer))
    return folder / "out" / "model"


def test_it_loads_with_the_same_ids_and_generates(exported: Path, qwen_tokenizer: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tok, model = AutoTokenizer.from_pretrained(exported), AutoModelForCausalLM.from_pretrained(exported)
    raw = Tokenizer.from_file(str(qwen_tokenizer / "tokenizer.json"))
    for text in [*TEXTS[:3], PROBE]:
        assert tok.encode(text, add_special_tokens=False) == raw.encode(text, add_special_tokens=False).ids
    prompt = tok.apply_chat_template([{"role": "user", "content": "Hallo"}], return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]
    assert model.dtype == torch.bfloat16 and ModelFolder.open(str(exported)).has_chat_template


def test_generation_stops_at_the_end_of_a_turn(exported: Path) -> None:
    from tokenizers import Tokenizer

    config = json.loads((exported / "generation_config.json").read_text())
    assert Tokenizer.from_file(str(exported / "tokenizer.json")).token_to_id("<|im_end|>") in config["eos_token_id"]
    assert 0 in config["eos_token_id"] and config["pad_token_id"] is not None


def test_no_machine_path_is_written(exported: Path) -> None:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        text = (exported / name).read_text()
        assert str(exported.parent.parent) not in text and "/tmp" not in text and "_name_or_path" not in text, name


def test_training_goes_on_from_an_exported_model(world, exported: Path, tmp_path: Path) -> None:
    """Continual pre-training: weights, tokenizer, template and generation settings come from the parent."""
    from safetensors.torch import load_file

    params = PARAMS.model_copy(update={"learning_rate": 1e-12, "warmup_ratio": 0.0})
    summary = train(params, ModelInit(from_=str(exported)), world.plan, world.stores, str(tmp_path / "out"), str(tmp_path / "state"))
    before, after = (load_file(f / "model.safetensors") for f in (exported, tmp_path / "out/model"))
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert summary["n_parameters"] == sum(t.numel() for t in before.values())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json", "generation_config.json"):
        assert (exported / name).read_bytes() == (tmp_path / "out/model" / name).read_bytes(), name


def test_untied_and_tied_weights_are_written_once(world, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for tied in (True, False):
        init = ModelInit(model_type="llama", hidden_size=16, n_layers=1, n_heads=2, intermediate_size=16, tie_word_embeddings=tied)
        train(PARAMS, init, world.plan, world.stores, str(tmp_path / f"{tied}/out"), str(tmp_path / f"{tied}/state"))
        names = load_file(tmp_path / f"{tied}/out/model/model.safetensors").keys()
        assert ("lm_head.weight" in names) is not tied and "model.embed_tokens.weight" in names


def test_a_tokenizer_that_would_be_rebuilt_is_refused(exported: Path, tmp_path: Path) -> None:
    """The trap: a BPE with another pre-tokenizer in a folder whose model type is qwen2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    raw.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<|endoftext|>"]))
    shutil.copyfile(exported / "config.json", tmp_path / "config.json")
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="rebuilds this tokenizer with other ids"):
        check_tokenizer(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(world, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    init = ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=16)
    with pytest.raises(InputError, match="no tokenizer here"):
        train(PARAMS, init, world.plan, world.stores, str(tmp_path / "o"), str(tmp_path / "s"), tokenizer=str(tmp_path / "empty"))


def test_weights_are_the_trained_ones_in_the_chosen_type(world, tmp_path: Path) -> None:
    """float32 and bfloat16 exports of the same run agree up to bfloat16's rounding."""
    from safetensors.torch import load_file

    init = ModelInit(hidden_size=16, n_layers=1, n_heads=2, intermediate_size=16)
    for dtype in ("float32", "bfloat16"):
        params = PARAMS.model_copy(update={"save_dtype": dtype})
        train(params, init, world.plan, world.stores, str(tmp_path / dtype / "o"), str(tmp_path / dtype / "s"))
    wide, narrow = (load_file(tmp_path / d / "o/model/model.safetensors") for d in ("float32", "bfloat16"))
    assert all(torch.equal(wide[k].to(torch.bfloat16), narrow[k]) for k in wide)
    assert any(not np.array_equal(wide[k].numpy(), narrow[k].float().numpy()) for k in wide)
