"""Which attention runs where, and the block mask of flex_attention against torch's own maker of block masks and against SDPA."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AutoConfig

from store.errors import DefinemedError, InputError, ResourceError
from training import families, flex
from training.attention import FLASH, FLEX, SDPA, attention_on, choose
from training.families import check_fits
from training.params import Attention

FIELDS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices",
          "q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")  # fmt: skip


def pieces(lengths: list[list[int]], T: int) -> Tensor:
    """[B, T] numbers of pieces; what the lengths leave of a row is padding."""
    out = torch.full((len(lengths), T), -1)
    for row, mine in zip(out, lengths, strict=True):
        numbers = np.repeat(np.arange(len(mine)), mine)[:T]
        row[: len(numbers)] = torch.from_numpy(numbers)
    return out


@given(
    T=st.sampled_from([1, 40, 127, 128, 129, 300, 512]),
    lengths=st.lists(st.lists(st.sampled_from([1, 5, 127, 128, 129, 260]), max_size=8), min_size=1, max_size=3),
    window=st.sampled_from([None, 1, 100, 127, 128, 129, 130, 255, 256, 257]),
)
@settings(max_examples=60, deadline=None)
def test_the_block_mask_is_the_one_torch_finds_in_the_whole_mask(T: int, lengths: list[list[int]], window: int | None) -> None:
    piece = pieces(lengths, T)
    dense = families.block_mask(piece, window)[:, 0]
    found = flex.block_mask(piece, window)
    own = create_block_mask(lambda b, h, q, k: dense[b, q, k], B=len(piece), H=None, Q_LEN=T, KV_LEN=T, device="cpu")  # noqa: ARG005
    assert found.shape == own.shape and found.BLOCK_SIZE == own.BLOCK_SIZE
    for name in FIELDS:
        assert torch.equal(getattr(found, name), getattr(own, name)), name
    b, q, k = torch.meshgrid(*(torch.arange(n) for n in (len(piece), T, T)), indexing="ij")
    assert torch.equal(found.mask_mod(b, torch.zeros_like(b), q, k), dense)


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 150])
def test_the_compiled_kernel_gives_what_sdpa_gives(window: int | None) -> None:
    """Unlike the reference implementation it visits no block that the mask does not name. Grouped queries; an incomplete last block."""
    torch.manual_seed(0)
    T, piece = 700, pieces([[3, 130, 300, 100], [700]], 700)
    q, k, v = (torch.randn(2, n, T, 32) for n in (4, 2, 2))
    with torch.no_grad():
        found, _ = flex.attend(nn.Module().eval(), q, k, v, flex.block_mask(piece, window), scaling=32**-0.5)
    mask = families.block_mask(piece, window)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_queries_and_keys_take_the_type_of_the_values() -> None:
    """Values come out of a product, bfloat16 under autocast; queries and keys out of the rotary embedding, float32."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 40, 16) for _ in range(3))
    mask, half = flex.block_mask(pieces([[7, 19]], 40)), torch.bfloat16
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        found, _ = flex.attend(nn.Module().eval(), q, k, v.to(half), mask)
        expected, _ = flex.attend(nn.Module().eval(), q.to(half), k.to(half), v.to(half), mask)
    assert found.dtype == half and torch.equal(found, expected)


def test_the_device_chooses_unless_the_recipe_does() -> None:
    """None where it cannot train."""
    expected = {
        ("auto", "bf16"): (SDPA, FLEX, FLASH), ("auto", "fp32"): (SDPA, FLEX, FLEX),
        ("sdpa", "bf16"): (SDPA, SDPA, SDPA), ("sdpa", "fp32"): (SDPA, SDPA, SDPA),
        ("flex_attention", "bf16"): (None, FLEX, FLEX), ("flex_attention", "fp32"): (None, FLEX, FLEX),
        ("flash_attention_2", "bf16"): (None, None, FLASH), ("flash_attention_2", "fp32"): (None, None, None),
    }  # fmt: skip
    assert {wanted for wanted, _ in expected} == set(get_args(Attention))
    for (wanted, precision), found in expected.items():
        for kind, here in zip(({"cuda": False, "flash": False}, {"cuda": True, "flash": False}, {"cuda": True, "flash": True}), found,
                              strict=True):  # fmt: skip
            if here is not None:
                assert choose(wanted, precision, **kind) == here
            else:
                with pytest.raises(DefinemedError, match=r"train\.attn_implementation"):
                    choose(wanted, precision, **kind)


def test_a_cpu_refuses_what_cannot_train_on_it() -> None:
    assert attention_on(torch.device("cpu"), "auto", "bf16") == SDPA
    with pytest.raises(ResourceError, match="flex_attention has no backward pass on a CPU"):
        attention_on(torch.device("cpu"), "flex_attention", "fp32")
    with pytest.raises(ResourceError, match="flash_attention_2 cannot run here"):
        attention_on(torch.device("cpu"), "flash_attention_2", "bf16")
    q = torch.randn(1, 2, 8, 16, requires_grad=True)
    with pytest.raises(NotImplementedError, match="backward on CPU"):  # torch says so still: the day it does not, so need we not
        flex.attend(nn.Module(), q, q, q, flex.block_mask(pieces([[8]], 8)))


def test_models_that_flex_attention_would_not_compute_rightly_are_refused() -> None:
    small = AutoConfig.for_model("llama", hidden_size=64, num_attention_heads=8)
    with pytest.raises(InputError, match="heads have 8 dimensions"):
        check_fits(small, seq_len=64, attention=FLEX, where="here")
    dropping = AutoConfig.for_model("llama", hidden_size=64, num_attention_heads=4, attention_dropout=0.1)
    with pytest.raises(InputError, match=r"attention_dropout 0\.1"):
        check_fits(dropping, seq_len=64, attention=FLEX, where="here")
    for config in (small, dropping):
        check_fits(config, seq_len=64, attention=SDPA, where="here")
