"""AdamW. One kernel updates all parameters (``fused``), on CUDA and CPU, sharded or not. It rounds differently from torch's other
implementations and differently on each kind of device, as matrix products do; which one is used is therefore not a choice.
"""

from __future__ import annotations

import torch
from torch import nn

from training.params import TrainParams


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
