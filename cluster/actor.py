"""The actor that runs tasks: a trampoline around a job's worker, one per process.

What a job needs arrives pickled and is opened only when the process's thread counts are set, because numba, polars and OpenMP read
them when they are imported. The actor records a task's receipt itself, so work survives the death of the driver.

Exceptions are returned, not raised: some cannot be pickled, and what matters is whether a retry makes sense.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.metrics import TaskMetrics
from store.artifact import Draft, Receipt
from store.errors import DefinemedError
from store.executor import Task, Worker

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Assignment:
    """What every actor of a job is given once."""

    step: str
    worker: Callable[..., Worker]
    kwargs: Mapping[str, object]
    draft: Draft


@dataclass(frozen=True)
class Failure:
    """An attempt that raised. ``known`` is set if it was a DefinemedError: the same input fails again, so there is no retry."""

    what: str
    trace: str
    known: DefinemedError | None = None


class TaskRunner:
    """Runs tasks of one job, one at a time."""

    def __init__(self, pickled: bytes, n_threads: int, cwd: str) -> None:
        for name in THREAD_VARIABLES:
            os.environ[name] = str(n_threads)
        # The tokenizers library forks no more here, and warns at every use in a process that Ray forked.
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"
        if os.path.isdir(cwd):  # relative paths of a recipe mean the driver's folder, where it exists on this machine
            os.chdir(cwd)
        self.pickled = pickled
        self.assignment: Assignment | None = None
        self.worker: Worker | None = None
        self.metrics: TaskMetrics | None = None

    def ready(self) -> int:
        """The process id; answers when the process is up."""
        return os.getpid()

    def run(self, task: Task) -> Receipt | Failure:
        """Run a task and record its receipt."""
        began_s = time.monotonic()
        try:
            assignment, worker = self._open()
            receipt = assignment.draft.finish(worker.run(task))
        except Exception as error:
            if self.metrics is not None:
                self.metrics.failed(type(error).__name__, time.monotonic() - began_s)
            if isinstance(error, DefinemedError):
                return Failure(error.sentence(), "", error)
            return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
        assert self.metrics is not None
        self.metrics.finished(receipt, time.monotonic() - began_s)
        return receipt

    def _open(self) -> tuple[Assignment, Worker]:
        if self.assignment is None:
            from ray import cloudpickle

            self.assignment = cloudpickle.loads(self.pickled)
            self.metrics = TaskMetrics(self.assignment.step)
        if self.worker is None:
            self.worker = self.assignment.worker(**self.assignment.kwargs)
        return self.assignment, self.worker
