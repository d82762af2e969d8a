"""Parameters and FLOPs from a config alone, against transformers' modules and torch's own counter of FLOPs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from store.errors import InputError
from training.mfu import GPUS, attended_pairs, attention_flops, dense_flops_per_token, find_gpu, mfu, model_flops
from training.model import PackedLM
from training.shape import ModelShape

# As in the config.json of each model on the hub; keys that are absent there are absent here.
QWEN_7B = {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
           "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False, "use_sliding_window": False,
           "sliding_window": 131072, "max_window_layers": 28}  # fmt: skip
MISTRAL_7B = {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
              "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 32768, "sliding_window": None}  # fmt: skip
MISTRAL_24B = {"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768, "num_attention_heads": 32, "head_dim": 128,
               "num_hidden_layers": 40, "num_key_value_heads": 8, "vocab_size": 131072, "sliding_window": None}  # fmt: skip
QWEN3 = {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16, "num_hidden_layers": 28,
         "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
LLAMA = {"model_type": "llama", "hidden_size": 256, "intermediate_size": 700, "num_attention_heads": 8, "num_hidden_layers": 3,
         "vocab_size": 1000, "attention_bias": True, "mlp_bias": True}  # fmt: skip
GEMMA = {"model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_attention_heads": 4, "num_hidden_layers": 18,
         "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144, "sliding_window": 512}  # fmt: skip
CONFIGS = {"qwen2": QWEN_7B, "mistral": MISTRAL_7B, "mistral-24b": MISTRAL_24B, "qwen3": QWEN3, "llama": LLAMA, "gemma3": GEMMA,
           "gemma3-defaults": {"model_type": "gemma3_text"}, "qwen3-untied-bias": {**QWEN3, "tie_word_embeddings": False,
                                                                                   "attention_bias": True}}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_transformers(name):
    shape = ModelShape.from_config(CONFIGS[name])
    config = AutoConfig.for_model(**CONFIGS[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.n_parameters == sum(p.numel() for p in model.parameters())
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert shape.matmul_parameters == matrices
    assert ModelShape.from_config(config.to_dict()) == shape


def test_parameters_are_those_of_the_published_models():
    counts = [ModelShape.from_config(c).n_parameters for c in (QWEN_7B, MISTRAL_7B, MISTRAL_24B)]
    assert counts == [7_615_616_512, 7_248_023_552, 23_572_403_200]


def test_windows_are_those_of_the_layers():
    assert set(ModelShape.from_config(QWEN_7B).windows) == {None}
    assert ModelShape.from_config({**MISTRAL_7B, "sliding_window": 4096}).windows == (4096,) * 32
    gemma = ModelShape.from_config(GEMMA).windows
    assert gemma[5] is None and gemma.count(None) == 3 and gemma.count(512) == 15
    qwen = ModelShape.from_config({**QWEN_7B, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 20}).windows
    types = AutoConfig.for_model(**{**QWEN_7B, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 20}).layer_types
    assert [w is not None for w in qwen] == [t == "sliding_attention" for t in types]


def test_the_text_part_of_a_vision_config_is_read():
    assert ModelShape.from_config({"model_type": "gemma3", "text_config": GEMMA}) == ModelShape.from_config(GEMMA)


@pytest.mark.parametrize("config", [{"model_type": "mamba"}, {}, {"model_type": "llama", "hidden_size": 8}])
def test_what_is_not_known_is_said(config):
    with pytest.raises(InputError):
        ModelShape.from_config(config)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.one_of(st.none(), st.integers(1, 50)))
def test_pairs_are_those_of_the_mask(lengths, window):
    def pairs(n):
        back = np.arange(n)[:, None] - np.arange(n)[None, :]
        return int(((back >= 0) & (back < (window or n))).sum())

    assert attended_pairs(np.array(lengths), window) == sum(pairs(n) for n in lengths)


def test_flops_of_matrix_products_are_those_torch_counts():
    config = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
              "vocab_size": 300, "model_type": "qwen2"}  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="sdpa")
    packed, lengths = PackedLM(model, torch.float32), np.array([40, 24])
    ids = torch.randint(0, 300, (1, 64))
    piece = torch.tensor([[0] * 40 + [1] * 24])
    position = torch.cat([torch.arange(40), torch.arange(24)])[None]
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}  # not counted by itself
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        packed(ids, position, piece, ids).backward()
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    shape = ModelShape.from_config(config)
    assert sum(n for op, n in counted.items() if "mm" in op) == model_flops(shape, lengths) - attention_flops(shape, lengths)
    # PaLM's attention term is what all pairs cost, masked or not: what a kernel without block skipping computes.
    assert dense_flops_per_token(shape, 64) * 64 - 6 * shape.matmul_parameters * 64 == 12 * 3 * 64 * 64 * 64
    assert attention_flops(shape, lengths) == 12 * 3 * 64 * (40 * 41 / 2 + 24 * 25 / 2)


def test_the_anchor_of_qwen_and_a_share_of_the_peak():
    shape, gpu = ModelShape.from_config(QWEN_7B), find_gpu("NVIDIA H100 80GB HBM3")
    per_token = dense_flops_per_token(shape, 4096)
    assert per_token == pytest.approx(47.4e9, rel=0.002)
    assert mfu(per_token * 8350, 1.0, gpu.peak_flops) == pytest.approx(0.40, abs=0.001)


@pytest.mark.parametrize(("said", "found"), [
    ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H100 PCIe", "H100 PCIe"), ("NVIDIA H100 NVL", "H100 NVL"), ("NVIDIA H200", "H200"),
    ("NVIDIA A100-SXM4-40GB", "A100 40GB"), ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA L4", "L4"), ("NVIDIA L40S", "L40S"),
    ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("NVIDIA GH200 480GB", "GH200"), ("NVIDIA B200", "B200"), ("h100", "H100"),
])  # fmt: skip
def test_devices_are_known_by_the_name_their_driver_gives(said, found):
    assert find_gpu(said).name == found


def test_devices_that_are_not_known_are_none_and_known_ones_find_themselves():
    assert find_gpu("Tesla T4") is None and find_gpu("L400") is None
    assert all(find_gpu(gpu.name) is gpu for _, gpu in GPUS)
