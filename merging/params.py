"""Parameters of a merge of two models: the instruct parent (t = 0) and the trained model (t = 1)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from store.params import Execution, Params

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Interpolation = Unit | Annotated[list[Unit], Field(min_length=2)]
"""A number for all layers, or support points interpolated linearly from the first layer to the last (mergekit's gradients)."""

DEFAULT_T = 0.5
DEFAULT_WEIGHTS = (0.5, 0.5)


class MergeParams(Params):
    """How two models of one architecture become one. The instruct parent gives tokenizer, chat template and generation config."""

    method: Literal["slerp", "linear"] = Field(
        "slerp",
        description="slerp: along the arc between the two weight vectors, tensor by tensor (mergekit falls back to linear where "
        "|cos| > 0.9995); linear: the weighted mean",
    )
    t: Interpolation = Field(
        DEFAULT_T, description="slerp: 0 is the instruct parent, 1 the trained model; a list is a gradient over the layers"
    )
    self_attn: Interpolation | None = Field(None, description="slerp: t of the attention tensors; null: t")
    mlp: Interpolation | None = Field(None, description="slerp: t of the feed-forward tensors; null: t")
    weights: tuple[Annotated[float, Field(ge=0.0)], Annotated[float, Field(ge=0.0)]] = Field(
        DEFAULT_WEIGHTS, description="linear: weights of (instruct parent, trained model); they are divided by their sum"
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="number format of the merged weights; null: that of the parents, which must then agree"
    )
    shard_size_bytes: int = Field(5_000_000_000, ge=1_000, description="largest weight file written; a larger model is split")
    seed: int = Field(0, ge=0, description="seed handed to mergekit (slerp and linear draw nothing from it)")
    check_generation: Annotated[bool, Execution] = Field(
        True, description="load the merged model and generate a few tokens before it is accepted"
    )

    @model_validator(mode="after")
    def _only_what_the_method_uses(self) -> MergeParams:
        """A parameter the method would ignore is a mistake of the recipe, not a detail."""
        if self.method == "linear":
            if (self.t, self.self_attn, self.mlp) != (DEFAULT_T, None, None):
                raise ValueError("t, self_attn and mlp belong to method slerp; linear takes weights")
            total = sum(self.weights)
            if total == 0 or not math.isfinite(total):
                raise ValueError("the two weights of a linear merge must have a positive, finite sum")
        elif self.weights != DEFAULT_WEIGHTS:
            raise ValueError("weights belong to method linear; slerp takes t")
        return self
