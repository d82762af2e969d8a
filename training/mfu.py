"""Model FLOPs utilisation: the arithmetic a model needs for the tokens it saw, over what the device could have done in that time.

Per token 6 FLOPs for every weight of a matrix product (2 forward, 4 backward), the head included, the embedding not, since it is looked
up. Attention adds 12 x heads x head size for every pair of positions that may see each other, in every layer: with documents kept
apart and a causal mask, a document of l tokens has l (l + 1) / 2 pairs (fewer where a layer has a window). This is the formula of PaLM
(Chowdhery et al. 2022, appendix B: 6N + 12 L H Q T a token) with the pairs that exist in place of all T x T, which a trainer that skips
what is masked does not compute; ``dense`` gives PaLM's own count, for comparison with published figures. Recomputed activations,
padding, norms and the optimizer count as nothing done.

Peaks are those of dense bfloat16 products with float32 sums, from the makers' data sheets (half of what is printed "with sparsity").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.shape import ModelShape

I64 = npt.NDArray[np.int64]
TERA, GIB = 1e12, 2**30


@dataclass(frozen=True)
class Gpu:
    """A kind of accelerator: dense bfloat16 peak in FLOP/s, memory in bytes, board power in watts, and where that is written."""

    name: str
    peak_flops: float
    memory_bytes: float
    watts: float
    source: str


def _gpu(name: str, tflops: float, memory_gb: float, watts: float, source: str) -> Gpu:
    return Gpu(name, tflops * TERA, memory_gb * 1e9, watts, source)


# Patterns over the name that the driver gives, lower case; the first that matches counts.
GPUS: tuple[tuple[str, Gpu], ...] = (
    (r"b200", _gpu("B200", 2250, 180, 1000, "NVIDIA Blackwell architecture technical brief (HGX B200)")),
    (r"gh200", _gpu("GH200", 989.4, 96, 700, "NVIDIA GH200 data sheet")),
    (r"h200 nvl", _gpu("H200 NVL", 835.5, 141, 600, "NVIDIA H200 data sheet")),
    (r"h200", _gpu("H200", 989.4, 141, 700, "NVIDIA H200 data sheet")),
    (r"h100 nvl", _gpu("H100 NVL", 835.5, 94, 400, "NVIDIA H100 data sheet")),
    (r"h100 pcie", _gpu("H100 PCIe", 756.4, 80, 350, "NVIDIA H100 data sheet")),
    (r"h100", _gpu("H100", 989.4, 80, 700, "NVIDIA H100 data sheet (SXM5)")),
    (r"a100.*40gb", _gpu("A100 40GB", 312, 40, 400, "NVIDIA A100 data sheet")),
    (r"a100", _gpu("A100", 312, 80, 400, "NVIDIA A100 data sheet (SXM4 80 GB)")),
    (r"l40s", _gpu("L40S", 362, 48, 350, "NVIDIA L40S data sheet")),
    (r"\bl4\b", _gpu("L4", 121, 24, 72, "NVIDIA L4 data sheet")),
    (r"\ba10\b", _gpu("A10", 125, 24, 150, "NVIDIA A10 data sheet")),
    (r"rtx 6000 ada", _gpu("RTX 6000 Ada", 364.2, 48, 300, "NVIDIA Ada architecture whitepaper, appendix")),
    (r"rtx 4090", _gpu("RTX 4090", 165.2, 24, 450, "NVIDIA Ada architecture whitepaper, appendix")),
    (r"rtx 3090", _gpu("RTX 3090", 71, 24, 350, "NVIDIA GA102 whitepaper, appendix")),
    (r"mi300x", _gpu("MI300X", 1307.4, 192, 750, "AMD Instinct MI300X data sheet")),
    # A device is one of the card's two dies.
    (r"mi250x", _gpu("MI250X", 191.5, 64, 280, "AMD Instinct MI250X data sheet, one of two dies")),
)


def find_gpu(name: str) -> Gpu | None:
    """The kind of a device by the name its driver gives ("NVIDIA H100 80GB HBM3") or a person writes ("h100"); None if not known."""
    said = name.lower().replace("-", " ").replace("_", " ")
    return next((gpu for pattern, gpu in GPUS if re.search(pattern, said)), None)


def attended_pairs(lengths: I64, window: int | None) -> float:
    """Pairs (query, key) of a causal mask within pieces of these lengths; a query sees at most ``window`` tokens, itself included."""
    n = lengths.astype(np.float64)
    if window is None:
        return float((n * (n + 1) / 2).sum())
    near = np.minimum(n, window)
    return float((near * (near + 1) / 2 + (n - near) * window).sum())


def model_flops(shape: ModelShape, lengths: I64) -> float:
    """FLOPs of forward and backward pass over pieces of these lengths, packed and kept apart."""
    return 6.0 * shape.matmul_parameters * float(lengths.sum()) + attention_flops(shape, lengths)


def attention_flops(shape: ModelShape, lengths: I64) -> float:
    """The part of model_flops that is attention."""
    pairs = {w: attended_pairs(lengths, w) for w in set(shape.windows)}
    return 12.0 * shape.attention_size * sum(pairs[w] for w in shape.windows)


def dense_flops_per_token(shape: ModelShape, seq_len: int) -> float:
    """PaLM's count: every position attends to all seq_len positions in all layers."""
    return 6.0 * shape.matmul_parameters + 12.0 * shape.n_layers * shape.attention_size * seq_len


def mfu(flops: float, seconds: float, peak_flops: float, n_devices: int = 1) -> float:
    """Share of the peak of ``n_devices`` devices that was spent on ``flops``."""
    return flops / (seconds * peak_flops * n_devices)
