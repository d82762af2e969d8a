"""The phases of one deduplication: each maps a worker over tasks, all write below one draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from store.artifact import Draft, Receipt
from store.errors import ResourceError
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

    def map(
        self, phase: str, worker: type[Worker], kwargs: Mapping[str, object], tasks: Sequence[Task], doc_bytes: float = 0
    ) -> list[Receipt]:
        """Receipts of a phase, in the order of its tasks; the worker is given ``out`` beside ``kwargs``. No task: no receipt.

        Args:
            doc_bytes: what the tasks write for a document of theirs, if not less: ResourceError at once if that is more than is free.
        """
        if not tasks:
            return []
        self._check_room(phase, tasks, doc_bytes)
        job = Job(self.draft.identity.step, worker, {**kwargs, "out": self.out}, tasks, self.draft, unit="documents", phase=phase)
        done = self.executor.map(job)
        self.receipts.extend(done)
        return done

    def _check_room(self, phase: str, tasks: Sequence[Task], doc_bytes: float) -> None:
        free = self.out.free_bytes()
        if not doc_bytes or free is None:
            return
        needs = doc_bytes * sum(t.size for t in tasks if self.draft.receipt(t.key) is None)
        if needs > free:
            raise ResourceError(
                f"the disk is too small: {phase} writes {needs / 1e6:,.3f} MB and more, {free / 1e6:,.3f} MB are free",
                where=self.out.url,
                remedy="free space or choose another --out; finished work is kept",
            )  # fmt: skip


def shares(total: int, n: int) -> list[int]:
    """n whole numbers that differ by at most one and add up to ``total``: documents of a phase, spread over its tasks."""
    return [(i + 1) * total // n - i * total // n for i in range(n)]
