"""Merges against plain numpy, against the parents at t = 0 and t = 1, and against themselves run again elsewhere."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from merging.merge import merge
from merging.params import MergeParams
from store.errors import InputError

FAST = {"check_generation": False}


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake's formula with mergekit's two rules: linear above |cos| 0.9995, and norms of (near) zero count as 1."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    na, nb = np.linalg.norm(x), np.linalg.norm(y)
    cos = np.clip((x / (na if na > 1e-8 else 1)) @ (y / (nb if nb > 1e-8 else 1)), -1, 1)
    if abs(cos) > 0.9995:
        out = (1 - t) * x + t * y
    else:
        theta = math.acos(cos)
        out = (math.sin((1 - t) * theta) * x + math.sin(t * theta) * y) / math.sin(theta)
    return out.reshape(a.shape)


@pytest.mark.parametrize("t", [0.5, 0.2])
def test_slerp_is_the_formula(parents, tensors, tmp_path, t):
    merge(MergeParams(t=t, **FAST), *parents, str(tmp_path / "m"))
    first, second, found = (tensors(f) for f in (*parents, str(tmp_path / "m")))
    assert found.keys() == first.keys()
    for name in found:
        np.testing.assert_allclose(found[name].numpy(), slerp(first[name].numpy(), second[name].numpy(), t), rtol=2e-5, atol=2e-7)


def test_linear_mean_is_exact(parents, tensors, tmp_path):
    merge(MergeParams(method="linear", **FAST), *parents, str(tmp_path / "m"))
    first, second, found = (tensors(f) for f in (*parents, str(tmp_path / "m")))
    for name in found:
        assert np.array_equal(found[name].numpy(), (first[name].numpy() + second[name].numpy()) / 2), name


def test_linear_weights_are_relative_and_in_order(parents, tensors, tmp_path):
    merge(MergeParams(method="linear", weights=(3.0, 1.0), **FAST), *parents, str(tmp_path / "m"))
    first, second, found = (tensors(f) for f in (*parents, str(tmp_path / "m")))
    for name in found:
        np.testing.assert_allclose(found[name].numpy(), 0.75 * first[name].numpy() + 0.25 * second[name].numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("t", "which"), [(0.0, 0), (1.0, 1)])
def test_ends_are_the_parents(make_model, tensors, tmp_path, dtype, t, which):
    instruct = make_model(1, dtype=dtype)
    both = instruct, make_model(2, parent=instruct, noise=0.3, dtype=dtype)
    merge(MergeParams(t=t, **FAST), *both, str(tmp_path / "m"))
    parent, found = tensors(both[which]), tensors(str(tmp_path / "m"))
    for name in found:
        assert found[name].dtype == parent[name].dtype
        assert bool((found[name] == parent[name]).all()), name


def test_gradients_and_filters_reach_their_tensors(parents, tensors, tmp_path):
    merge(MergeParams(t=0.5, self_attn=[0.0, 1.0], mlp=0.0, **FAST), *parents, str(tmp_path / "m"))
    first, second, found = (tensors(f) for f in (*parents, str(tmp_path / "m")))
    for name in found:
        wanted = 0.0 if "mlp" in name else 0.5
        if "self_attn" in name:
            wanted = 0.0 if ".layers.0." in name else 1.0
        np.testing.assert_allclose(found[name].numpy(), slerp(first[name].numpy(), second[name].numpy(), wanted), rtol=2e-5, atol=2e-7)


def test_the_summary_says_what_slerp_really_did(make_model, tensors, tmp_path):
    """All tensors within 1 % of the parent but one, which is turned by a right angle."""
    import torch
    from safetensors.torch import save_file

    instruct = make_model(1)
    trained = make_model(2, parent=instruct, noise=0.01)
    weights = tensors(trained)
    name = "model.layers.1.mlp.up_proj.weight"
    a = tensors(instruct)[name]
    turned = torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    weights[name] = turned - (turned * a).sum() / (a * a).sum() * a
    save_file(weights, str(Path(trained) / "model.safetensors"), metadata={"format": "pt"})
    summary = merge(MergeParams(**FAST), instruct, trained, str(tmp_path / "m"))
    n_zero = sum(1 for v in tensors(instruct).values() if float(v.norm()) == 0.0)
    assert n_zero > 0  # fresh Qwen2 biases: mergekit puts them at a right angle, and they are counted apart
    assert summary["n_zero"] == n_zero
    assert summary["n_slerped"] == 1
    assert summary["n_linear"] == len(weights) - 1 - n_zero
    assert summary["max_angle_tensor"] == name
    assert summary["max_angle"] == pytest.approx(math.pi / 2, abs=1e-5)
    assert summary["median_angle"] == pytest.approx(0.01, rel=0.1)
    assert summary["relative_distance_by_part"]["embedding"] == pytest.approx(0.01, rel=0.1)
    assert summary["relative_distance_by_layer"][0] == pytest.approx(0.01, rel=0.3)
    assert summary["relative_distance_by_layer"][1] > 0.1


def test_the_merged_model_is_the_instruct_parents_conversation(parents, tmp_path):
    from transformers import PreTrainedTokenizerFast

    out = tmp_path / "m"
    merge(MergeParams(), *parents, str(out))  # check_generation: loads and generates
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json"):
        assert (out / name).read_bytes() == (Path(parents[0]) / name).read_bytes()
    text = PreTrainedTokenizerFast.from_pretrained(str(out)).apply_chat_template([{"role": "user", "content": "Hallo"}], tokenize=False)
    assert text == "<|im_start|>user\nHallo<|im_end|>\n"


def test_same_bytes_from_other_paths_hash_seeds_and_in_many_shards(parents, tmp_path):
    """Folder names with + and @ mean something to mergekit; a hash seed and paths must mean nothing to the result."""
    moved = tmp_path / "other+place@v1"
    for name, folder in zip("ab", parents, strict=True):
        shutil.copytree(folder, moved / name)
    outs = [tmp_path / "m1", tmp_path / "m2"]
    params = MergeParams(shard_size_bytes=20_000, dtype="bfloat16", **FAST)
    merge(params, *parents, str(outs[0]))
    code = (
        "import sys; from merging.merge import merge; from merging.params import MergeParams\n"
        f"merge(MergeParams.model_validate_json({params.model_dump_json()!r}), *sys.argv[1:])"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(moved / "a"), str(moved / "b"), str(outs[1])],
        check=True, cwd=root, env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)},
    )  # fmt: skip
    files = [{p.relative_to(o): p.read_bytes() for p in sorted(o.rglob("*")) if p.is_file()} for o in outs]
    assert files[0] == files[1]
    assert sum(p.suffix == ".safetensors" for p in files[0]) > 3
    assert json.loads((outs[0] / "config.json").read_bytes())["dtype"] == "bfloat16"
    for name, data in files[0].items():
        for path in (tmp_path, *parents):
            assert str(path).encode() not in data, name


def test_same_bytes_for_any_number_of_threads(make_model, tmp_path):
    """Tensors large enough that torch cuts its sums by threads."""
    import torch

    wide = {"hidden_size": 256, "intermediate_size": 512}
    instruct = make_model(1, **wide)
    both = instruct, make_model(2, parent=instruct, noise=0.3, **wide)
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            merge(MergeParams(t=0.3, **FAST), *both, str(tmp_path / str(n)))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "1" / "model.safetensors").read_bytes() == (tmp_path / "3" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("arch", ["qwen2", "llama"])
def test_tied_embeddings_stay_tied(make_model, tensors, tmp_path, arch):
    from transformers import AutoModelForCausalLM

    instruct = make_model(1, arch=arch, tie_word_embeddings=True)
    out = str(tmp_path / "m")
    merge(MergeParams(), instruct, make_model(2, parent=instruct, noise=0.3, arch=arch, tie_word_embeddings=True), out)
    assert "lm_head.weight" not in tensors(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_a_large_model_is_cut_and_loads_again(parents, tensors, tmp_path):
    from transformers import AutoModelForCausalLM

    out = str(tmp_path / "m")
    merge(MergeParams(t=0.0, shard_size_bytes=20_000, **FAST), *parents, out)
    loaded = AutoModelForCausalLM.from_pretrained(out).state_dict()
    for name, wanted in tensors(parents[0]).items():
        assert bool((loaded[name] == wanted).all())


def test_a_second_run_replaces_the_first(parents, tmp_path):
    out = tmp_path / "m"
    merge(MergeParams(**FAST), *parents, str(out))
    first = (out / "model.safetensors").read_bytes()
    merge(MergeParams(t=0.1, **FAST), *parents, str(out))
    assert (out / "model.safetensors").read_bytes() != first
    merge(MergeParams(**FAST), *parents, str(out))
    assert (out / "model.safetensors").read_bytes() == first
    merge(MergeParams(shard_size_bytes=20_000, **FAST), *parents, str(out))
    assert not (out / "model.safetensors").exists()  # a stale single file would be loaded instead of the shards


def test_a_parent_is_never_overwritten(parents, tmp_path):
    (tmp_path / "link").symlink_to(parents[1])
    before = (Path(parents[1]) / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="overwrite its parent"):
        merge(MergeParams(**FAST), *parents, str(tmp_path / "link"))
    assert (Path(parents[1]) / "model.safetensors").read_bytes() == before


def test_nan_in_a_parent_is_named(make_model, tensors, parents, tmp_path):
    from safetensors.torch import save_file

    broken = make_model(2)
    weights = tensors(broken)
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, str(Path(broken) / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model\.norm\.weight holds NaN"):
        merge(MergeParams(**FAST), parents[0], broken, str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()
