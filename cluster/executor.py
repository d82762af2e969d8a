"""The executor that runs a job's tasks on Ray actors.

An actor takes one task at a time and the next when it has answered, so nothing piles up and only receipts travel. What can go wrong:

* a task raises a DefinemedError: the input is wrong, a retry would be too. No further task starts; those that run finish and are
  recorded; then a StepError names what failed.
* a task raises anything else: it is tried again, ``n_attempts`` times in all, each time in a fresh process.
* an actor dies (killed, out of memory, its node lost): the same, unless its receipt shows that the task was done.
* no actor can be placed: a warning every minute says what the cluster lacks, and a ResourceError ends the wait.
* the driver dies: Ray ends its actors; receipts are on disk, and the next run does the rest.

Neither the number of actors nor who ran what is seen in the result: receipts come back in the order of the tasks.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from cluster.actor import Assignment, Failure, TaskRunner
from store.artifact import Draft, Receipt
from store.errors import ResourceError, StepError
from store.executor import Job, Progress, Task, Watcher, check_keys, ignore
from store.fs import Folder

log = logging.getLogger(__name__)

TICK_S = 1.0
NAMED_FAILURES = 5


@dataclass
class RayExecutor:
    """Implements store.executor.Executor on the Ray session that is open.

    Attributes:
        watch: called after every task, and every second in between.
        n_attempts: how often a task may be tried.
        max_workers: actors at most, whatever the cluster could hold; None: no such limit.
        warn_after_s: seconds without any actor after which a warning says what is missing.
        give_up_after_s: seconds without any actor after which the step fails; None waits for ever.
    """

    watch: Watcher = ignore
    n_attempts: int = 3
    max_workers: int | None = None
    warn_after_s: float = 60.0
    give_up_after_s: float | None = 900.0

    def map(self, job: Job) -> list[Receipt]:
        """Run what has no receipt yet; all receipts in the order of ``job.tasks``. Raises StepError, ResourceError."""
        check_keys(job)
        job = replace(job, draft=_absolute(job.draft))
        found = {t.key: r for t in job.tasks if (r := job.draft.receipt(t.key)) is not None}
        run = _Run(self, job, found)
        if run.todo:
            try:
                run.work()
            finally:
                run.end()
        return [run.receipts[t.key] for t in job.tasks]


@dataclass
class _Actor:
    handle: Any  # Ray's actor handles are untyped
    task: Task | None = None


@dataclass
class _Run:
    """One call of ``map``: the queue, the actors, and what came back."""

    executor: RayExecutor
    job: Job
    receipts: dict[str, Receipt]
    todo: deque[Task] = field(init=False)
    pending: dict[Any, _Actor] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Failure] = field(default_factory=dict)
    lost: int = 0

    def __post_init__(self) -> None:
        self.todo = deque(t for t in self.job.tasks if t.key not in self.receipts)
        self.counts: Counter[str] = Counter()
        for receipt in self.receipts.values():
            self.counts.update(receipt.counts)
        self.total = sum(t.size for t in self.job.tasks)
        self.resumed = self.done = self.total - sum(t.size for t in self.todo)
        self.began_s = self.alive_s = self.warned_s = time.monotonic()

    def work(self) -> None:
        """Hand out tasks until all are done or one has failed for good."""
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        self.n_cpus = _affordable_cpus(self.job, nodes)
        limits = (n for n in (self.job.max_workers, self.executor.max_workers, len(self.todo)) if n is not None)
        self.n_actors = max(1, min(_places(self.n_cpus, self.job.n_gpus, nodes), *limits))
        assignment = Assignment(self.job.step, self.job.worker, self.job.kwargs, self.job.draft)
        self.pickled = ray.put(cloudpickle.dumps(assignment))
        for _ in range(self.n_actors):
            self._start()
        self._report()
        while self.pending:
            ready, _ = ray.wait(list(self.pending), num_returns=1, timeout=TICK_S)
            for ref in ready:
                self._take(ref, self.pending.pop(ref))
            self._check_placed()
            self._report()
        if self.failed or self.todo:
            raise self._step_error()

    def end(self) -> None:
        """End what still runs, on every way out. Idle actors leave by themselves, and give Ray their last metrics."""
        for actor in self.pending.values():
            ray.kill(actor.handle)
        self.pending.clear()

    def _start(self) -> None:
        options = ray.remote(TaskRunner).options(
            num_cpus=self.n_cpus, num_gpus=self.job.n_gpus or None, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        handle = options.remote(self.pickled, max(1, int(self.n_cpus)), os.getcwd())
        self.pending[handle.ready.remote()] = _Actor(handle)

    def _take(self, ref: Any, actor: _Actor) -> None:
        """An actor has answered or died."""
        try:
            answer = ray.get(ref)
        except RayError as error:
            self._lost(actor, error)
            return
        self.alive_s = time.monotonic()
        if isinstance(answer, Receipt):
            assert actor.task is not None
            self._finished(actor.task, answer)
        elif isinstance(answer, Failure):
            assert actor.task is not None
            self._attempt_failed(actor.task, answer)
            if answer.known is None:  # whatever state the exception left behind ends with its process
                ray.kill(actor.handle)
                self._replace()
                return
        self._hand_out(actor)

    def _hand_out(self, actor: _Actor) -> None:
        if self.todo and not self.failed:
            actor.task = self.todo.popleft()
            self.pending[actor.handle.run.remote(actor.task)] = actor

    def _finished(self, task: Task, receipt: Receipt) -> None:
        self.receipts[task.key] = receipt
        self.counts.update(receipt.counts)
        self.done += task.size

    def _attempt_failed(self, task: Task, failure: Failure) -> None:
        self.attempts[task.key] += 1
        n, of = self.attempts[task.key], self.executor.n_attempts
        log.warning("step %s: task %s failed, attempt %d of %d: %s", self.job.step, task.key, n, of, failure.what)
        if failure.trace:
            log.debug("%s", failure.trace)
        if failure.known is not None or n >= of:
            self.failed[task.key] = failure
        else:
            self.todo.appendleft(task)

    def _lost(self, actor: _Actor, error: RayError) -> None:
        """A worker process is gone. Its task may be done all the same: the receipt says."""
        what = f"the worker process died ({_first_sentence(error)})"
        if actor.task is None:
            self.lost += 1
            log.warning("step %s: a worker process died before its first task: %s", self.job.step, _first_sentence(error))
            if self.lost >= self.executor.n_attempts * self.n_actors:
                raise StepError(f"worker processes die when they start: {_first_sentence(error)}", where=f"step {self.job.step}")
        elif (receipt := self.job.draft.receipt(actor.task.key)) is not None:
            self._finished(actor.task, receipt)
        else:
            self._attempt_failed(actor.task, Failure(what, str(error)))
        self._replace()

    def _replace(self) -> None:
        if self.todo and not self.failed and len(self.pending) < self.n_actors:
            self._start()

    def _check_placed(self) -> None:
        """Never wait in silence for a worker that cannot be placed."""
        now = time.monotonic()
        if any(a.task is not None for a in self.pending.values()):
            self.alive_s = now
        waited_s = now - self.alive_s
        if waited_s < self.executor.warn_after_s or not self.pending:
            return
        need = f"{self.n_cpus:g} CPUs" + (f" and {self.job.n_gpus:g} GPUs" if self.job.n_gpus else "")
        free = ray.available_resources()
        have = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free of {_sum('CPU'):g} and {_sum('GPU'):g}"
        if self.executor.give_up_after_s is not None and waited_s > self.executor.give_up_after_s:
            raise ResourceError(
                f"no worker could be started in {waited_s:.0f} s: one needs {need} on one machine", where=f"step {self.job.step}",
                expected=f"room in the cluster, which has {have}", remedy="free resources, or ask for less in the recipe",
            )  # fmt: skip
        if now - self.warned_s >= self.executor.warn_after_s:
            self.warned_s = now
            log.warning("step %s: no worker for %.0f s: one needs %s on one machine; the cluster has %s",
                        self.job.step, waited_s, need, have)  # fmt: skip

    def _report(self) -> None:
        elapsed_s = time.monotonic() - self.began_s
        job = self.job
        now = Progress(job.step, job.unit, self.done, self.total, self.resumed, elapsed_s, dict(self.counts), job.phase)
        self.executor.watch(now)

    def _step_error(self) -> StepError:
        order = [t.key for t in self.job.tasks if t.key in self.failed]
        named = [f"task {k} failed{self._times(k)}: {self.failed[k].what.rstrip('.')}" for k in order[:NAMED_FAILURES]]
        more = f"; and {len(order) - NAMED_FAILURES} more" if len(order) > NAMED_FAILURES else ""
        error = StepError(
            "; ".join(named) + more, where=f"step {self.job.step}",
            remedy=f"{len(self.receipts)} of {len(self.job.tasks)} tasks are done and kept: run again when the cause is removed",
        )  # fmt: skip
        error.__cause__ = next((f.known for f in self.failed.values() if f.known), None)
        return error

    def _times(self, key: str) -> str:
        return f" {n} times" if (n := self.attempts[key]) > 1 else ""


def _absolute(draft: Draft) -> Draft:
    """Workers may have another working folder."""
    folder = draft.folder
    return replace(draft, folder=Folder(os.path.abspath(folder.path("")))) if folder.is_local else draft


def _affordable_cpus(job: Job, nodes: Sequence[Mapping[str, float]]) -> float:
    """CPUs of one worker: what the job asks for, or the largest machine's if that is less. Threads change speed, never results."""
    largest = max((n.get("CPU", 0.0) for n in nodes), default=0.0)
    if 0 < largest < job.n_cpus:
        log.warning("step %s: a worker asks for %g CPUs, the largest machine has %g: using these", job.step, job.n_cpus, largest)
        return largest
    return job.n_cpus


def _places(n_cpus: float, n_gpus: float, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many workers fit, machine by machine: two CPUs on each of two machines hold no worker of three."""
    asked = [(name, n) for name, n in (("CPU", n_cpus), ("GPU", n_gpus)) if n > 0]
    if not asked:
        return max(1, len(nodes))
    return sum(min(int(node.get(name, 0.0) / n + 1e-9) for name, n in asked) for node in nodes)


def _sum(resource: str) -> float:
    return float(ray.cluster_resources().get(resource, 0))


def _first_sentence(error: BaseException) -> str:
    """Ray's messages run over many lines; the log of the actor's end is at their end, and not for the user's eyes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
