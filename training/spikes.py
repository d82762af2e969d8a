"""Spikes: a step whose loss or gradient norm stands far above those before it is not taken.

A value is a spike if it exceeds median + sigmas x 1.4826 x MAD of the values of the steps before it (1.4826 x the median absolute
deviation estimates the standard deviation of a normal distribution; Rousseeuw and Croux 1993). Median and MAD do not move when a spike
enters the window, so every step enters it, also those not taken, and a lasting change of level is met after half a window. Window and
sigmas are those of OLMo-core's skip-step optimizer (128 steps, 6 standard deviations, silent until half a window is there), which takes
mean and standard deviation instead.

The decision is a function of the global losses and norms, so it is the same on every process, and it falls before the optimizer moves a
weight. The detector's state is the last ``window`` lines of metrics.jsonl: a resumed run reads them, and nothing is added to
checkpoints.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from store.errors import ArtifactError, StepError
from store.params import Json, Params

if TYPE_CHECKING:
    from training.step import StepRecord

log = logging.getLogger(__name__)

WATCHED = ("loss", "grad_norm")
TO_SIGMA = 1.4826
LEAST_SIGMA = 1e-3  # of the median: a window of equal values must not make a spike of the smallest change


class SpikeParams(Params):
    """When a step is not taken."""

    sigmas: float = Field(default=6.0, gt=0, description="Robust standard deviations above the median that make a spike.")
    window: int = Field(default=128, ge=8, description="Steps before the present one that it is compared with.")
    min_steps: int = Field(default=64, ge=4, description="Steps before the rule begins to judge.")
    max_in_a_row: int = Field(default=8, ge=1, description="So many spikes in a row stop the run with an error.")

    @model_validator(mode="after")
    def _window_holds_them(self) -> SpikeParams:
        if self.min_steps > self.window:
            raise ValueError(f"min_steps {self.min_steps} exceeds the window of {self.window} steps")
        return self


@dataclass(frozen=True)
class Spike:
    """Why a step was not taken: what stood out, its value and the limit."""

    reason: str
    value: float
    limit: float


@dataclass
class SpikeRule:
    """The step hook that refuses spikes; state: the values of the last ``window`` steps and the spikes since the last step taken."""

    params: SpikeParams
    values: dict[str, deque[float]] = field(init=False)
    in_a_row: int = 0
    last: Spike | None = None

    def __post_init__(self) -> None:
        self.values = {name: deque(maxlen=self.params.window) for name in WATCHED}

    def restore(self, lines: Sequence[Mapping[str, object]], done: int) -> None:
        """The state after ``done`` steps, from the lines of metrics.jsonl. ArtifactError if lines that it needs are missing."""
        lines = [line for line in lines if int(str(line["step"])) <= done][-self.params.window :]
        if [line["step"] for line in lines] != list(range(max(0, done - self.params.window) + 1, done + 1)):
            raise ArtifactError(
                f"metrics.jsonl lacks steps before {done}: the spike rule cannot go on as it was", where="training",
                remedy="start afresh (remove the state folder), or resume without spikes",
            )  # fmt: skip
        self.__post_init__()
        self.in_a_row = 0
        for line in lines:
            self._remember(float(str(line["loss"])), float(str(line["grad_norm"])))
            self.in_a_row = self.in_a_row + 1 if line.get("skipped") else 0

    def accepts(self, step: int, loss: float, grad_norm: float, rows: npt.NDArray[np.int64]) -> bool:
        """Whether the step is no spike. StepError at the ``max_in_a_row``-th in a row."""
        found = self.judge(loss, grad_norm)
        self._remember(loss, grad_norm)
        self.last, self.in_a_row = found, 0 if found is None else self.in_a_row + 1
        if found is None:
            return True
        log.warning("step %d is a spike and is not taken: %s %.4g, limit %.4g (%d rows)", step, found.reason, found.value, found.limit,
                    len(rows))  # fmt: skip
        if self.in_a_row >= self.params.max_in_a_row:
            raise StepError(
                f"{self.in_a_row} spikes in a row up to step {step}: {found.reason} {found.value:.4g}, limit {found.limit:.4g}",
                where="training", remedy="lower learning_rate, or look at the rows of these steps in metrics.jsonl",
            )  # fmt: skip
        return False

    def judge(self, loss: float, grad_norm: float) -> Spike | None:
        """What stands out, if anything does; changes nothing."""
        for name, value in zip(WATCHED, (loss, grad_norm), strict=True):
            limit = self.limit(name)
            if not value <= limit:  # also what is not a number
                return Spike(name, value, limit)
        return None

    def limit(self, name: str) -> float:
        """Values of ``name`` above it are spikes; infinity while there are too few steps."""
        seen = self.values[name]
        if len(seen) < self.params.min_steps:
            return math.inf
        middle = statistics.median(seen)
        sigma = TO_SIGMA * statistics.median(abs(v - middle) for v in seen)
        return middle + self.params.sigmas * max(sigma, LEAST_SIGMA * abs(middle))

    def after(self, record: StepRecord) -> None:
        """Nothing: the log writes what ``why`` says."""

    def why(self) -> dict[str, Json]:
        """What the line of a step that was not taken says besides its figures."""
        return {} if self.last is None else {"reason": self.last.reason, "limit": self.last.limit}

    def _remember(self, loss: float, grad_norm: float) -> None:
        for name, value in zip(WATCHED, (loss, grad_norm), strict=True):
            self.values[name].append(value)
