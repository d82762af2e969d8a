"""The phases of one deduplication: each maps a worker over tasks, all write below one draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from store.artifact import Draft, Receipt
from store.executor import Executor, Job, Task, Worker
from store.fs import Folder


@dataclass(frozen=True)
class Work:
    """Where the work is done and by whom.

    Attributes:
        receipts: of all tasks so far, in the order of the phases.
    """

    draft: Draft
    executor: Executor
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def out(self) -> Folder:
        return self.draft.folder

    def map(self, phase: str, worker: type[Worker], kwargs: Mapping[str, object], tasks: Sequence[Task]) -> list[Receipt]:
        """Receipts of a phase, in the order of its tasks; the worker is given ``out`` beside ``kwargs``. No task: no receipt."""
        if not tasks:
            return []
        job = Job(self.draft.identity.step, worker, {**kwargs, "out": self.out}, tasks, self.draft, unit="documents", phase=phase)
        done = self.executor.map(job)
        self.receipts.extend(done)
        return done


def shares(total: int, n: int) -> list[int]:
    """n whole numbers that differ by at most one and add up to ``total``: documents of a phase, spread over its tasks."""
    return [(i + 1) * total // n - i * total // n for i in range(n)]
