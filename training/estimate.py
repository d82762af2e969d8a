"""What a training would need and cost, before anything runs: memory of a device, hours, energy, money. Pure arithmetic, without torch.

Memory follows what the trainer keeps. Weights, gradients and AdamW's two moments are float32 (16 bytes a parameter). Activations are
the tensors that the backward pass of transformers' decoder layers keeps, tensor by tensor: for a position, with D hidden size, F width
of the MLP, A and K widths of queries and of keys, H and J their heads, T row length, e bytes of the precision (bf16: 2, fp32: 4):

    two norms' inputs and normalised inputs 2 x 8 D + 8, inputs of matrix products
    (autocast casts each anew) bf16 5 x 2 D, fp32 2 x 4 D
    queries, repeated keys and values, attention's output 4 e A, its log-sum-exp 4 H
    gate, up, activated gate, their product 4 e F
    the block mask of SDPA, which becomes a float mask in every layer, e T (flash and flex attention, which auto is on a GPU: none)
    norms of queries and keys (qwen3, gemma3): (4 + e, gemma3 8) (A + K) + 4 (H + J);  norms after (gemma3): 2 x (8 D + 4)

and under autocast a bfloat16 copy of every matrix. Recomputing activations keeps 4 D a layer, and all of this for one layer at a time.
The fused loss keeps the gradient of the head (4 V D) and of its input, and works on as much again beside a chunk of logits. A test
holds the activations against the tensors autograd keeps. Not counted: the allocator's fragmentation, the CUDA context, buffers
of kernels; so a plan that fills a device to the last gigabyte will not fit.

Hours are tokens x FLOPs a token (PaLM's count, which published figures use) / (peak x share of the peak reached x devices).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from training.attention import SDPA
from training.mfu import Gpu, dense_flops_per_token
from training.params import TrainParams
from training.shape import ModelShape

USUAL_MFU = 0.40
"""llm-foundry reports 40.4 % for 7 B at 4096 tokens on H100 with recomputed activations; torchtitan 39 % for 8 B at 8192, compiled."""
CHUNK_LOGITS, LEAST_ROWS = 1 << 26, 256  # training.loss on CUDA; this module must not import torch


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the peak of a step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    exchange: int

    @property
    def total(self) -> int:
        return sum(int(getattr(self, f.name)) for f in fields(self))


@dataclass(frozen=True)
class Cost:
    """Of a whole training. ``money`` is in the unit of the price, None without one; ``energy_kwh`` is that of the devices alone."""

    n_tokens: float
    flops: float
    tokens_per_s: float
    device_hours: float
    hours: float
    energy_kwh: float
    money: float | None


def memory(shape: ModelShape, params: TrainParams, seq_len: int, n_devices: int = 1) -> Memory:
    """What one device needs for rows of ``seq_len`` tokens under these parameters."""
    n, parts = shape.n_parameters, n_devices if params.sharding == "full" else 1
    positions = params.micro_batch_rows * seq_len
    return Memory(
        weights=4 * n // parts, gradients=4 * n // parts, optimizer=8 * n // parts, activations=activations(shape, params, seq_len),
        loss=_loss(shape, positions, params.precision == "bf16"), exchange=_exchange(shape, params, n_devices),
    )  # fmt: skip


def activations(shape: ModelShape, params: TrainParams, seq_len: int) -> int:
    """Bytes of the tensors of decoder and final norm that wait for the backward pass of one micro-batch."""
    positions, layers = params.micro_batch_rows * seq_len, shape.n_layers
    bf16, dense = params.precision == "bf16", params.attn_implementation == SDPA
    ropes = 2 if shape.model_type == "gemma3_text" else 1
    ends = positions * (8 * shape.hidden_size + 4 + 8 + 8 * shape.head_dim * ropes)  # final norm, ids, rotary cosines and sines
    copies = 2 * layers * shape.layer_matrices if bf16 and params.sharding == "none" else 0
    one = positions * layer_activations(shape, bf16=bf16, mask_tokens=seq_len if dense else 0)
    if params.gradient_checkpointing:
        return ends + copies + one + layers * positions * 4 * shape.hidden_size
    return ends + copies + layers * one


def layer_activations(shape: ModelShape, *, bf16: bool, mask_tokens: int) -> int:
    """Bytes that one layer keeps for one position; ``mask_tokens`` is T where a mask is given, else 0."""
    e, D, A = 2 if bf16 else 4, shape.hidden_size, shape.attention_size
    inputs = 5 * 2 * D if bf16 else 2 * 4 * D
    out = 2 * (8 * D + 4) + inputs + 4 * e * A + 4 * shape.n_heads + 4 * e * shape.intermediate_size + e * mask_tokens
    if shape.qk_norm:
        each = 8 if shape.model_type == "gemma3_text" else 4 + e
        out += each * (A + shape.kv_size) + 4 * (shape.n_heads + shape.n_kv_heads)
    return out + (shape.n_norms - 2) * (8 * D + 4)


def cost(
    shape: ModelShape, n_tokens: float, seq_len: int, gpu: Gpu, n_devices: int = 1, mfu: float = USUAL_MFU, price: float | None = None
) -> Cost:
    """Hours, energy and money of ``n_tokens``.

    Args:
        mfu: share of the peak reached, by PaLM's count.
        price: of one device for one hour.
    """
    per_token = dense_flops_per_token(shape, seq_len)
    rate = gpu.peak_flops * mfu / per_token
    device_hours = n_tokens / rate / 3600
    return Cost(
        n_tokens, n_tokens * per_token, rate * n_devices, device_hours, device_hours / n_devices, device_hours * gpu.watts / 1000,
        None if price is None else device_hours * price,
    )  # fmt: skip


def _loss(shape: ModelShape, positions: int, bf16: bool) -> int:
    """The head's gradient and the input's, kept; a copy of the head and a product's gradient, and logits of a chunk, while it works."""
    V, D = shape.vocab_size, shape.hidden_size
    chunk = min(max(CHUNK_LOGITS, LEAST_ROWS * V), positions * V)
    return 4 * V * D + 4 * positions * D + 4 * V * D + (4 + 4 + 2 * bf16) * chunk


def _exchange(shape: ModelShape, params: TrainParams, n_devices: int) -> int:
    """Copies for other devices: DDP's buckets; or FSDP's gathered weights of two layers and of the root, with the root's gradient."""
    if n_devices == 1:
        return 0
    if params.sharding == "none":
        return 4 * shape.n_parameters
    e = 2 if params.precision == "bf16" else 4
    root = shape.n_parameters - shape.n_layers * shape.layer_parameters
    return (2 * e + 4) * shape.layer_parameters + (e + 4) * root
