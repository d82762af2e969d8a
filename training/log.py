"""What a run writes down while it goes: one JSON object a line, written by the first process.

``metrics.jsonl`` (step, loss, lr, grad_norm, n_rows, n_targets) and ``heldout.jsonl`` hold deterministic values only and end
up in the artifact; ``timing.jsonl`` (seconds, tokens per second; written by training/watch.py) never does. A resumed run first cuts
the files back to its checkpoint, so an interrupted run leaves the same lines as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.fs import Folder

if TYPE_CHECKING:
    from training.spikes import SpikeRule
    from training.step import StepRecord

METRICS, HELDOUT, TIMING = "metrics.jsonl", "heldout.jsonl", "timing.jsonl"


@dataclass(frozen=True)
class RunLog:
    """Appends to a JSONL file; ``active`` is False on every process but the first."""

    path: str
    active: bool

    def cut(self, step: int) -> None:
        """Drop lines of later steps, and a line torn by a kill."""
        if self.active:
            lines = [json.dumps(line) + "\n" for line in self.lines() if int(str(line["step"])) <= step]
            Folder(os.path.dirname(self.path) or ".").write_bytes(os.path.basename(self.path), "".join(lines).encode())

    def write(self, line: Mapping[str, object]) -> None:
        if self.active:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, object]]:
        """The complete lines."""
        return read_lines(self.path)


@dataclass(frozen=True)
class StepLog:
    """The step hook that writes metrics.jsonl. The line of a step that was not taken also says why, and names its rows of the plan."""

    metrics: RunLog
    spikes: SpikeRule | None = None

    def accepts(self, step: int, loss: float, grad_norm: float, rows: object) -> bool:  # noqa: ARG002
        return True

    def after(self, record: StepRecord) -> None:
        why = {} if record.taken or self.spikes is None else {**self.spikes.why(), "rows": record.rows.tolist()}
        self.metrics.write({**record.figures(), **why})


def read_lines(path: str) -> list[dict[str, object]]:
    """The complete lines of a JSONL file that may still be written; an absent file has none."""
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]
