"""The port through which a room maps work over shards, and the executor that needs no cluster.

A ``Job`` names a worker class and how to build it; an executor builds one worker per process (so a model is loaded once) and
hands it tasks. The worker writes its files into the job's draft and returns a receipt; the executor records the receipt, so a
finished task is never done twice. Executors return receipts in the order of the tasks, whoever finished first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from store.artifact import Draft, Receipt
from store.errors import DefinemedError, StepError
from store.params import Json


@dataclass(frozen=True)
class Task:
    """A unit of work. ``key`` names it in files and messages; ``size`` counts ``Job.unit`` for progress."""

    key: str
    payload: Mapping[str, Json]
    size: int = 1


class Worker(Protocol):
    """Built once per process; ``run`` may be called with any task, any number of times, and must be idempotent."""

    def run(self, task: Task) -> Receipt: ...


@dataclass(frozen=True)
class Job:
    """What to run: ``worker(**kwargs)`` is built in each process. kwargs must be picklable and small."""

    step: str
    worker: Callable[..., Worker]
    kwargs: Mapping[str, object]
    tasks: Sequence[Task]
    draft: Draft
    unit: str = "tasks"
    n_cpus: float = 1.0
    n_gpus: float = 0.0
    max_workers: int | None = None
    phase: str = ""  # what this job does for its step, where a step has several jobs: progress shows it


@dataclass(frozen=True)
class Progress:
    """A moment of a job. ``done`` and ``total`` count ``unit``; ``resumed`` of ``done`` came from an earlier run."""

    step: str
    unit: str
    done: int
    total: int
    resumed: int
    elapsed_s: float
    counts: Mapping[str, int] = field(default_factory=dict)
    phase: str = ""

    @property
    def name(self) -> str:
        """The step, and what it is at."""
        return f"{self.step}, {self.phase}" if self.phase else self.step

    @property
    def rate_per_s(self) -> float:
        return (self.done - self.resumed) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the present rate; None until there is one."""
        return (self.total - self.done) / self.rate_per_s if self.rate_per_s > 0 else None


Watcher = Callable[[Progress], None]


class Executor(Protocol):
    """Maps a job's tasks. Raises StepError naming the tasks that kept failing; returns receipts in task order."""

    def map(self, job: Job) -> list[Receipt]: ...


def ignore(_: Progress) -> None:
    """The watcher that watches nothing."""


@dataclass
class SerialExecutor:
    """Runs tasks one after another in this process. For tests and for machines without Ray."""

    watch: Watcher = ignore
    n_attempts: int = 3

    def map(self, job: Job) -> list[Receipt]:
        check_keys(job)
        receipts = {t.key: r for t in job.tasks if (r := job.draft.receipt(t.key)) is not None}
        resumed = sum(t.size for t in job.tasks if t.key in receipts)
        start, done, total = time.monotonic(), resumed, sum(t.size for t in job.tasks)
        todo = [t for t in job.tasks if t.key not in receipts]
        worker = job.worker(**job.kwargs) if todo else None
        for task in todo:
            assert worker is not None
            receipts[task.key] = job.draft.finish(self._attempt(worker, task, job.step))
            done += task.size
            self.watch(Progress(job.step, job.unit, done, total, resumed, time.monotonic() - start, phase=job.phase))
        return [receipts[t.key] for t in job.tasks]

    def _attempt(self, worker: Worker, task: Task, step: str) -> Receipt:
        for attempt in range(1, self.n_attempts + 1):
            try:
                return worker.run(task)
            except DefinemedError as error:  # wrong input stays wrong: no retry
                raise StepError(f"task {task.key} failed: {error.sentence()}", where=f"step {step}") from error
            except Exception as error:
                if attempt == self.n_attempts:
                    raise StepError(
                        f"task {task.key} failed {attempt} times: {type(error).__name__}: {error}", where=f"step {step}"
                    ) from error
        raise AssertionError("unreachable")


def check_keys(job: Job) -> None:
    """Two tasks of one key would overwrite each other's files."""
    keys = [t.key for t in job.tasks]
    if len(set(keys)) != len(keys):
        twice = sorted({k for k in keys if keys.count(k) > 1})
        raise StepError(f"task keys are not unique: {', '.join(twice[:5])}", where=f"step {job.step}")
