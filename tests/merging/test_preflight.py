"""Each way in which two models may not fit together is found before anything is merged, and its message says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from merging.params import MergeParams
from merging.preflight import preflight
from store.errors import InputError
from store.models import ModelFolder


def check(instruct: str, trained: str, **params: object):
    return preflight(MergeParams(**params), ModelFolder.open(instruct), ModelFolder.open(trained))


def edited(folder: str, where: Path, name: str, **changes: object) -> str:
    target = where / "edited"
    shutil.copytree(folder, target)
    body = json.loads((target / name).read_text()) | changes
    (target / name).write_text(json.dumps(body))
    return str(target)


def test_parents_that_fit(parents):
    found = check(*parents)
    assert found.dtype == "float32"
    assert found.notes == ()
    from transformers import AutoModelForCausalLM

    assert found.n_parameters == AutoModelForCausalLM.from_pretrained(parents[0]).num_parameters()


def test_other_end_token_is_a_note_not_an_error(parents, tmp_path):
    found = check(parents[0], edited(parents[1], tmp_path, "config.json", eos_token_id=0))
    assert found.notes == ("eos_token_id: 0 in the trained model, 2 kept from the instruct parent",)


def test_old_and_new_spelling_of_rotary_settings_agree(parents, tmp_path):
    old = json.loads((Path(parents[1]) / "config.json").read_text())
    theta = old["rope_parameters"]["rope_theta"]
    check(parents[0], edited(parents[1], tmp_path, "config.json", rope_parameters=None, rope_theta=theta, rope_scaling=None))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_key_value_heads": 4}, r"differ in num_key_value_heads: 4 here, 2 in the instruct parent"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, r"position encodings differ"),
        ({"architectures": ["LlamaForCausalLM"]}, r"differ in architectures"),
        ({"tie_word_embeddings": True}, r"differ in tie_word_embeddings"),
    ],
)
def test_settings_that_shapes_do_not_show(parents, tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        check(parents[0], edited(parents[1], tmp_path, "config.json", **config))


def test_missing_tensors_are_named(make_model, parents, tmp_path):
    fewer = make_model(3, arch="llama")  # no biases in its attention
    fewer = edited(fewer, tmp_path, "config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    with pytest.raises(InputError, match=r"6 are missing here \(model\.layers\.0\.self_attn\.k_proj\.bias, .*\.\.\.\)"):
        check(parents[0], fewer)


def test_other_vocabulary_size(make_model, parents):
    with pytest.raises(InputError, match=r"lm_head\.weight \[330, 32\] here.*do not resize its embeddings"):
        check(parents[0], make_model(3, vocab_size=330))


def test_same_size_but_other_tokens(make_model, parents):
    with pytest.raises(InputError, match=r"tokens have other ids .*'<\|extra\|>' 3 here, absent there.*add no tokens"):
        check(parents[0], make_model(3, extra=("<|extra|>",)))


def test_tokenizer_larger_than_the_embeddings(make_model):
    small = make_model(3, vocab_size=200)
    with pytest.raises(InputError, match=r"knows token \d+, but the model has only 200 embeddings"):
        check(small, small)


def test_other_number_format_needs_a_choice(make_model, parents):
    half = make_model(2, parent=parents[0], noise=0.1, dtype="bfloat16")
    with pytest.raises(InputError, match=r"bfloat16 here, float32 there.*merge\.dtype: float32"):
        check(parents[0], half)
    assert check(parents[0], half, dtype="bfloat16").dtype == "bfloat16"


def test_the_instruct_parent_needs_a_chat_template(make_model, parents):
    base = make_model(1, template=False)
    with pytest.raises(InputError, match=r"no chat template"):
        check(base, parents[1])
    check(parents[0], make_model(1, template=False))  # the trained model may have lost its own


def test_cut_short_or_missing_weights(parents, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(parents[1], short)
    data = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"cut short.*copy the model again|cut short"):
        check(parents[0], str(short))
    (short / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(InputError, match=r"not a safetensors file"):
        check(parents[0], str(short))
    (short / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(InputError, match=r"model-00001-of-00002\.safetensors: a weight file .* is missing"):
        check(parents[0], str(short))
    with pytest.raises(InputError, match=r"not a model folder"):
        check(str(tmp_path), parents[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "linear", "t": 0.3},
        {"method": "linear", "weights": (0.0, 0.0)},
        {"weights": (0.3, 0.7)},
        {"t": 1.2},
        {"t": [0.5]},
        {"method": "ties"},
        {"t": float("nan")},
    ],
)
def test_parameters_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        MergeParams(**wrong)


def test_resolved_parameters_read_back():
    params = MergeParams(method="linear", weights=(0.2, 0.8))
    assert MergeParams.model_validate_json(params.model_dump_json()) == params
