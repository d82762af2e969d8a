"""A profile of a few steps on request, by torch.profiler: a trace for ui.perfetto.dev, and a table of the top terms.

``profile_steps: [10, 12]`` records steps 10, 11 and 12 on the first process. The files lie in the watch folder, which is no part of an
artifact. Recording slows these steps; they stay in timing.jsonl.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from store.fs import Folder

if TYPE_CHECKING:
    from torch.profiler import profile

log = logging.getLogger(__name__)
N_TERMS = 25


@dataclass
class Profiler:
    """Records steps ``first``..``last`` (from 1) into ``folder``; one that is not active does nothing."""

    first: int
    last: int
    folder: str
    recording: profile | None = None

    def after(self, step: int) -> None:
        """Called after every step, and with the number of steps done before the first one of this process."""
        if self.recording is not None and step >= self.last:
            self.close(step)
        elif self.recording is None and step == self.first - 1:
            self._begin()

    def close(self, step: int) -> None:
        """Write what is recorded up to ``step``, if anything is."""
        recording, self.recording = self.recording, None
        if recording is None:
            return
        _wait()
        recording.__exit__(None, None, None)
        folder, name = Folder(self.folder), f"steps-{self.first:08d}-{step:08d}"
        folder.make()
        recording.export_chrome_trace(os.path.join(self.folder, f"{name}.json.gz"))
        table = recording.key_averages().table(sort_by=f"self_{_device()}_time_total", row_limit=N_TERMS)
        folder.write_bytes(f"{name}.txt", table.encode())
        log.info("profile of steps %d to %d: %s\n%s", self.first, step, os.path.join(self.folder, name), table)

    def _begin(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        _wait()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if _device() == "cuda" else [])]
        self.recording = profile(activities=activities)
        self.recording.__enter__()


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    """Kernels of the step before do not belong to the profile."""
    if _device() == "cuda":
        torch.cuda.synchronize()
