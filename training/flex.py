"""Attention within documents by torch's flex_attention: a kernel compiled for the mask, whose memory grows with T, not with T x T.

    B rows, T positions, n blocks of 128 positions in a row

The kernel visits the blocks that a BlockMask names, and asks a function about the pairs of those that are not wholly seen. Pieces lie
in a row one after the other, so the blocks follow from the pieces at their edges: no mask of T x T is ever made. CUDA only: on a CPU
the kernel has no backward pass (torch 2.13).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward

from training.attention import FLEX

BLOCK = 128


def block_mask(piece_BT: Tensor, window: int | None = None) -> BlockMask:
    """As training.families.block_mask: backwards within one's own piece, at most ``window`` positions; padding is a piece of its own.

    Args:
        piece_BT: numbers that do not fall along a row, negative in the padding at its end.
    """
    T = piece_BT.shape[1]
    segment_BT = torch.where(piece_BT < 0, T, piece_BT).to(torch.int32)
    starts = torch.arange(0, T, BLOCK, device=piece_BT.device)
    ends = (starts + BLOCK).clamp(max=T)
    first_Bn, last_Bn = segment_BT[:, starts], segment_BT[:, ends - 1]
    q, k = starts[:, None], starts[None, :]
    # Nothing lies between the last position of an earlier block and the first of this one but that one piece, if they share it.
    seen = (k == q) | ((k < q) & (first_Bn[:, :, None] == last_Bn[:, None, :]))
    full = (k < q) & (last_Bn[:, :, None] == first_Bn[:, None, :]) & (q + BLOCK <= T)
    if window is not None:
        seen &= q - (k + BLOCK - 1) < window
        full &= q + BLOCK - 1 - k < window

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001
        own = (k <= q) & (segment_BT[b, q] == segment_BT[b, k])
        return own if window is None else own & (q - k < window)

    made: BlockMask = BlockMask.from_kv_blocks(
        *_listed(seen & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(T, T)
    )
    return made


def _listed(wanted_Bnn: Tensor) -> tuple[Tensor, Tensor]:
    """For each block of queries how many blocks of keys are wanted, and their numbers, the wanted ones first; int32 [B, 1, n (, n)]."""
    order = torch.argsort(wanted_Bnn.to(torch.int32), dim=-1, descending=True, stable=True)
    return wanted_Bnn.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: BlockMask, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """transformers' flex attention on queries and keys of the values' type.

    Under autocast the rotary embedding leaves queries and keys float32; not every version of torch casts them for this kernel.
    """
    dtype = value.dtype
    out: tuple[Tensor, Tensor | None] = flex_attention_forward(module, query.to(dtype), key.to(dtype), value, attention_mask, **options)
    return out


AttentionInterface.register(FLEX, attend)
