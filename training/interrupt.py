"""What may interrupt a run between two steps: SIGTERM, the caller, a machine about to be taken away.

A stop saves and returns. A machine about to be taken (preemption) saves and goes on: whoever took the machine ends the process, and
whoever started the gang starts it again. Every process must decide alike, so the flags are summed over the gang once a step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import numpy as np

from training.parallel import Gang

ASK_S = 5.0  # how often the cluster is asked; it learns of a preemption about as often


class Interruptions:
    """A context: catches SIGTERM while open. Only a process's main thread may catch signals; elsewhere the caller's flag is all.

    Args:
        should_stop: asked before every step on every process.
        preempted: asked by all processes at the same steps, every ASK_S seconds or so; it may be a collective. True saves.
    """

    def __init__(self, should_stop: Callable[[], bool] | None, preempted: Callable[[], bool] | None) -> None:
        self._should_stop, self._preempted = should_stop, preempted
        self._asked, self._before = threading.Event(), None
        self._last = time.monotonic()

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._asked.set())  # type: ignore[assignment,func-returns-value]
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def look(self, gang: Gang, *, failed: bool) -> tuple[bool, bool, bool]:
        """(stop, save and go on, some process failed to write): the same on every process, which all call it before each step."""
        stop = self._asked.is_set() or (self._should_stop is not None and self._should_stop())
        due = self._preempted is not None and time.monotonic() - self._last >= ASK_S
        stop_any, due_any, failed_any = gang.sum(np.array([stop, due, failed], dtype=np.float64)) > 0
        save = False
        if due_any and self._preempted is not None:
            save, self._last = gang.any(self._preempted()), time.monotonic()
        return bool(stop_any), save, bool(failed_any)
