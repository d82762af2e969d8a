"""What ``definemed plan`` says of trainings: from configs it can read, and what it says where it cannot."""

import json
import sys

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.commands.plan_training import Hardware, estimate, lines, shape_of
from cluster.pipeline import plan_run
from cluster.recipe import load_recipe
from store.errors import InputError, RecipeError
from store.fs import Folder
from training.mfu import find_gpu

QWEN_7B = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
           "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False}  # fmt: skip


@pytest.fixture
def qwen(tmp_path):
    folder = tmp_path / "qwen"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN_7B))
    return str(folder)


def planned(tmp_path, name, *overrides):
    return plan_run(load_recipe(name, overrides), Folder(str(tmp_path / "out")))


def test_a_model_whose_config_can_be_read(tmp_path, qwen):
    plan = planned(tmp_path, "definemed-qwen2.5-7b", f"models.instruct.source={qwen}")
    found = estimate(plan, "continued", Hardware(n_tokens=5.1e9, price=2.0))
    assert found.shape.n_parameters == 7_615_616_512 and found.cost.device_hours == pytest.approx(170, rel=0.01)
    assert found.memory.weights == 4 * 7_615_616_512 // 8
    assert estimate(plan, "continued", Hardware(n_devices=16, n_tokens=5.1e9)).cost.hours == pytest.approx(found.cost.hours / 2)
    assert shape_of(plan, "merged") == found.shape
    assert estimate(plan, "continued", Hardware()).tokens is None
    shown = "\n".join(lines(found, find_gpu("L4"), 8))
    assert "too much" in shown and "5,100,000,000 tokens" in shown and "339" in shown


def test_steps_given_are_tokens_known(tmp_path, qwen):
    plan = planned(tmp_path, "definemed-qwen2.5-7b", f"models.instruct.source={qwen}", "models.continued.train.max_steps=100")
    assert estimate(plan, "continued", Hardware()).tokens == 100 * 384 * 4096


def test_random_weights_and_what_a_cpu_recipe_shows(tmp_path):
    plan = planned(tmp_path, "demo")
    found = estimate(plan, "continued", Hardware())
    assert found.cost is None and found.shape == shape_of(plan, "base") and found.shape.n_parameters > 1e6
    assert estimate(plan, "continued", Hardware(gpu="a100")).cost is not None


def test_what_cannot_be_seen_is_said(tmp_path, qwen):
    plan = planned(tmp_path, "definemed-qwen2.5-7b", f"models.instruct.source={tmp_path}/nothing/here/at/all")
    with pytest.raises(InputError):
        shape_of(plan, "continued")
    with pytest.raises(InputError, match=r"config\.json is not on this machine"):
        shape_of(planned(tmp_path, "definemed-qwen2.5-7b", "models.instruct.source=nobody/nothing-of-this-name"), "continued")
    with pytest.raises(RecipeError, match="no figures for the device"):
        Hardware(gpu="abacus").kind(True)
    with open(f"{qwen}/config.json", "w") as file:
        file.write("{")
    with pytest.raises(InputError, match="not JSON"):
        shape_of(planned(tmp_path, "definemed-qwen2.5-7b", f"models.instruct.source={qwen}"), "continued")


def test_the_command_shows_it(tmp_path, qwen):
    arguments = ["plan", "definemed-qwen2.5-7b", "--out", str(tmp_path / "out"), "--set", f"models.instruct.source={qwen}"]
    shown = CliRunner().invoke(app, [*arguments, "--gpu", "h200", "--gpus", "16", "--tokens", "1e9"]).output
    assert "on 16 x H200 at 40% of the peak" in shown and "1,000,000,000 tokens" in shown and "7,615,616,512 parameters" in shown


def test_the_estimate_needs_no_torch():
    import subprocess

    code = "import sys, cluster.commands.plan_training; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
