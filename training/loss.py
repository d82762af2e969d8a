"""Cross-entropy of a linear head without keeping the logits.

    N positions, D hidden size, V vocabulary

The logits of a chunk of positions are made, turned into probabilities in place and consumed for both gradients at once, so that at
most ``CHUNK_LOGITS`` of them exist, or those of ``LEAST_ROWS`` positions: with fewer, matrix products are slow and the gradient of
the head is read and written too often (chunks of 64 positions took 2.4 times the CPU time of whole logits, 256 and more take no
more than those). At 152 k tokens this is the difference between 2.5 GB and 0.2 GB per 4096 positions. The idea is that of Liger
Kernel's fused linear cross-entropy (Hsu et al., 2024). The softmax is computed in float32 whatever the precision of the matrix
products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.rows import IGNORE

CHUNK_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}
LEAST_ROWS = 256


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, dtype: torch.dtype, cap: float | None) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            h_ND, w_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
            grad_h_ND = torch.empty_like(h_ND)
            grad_w_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if ctx.needs_input_grad[1] else None  # None: a frozen head
            loss = torch.zeros((), dtype=torch.float32, device=h_ND.device)
            for part in _chunks(h_ND, w_VD):
                nats_N, p_NV = _softmax(h_ND[part] @ w_VD.t(), labels_N[part], cap, keep=True)
                loss += nats_N.sum()
                p_NV = p_NV.to(dtype)
                torch.mm(p_NV, w_VD, out=grad_h_ND[part])
                if grad_w_VD is not None:
                    _accumulate(grad_w_VD, p_NV.t(), h_ND[part])
        ctx.save_for_backward(grad_h_ND.to(hidden_ND.dtype), None if grad_w_VD is None else grad_w_VD.to(weight_VD.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        grad_h_ND, grad_w_VD = ctx.saved_tensors
        return grad_h_ND * grads[0], None if grad_w_VD is None else grad_w_VD * grads[0], None, None, None


def linear_cross_entropy(
    hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, dtype: torch.dtype, cap: float | None = None
) -> Tensor:
    """Sum over positions with a label of -ln p(label), float32 scalar; matrix products in ``dtype``; logits x as cap tanh(x / cap)."""
    loss: Tensor = _LinearCrossEntropy.apply(hidden_ND, weight_VD, labels_N, dtype, cap)
    return loss


@torch.no_grad()
def linear_nats(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, dtype: torch.dtype, cap: float | None = None) -> Tensor:
    """-ln p(label) of each position, 0 where there is no label, float32 [N]."""
    h_ND, w_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return torch.cat([_softmax(h_ND[part] @ w_VD.t(), labels_N[part], cap, keep=False)[0] for part in _chunks(h_ND, w_VD)])


def nats_of_logits(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """-ln p(label) from logits, for heads that are more than a matrix; float32 [N], differentiable."""
    return torch.nn.functional.cross_entropy(logits_NV.float(), labels_N, ignore_index=IGNORE, reduction="none")


def _softmax(logits_NV: Tensor, labels_N: Tensor, cap: float | None, *, keep: bool) -> tuple[Tensor, Tensor]:
    """(nats [N], derivative by the logits [N, V]: p - onehot(label), zero where there is no label); the second only if ``keep``.

    Soft-capped logits y = cap tanh(x / cap) give the derivative by x the further factor 1 - (y / cap)^2 (Gemma 2, arXiv 2408.00118).
    """
    x_NV, slope_NV = logits_NV.float(), None
    if cap is not None:
        x_NV = x_NV.div(cap).tanh_()
        slope_NV = x_NV.square().neg_().add_(1) if keep else None
        x_NV *= cap
    x_NV -= x_NV.amax(dim=1, keepdim=True)
    valid_N, at_N1 = labels_N != IGNORE, labels_N.clamp(min=0)[:, None]
    target_N = x_NV.gather(1, at_N1)[:, 0]
    total_N = x_NV.exp_().sum(dim=1)
    nats_N = torch.where(valid_N, total_N.log() - target_N, 0.0)
    if keep:
        x_NV *= (valid_N / total_N)[:, None]
        x_NV.scatter_add_(1, at_N1, -valid_N.float()[:, None])
        if slope_NV is not None:
            x_NV *= slope_NV
    return nats_N, x_NV


def _accumulate(sum_VD: Tensor, p_VN: Tensor, h_ND: Tensor) -> None:
    """Add a product to a float32 sum; in float32 without a matrix in between."""
    if p_VN.dtype == torch.float32:
        sum_VD.addmm_(p_VN, h_ND)
    else:
        sum_VD += p_VN @ h_ND


def _chunks(h_ND: Tensor, w_VD: Tensor) -> list[slice]:
    budget = CHUNK_LOGITS.get(h_ND.device.type, 1 << 24)
    size = max(LEAST_ROWS, budget // w_VD.shape[0])
    return [slice(a, min(a + size, len(h_ND))) for a in range(0, len(h_ND), size)]
