"""One optimizer step: gradients of a global batch, the decision whether to take it, the update, and a record of what happened.

The loss and the gradient norm of the whole batch are known, and the same, on every process before any weight changes. So a step that
must not be taken (a loss that is not a number, or one a hook refuses) leaves weights and moments as they were.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from store.errors import StepError
from store.fingerprint import canonical_json, sha256_hex
from store.params import Json
from training.heldout import tensors
from training.parallel import Gang, total_norm
from training.params import TrainParams
from training.rows import RowReader

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StepRecord:
    """What one step did; everything but the times is deterministic and the same on every process.

    Attributes:
        step: number of steps done with this one, from 1.
        loss: nats per target over the global batch.
        grad_norm: global L2 norm before clipping.
        rows: rows of the plan in slot order; n_targets: how many of their tokens have a target.
        n_tokens: tokens in the rows without padding; n_positions: rows times seq_len.
        taken: False if a hook refused the step: weights and moments did not change.
        seconds: wall time of the step on this process; data_wait_s: the part spent waiting for rows.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    rows: I64
    n_targets: int
    n_tokens: int
    n_positions: int
    taken: bool
    seconds: float
    data_wait_s: float

    def figures(self) -> dict[str, Json]:
        """The line of metrics.jsonl: deterministic values only."""
        out: dict[str, Json] = {"step": self.step, "loss": self.loss, "lr": self.lr, "grad_norm": self.grad_norm,
                                "n_rows": len(self.rows), "n_targets": self.n_targets}  # fmt: skip
        return out if self.taken else {**out, "skipped": True}


class StepHook(Protocol):
    """Looks at every step of a run. Both methods are called on every process in the same order with the same deterministic values."""

    def accepts(self, step: int, loss: float, grad_norm: float, rows: I64) -> bool:
        """Whether to take step ``step`` (from 1): asked between its gradients and the optimizer; the same on every process."""
        ...

    def after(self, record: StepRecord) -> None:
        """Called after every step, taken or not."""
        ...


@dataclass
class Stepper:
    """Runs steps of a wrapped model."""

    params: TrainParams
    gang: Gang
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    reader: RowReader
    hooks: list[StepHook]

    def run(self, step: int, rows: I64, rate: float) -> StepRecord:
        """Take step ``step`` (from 0). StepError if its loss or gradient is not a number; the weights are then those before it."""
        began = time.perf_counter()
        torch.manual_seed(_mix(self.params.seed, step, self.gang.rank))  # dropout, if the model has any, must not depend on history
        n_targets = self.reader.n_targets(rows)
        nats, wait_s = self._backward(rows, n_targets)
        norm = total_norm(self._trained())
        loss = float(self.gang.sum(np.array([float(nats)]))[0]) / max(1, n_targets)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise self._not_a_number(step + 1, rows, loss, float(norm))
        verdicts = [hook.accepts(step + 1, loss, float(norm), rows) for hook in self.hooks]  # all are asked: they may keep state
        taken = all(verdicts)
        if taken:
            self._update(rate, norm)
        self.optimizer.zero_grad(set_to_none=True)
        record = StepRecord(
            step + 1, loss, rate, float(norm), rows, n_targets, self._n_tokens(rows, n_targets), len(rows) * self.reader.plan.seq_len,
            taken, time.perf_counter() - began, wait_s,
        )  # fmt: skip
        for hook in self.hooks:
            hook.after(record)
        return record

    def _trained(self) -> list[torch.Tensor]:
        return [p for p in self.wrapped.parameters() if p.requires_grad]

    def _backward(self, rows: I64, n_targets: int) -> tuple[torch.Tensor, float]:
        """Gradients of the whole global batch; returns this process's sum of nats and the seconds spent waiting for rows."""
        size, gang = self.params.micro_batch_rows, self.gang
        n_rounds = -(-len(rows) // (size * gang.size))
        nats, wait_s = torch.zeros((), dtype=torch.float64, device=gang.device), 0.0
        for i in range(n_rounds):
            began = time.perf_counter()
            first = (i * gang.size + gang.rank) * size
            mine = rows[first : first + size]
            # With several processes all must run equally often and alike: a process without rows takes empty ones, of loss zero.
            # A compiled layer would be compiled again for another number of rows.
            micro = self.reader.read(mine, pad_to=size if gang.size > 1 or self.params.compile else None)
            wait_s += time.perf_counter() - began
            with gang.last_backward(self.wrapped, last=i == n_rounds - 1):
                loss = self.wrapped(*tensors(micro, gang.device))
                # Processes' gradients are averaged, hence the factor.
                (loss * (gang.size / max(1, n_targets))).backward()
            nats += loss.detach().double()
        return nats, wait_s

    def _update(self, rate: float, norm: torch.Tensor) -> None:
        if self.params.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._trained(), self.params.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def _n_tokens(self, rows: I64, n_targets: int) -> int:
        """Every piece has one target less than it has tokens."""
        ends = self.reader.plan.row_offsets
        return n_targets + int((ends[rows + 1] - ends[rows]).sum())

    def _not_a_number(self, step: int, rows: I64, loss: float, norm: float) -> StepError:
        what = f"the loss of step {step} is {loss}" if not math.isfinite(loss) else f"the gradient norm of step {step} is {norm}"
        shown = ", ".join(map(str, rows[:16].tolist())) + (f" and {len(rows) - 16} more" if len(rows) > 16 else "")
        return StepError(
            f"{what}; it had rows {shown} of the plan",
            where="training",
            remedy="the weights before it are those of the last checkpoint: lower learning_rate, or train in fp32",
        )


def _mix(seed: int, step: int, rank: int) -> int:
    """A seed for torch from three numbers."""
    return int(sha256_hex(canonical_json([seed, step, rank]))[:15], 16)
