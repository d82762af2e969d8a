"""Parameters of continual pre-training: the model a run starts from and how it is trained.

Everything here bears identity except the fields marked Execution. The sequence length is not here: it is the pack plan's. Micro-batch
size, precision and CPU thread count are identity, because floating-point sums depend on how they are cut. The number of processes is
not a parameter at all; what it does to the bytes is said in training/loop.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from store.params import Execution, Json, Params
from training.spikes import SpikeParams

Precision = Literal["fp32", "bf16"]
Dtype = Literal["float32", "bfloat16"]
Attention = Literal["auto", "sdpa", "flex_attention", "flash_attention_2"]


class ModelInit(Params):
    """The model a run starts from: an existing one (``from``), or an architecture with random weights (``model_type`` and sizes)."""

    model_config = ConfigDict(populate_by_name=True)

    from_: str | None = Field(
        default=None,
        alias="from",
        description="Folder of a transformers model with safetensors weights, or its name on the hub; None starts from random weights.",
    )
    revision: str | None = Field(default=None, description="Commit or tag of the hub model; pin it for reproducible runs.")
    model_type: Literal["qwen2", "qwen3", "mistral", "llama", "gemma3_text"] = Field(
        default="qwen2", description="Architecture of a model from random weights."
    )
    vocab_size: int | None = Field(default=None, ge=2, description="Rows of the embedding; None takes the token store's vocabulary.")
    hidden_size: int = Field(default=128, ge=8, description="Width of the residual stream.")
    n_layers: int = Field(default=4, ge=1, description="Decoder layers.")
    n_heads: int = Field(default=4, ge=1, description="Attention heads.")
    n_kv_heads: int | None = Field(default=None, ge=1, description="Key/value heads (grouped-query attention); None means n_heads.")
    intermediate_size: int = Field(default=384, ge=8, description="Width of the gated MLP.")
    tie_word_embeddings: bool = Field(default=True, description="Output head shares the embedding matrix.")
    max_position_embeddings: int | None = Field(default=None, ge=1, description="Longest context; None means the plan's seq_len.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary position embedding.")
    initializer_range: float = Field(default=0.02, gt=0, description="Standard deviation of random weights.")
    config: dict[str, Json] = Field(
        default_factory=dict, description="Further keys of the transformers config of a model from random weights."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelInit:
        if self.from_ is None:
            if self.hidden_size % (2 * self.n_heads):
                raise ValueError(f"hidden_size {self.hidden_size} must be an even multiple of n_heads {self.n_heads}")
            if self.n_heads % (self.n_kv_heads or self.n_heads):
                raise ValueError(f"n_heads {self.n_heads} must be a multiple of n_kv_heads {self.n_kv_heads}")
        return self


class LoraParams(Params):
    """Low-rank adapters instead of all weights. The defaults adapt every linear layer of the decoder (QLoRA, arXiv 2305.14314)."""

    rank: int = Field(default=16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(default=32.0, gt=0, description="The adapters' product is scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of an adapter's inputs set to zero in training.")
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the linear layers that get adapters.",
    )


class TrainParams(Params):
    """How a model is trained on a pack plan. Defaults suit continual pre-training of an instruct model (Llama3-German-8B, Meditron)."""

    learning_rate: float = Field(default=1e-5, gt=0, description="Peak learning rate.")
    schedule: Literal["cosine", "wsd", "linear", "constant"] = Field(
        default="cosine", description="Course of the learning rate after the warm-up; wsd is warm-up, stable, decay."
    )
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1, description="Final learning rate as a share of the peak.")
    warmup_ratio: float = Field(default=0.01, ge=0, lt=1, description="Share of the schedule with linear warm-up.")
    start_lr: float | None = Field(
        default=None, ge=0, description="Rate of the first step, from which the warm-up leads to the peak; None starts near zero."
    )
    decay_ratio: float = Field(default=0.1, gt=0, le=1, description="Share of the schedule in which wsd decays.")
    decay_shape: Literal["linear", "sqrt", "cosine"] = Field(default="sqrt", description="Course of wsd's decay; sqrt is 1 - sqrt.")
    schedule_steps: int | None = Field(
        default=None, ge=1, description="Length of the schedule in steps, whatever the run's; None means the run's steps."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW decay of matrices; norms, biases and embeddings have none.")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW moment decays.")
    eps: float = Field(default=1e-8, gt=0, description="AdamW epsilon.")
    clip_norm: float | None = Field(default=1.0, gt=0, description="Global gradient norm is clipped to this; None is off.")
    rows_per_step: int = Field(default=32, ge=1, description="Global batch: rows of seq_len tokens per optimizer step.")
    micro_batch_rows: int = Field(
        default=8, ge=1, description="Rows per forward pass on one process; changes rounding, so it is identity."
    )
    epochs: float = Field(
        default=1.0, gt=0, description="Passes over the plan; the last step may hold fewer rows. Ignored with max_steps."
    )
    max_steps: int | None = Field(default=None, ge=1, description="Optimizer steps, whatever the size of the plan; None means epochs.")
    precision: Precision = Field(default="bf16", description="Arithmetic of the forward pass; weights and optimizer are always fp32.")
    save_dtype: Dtype = Field(default="bfloat16", description="Data type of the exported weights.")
    attn_implementation: Attention = Field(
        default="auto",
        description="Kernels that keep documents apart. sdpa: any device, memory T x T. flex_attention: CUDA. flash_attention_2: CUDA, "
        "bf16 and the flash-attn package. auto: on CUDA flash_attention_2 if it can run, else flex_attention; on a CPU sdpa.",
    )
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations in the backward pass to save memory.")
    compile: bool = Field(default=False, description="torch.compile of every decoder layer; rounds differently, so it is identity.")
    lora: LoraParams | None = Field(default=None, description="Train low-rank adapters only; None trains all weights.")
    seed: int = Field(default=0, ge=0, description="Seed of the row order, of dropout and of adapters.")
    eval_every_steps: int | None = Field(
        default=None, ge=1, description="Held-out evaluation interval; None means at start and end only."
    )
    eval_rows: int = Field(default=256, ge=1, description="At most this many rows of each held-out store are evaluated.")
    cpu_threads: int = Field(
        default=2,
        ge=1,
        description="Threads per process on a CPU. Sums over threads round differently, so it is identity; ignored on CUDA.",
    )
    sharding: Annotated[Literal["none", "full"], Execution] = Field(
        default="none", description="none replicates the model (DDP); full shards weights, gradients and optimizer (FSDP2)."
    )
    save_every_steps: Annotated[int | None, Execution] = Field(
        default=500, ge=1, description="Checkpoint interval; None saves at a stop only."
    )
    save_in_background: Annotated[bool, Execution] = Field(
        default=True, description="Write checkpoints while training goes on; takes a copy of weights and moments in host memory."
    )
    keep_checkpoints: Annotated[int, Execution] = Field(default=2, ge=1, description="Complete checkpoints kept while training.")
    verify_tokens: Annotated[bool, Execution] = Field(
        default=True, description="Compare the token shards' sha256 with their manifest first."
    )
    max_failures: Annotated[int, Execution] = Field(default=3, ge=0, description="Restarts of a crashed gang before the step fails.")
    spikes: SpikeParams | None = Field(
        default=None, description="Steps whose loss or gradient norm is a spike are not taken; None is off."
    )
    peak_tflops: Annotated[float | None, Execution] = Field(
        default=None, gt=0, description="Dense bf16 peak of one device for MFU, in TFLOP/s; None takes that of a known GPU."
    )
    tensorboard: Annotated[bool, Execution] = Field(default=False, description="Write TensorBoard event files (extra: tensorboard).")
    profile_steps: Annotated[tuple[int, int] | None, Execution] = Field(
        default=None, description="Record these steps, first and last, with torch.profiler; the first is at least 2."
    )

    @model_validator(mode="after")
    def _steps_to_profile(self) -> TrainParams:
        if self.profile_steps is not None and not 2 <= self.profile_steps[0] <= self.profile_steps[1]:
            raise ValueError("profile_steps needs 2 <= first <= last: the first step of a run also warms up")
        return self
