"""AdamW and its schedule. The learning rate is a pure function of the step, so nothing about it is saved."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.params import TrainParams


def learning_rate(params: TrainParams, step: int, n_steps: int) -> float:
    """Rate of step 0..n_steps-1: linear warm-up to the peak, then half a cosine to min_lr_ratio of it at the last step."""
    n_warm = round(params.warmup_ratio * n_steps)
    if step < n_warm:
        return params.learning_rate * (step + 1) / (n_warm + 1)
    done = (step - n_warm) / max(1, n_steps - 1 - n_warm)
    return params.learning_rate * (params.min_lr_ratio + (1 - params.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done)))


def build_optimizer(params: TrainParams, model: nn.Module) -> torch.optim.AdamW:
    """AdamW with decay on matrices only (embeddings, norms and biases have none, as in OLMo 2), its moments allocated at once.

    The moments exist from the start so that a checkpoint can be read in place into a new optimizer.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in embeddings]
    plain = [p for p in parameters if p.ndim < 2 or id(p) in embeddings]
    groups = [{"params": decayed, "weight_decay": params.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=params.learning_rate, betas=params.betas, eps=params.eps, fused=True)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer
