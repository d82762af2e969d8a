"""How a training gang learns that it should save: SIGTERM to the driver or to a worker, or a machine of the gang about to be taken.

Ray Train runs the training function in a thread, where no signal can be caught, and Ray's own handler ends a worker at SIGTERM. So the
controller installs another one in each worker's main thread. A driver that gets SIGTERM leaves word in a file of the state folder, at
which the workers look once a second. The same file names the run that owns the folder: a gang whose driver died, and whose command was
given again meanwhile, sees that it is no longer the owner and ends without writing.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray.train
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import WorkerGroup

from store.errors import StepError
from store.fs import Folder

OWNER, STOP = "owner", "stop"
LOOK_S = 1.0
_terminated = threading.Event()  # of this worker


class CatchSigterm(WorkerGroupCallback):
    """Installs the handler in every worker, also of a restarted gang. (Ray passes callbacks of this developer interface on.)"""

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        worker_group.execute(_catch)


def _catch() -> None:
    _terminated.clear()
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


class Signals:
    """A worker's view. ``stop`` is asked before every step; ``preempted`` by all workers at the same steps, every few seconds."""

    def __init__(self, state_dir: str, owner: str) -> None:
        self._folder, self._owner = state_dir, owner
        self._looked, self._said = 0.0, ""
        self._seen: object = None

    def stop(self) -> bool:
        """Whether this worker or the driver got SIGTERM; StepError if another run owns the state folder now."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked, self._said = now, _word(self._folder)
        owner, _, word = self._said.partition(" ")
        if owner != self._owner:
            raise StepError("another run has taken over this training", where=self._folder)
        return word == STOP or _terminated.is_set()

    def preempted(self) -> bool:
        """Whether Ray says, for the first time, that machines of the gang will be taken."""
        info = ray.train.get_preemption_info()
        new = info is not None and info != self._seen
        self._seen = info
        return new


@contextmanager
def owned(state_dir: str, owner: str) -> Iterator[None]:
    """The driver's part: own the folder, and while open pass SIGTERM on to the workers instead of dying of it."""
    folder = Folder(state_dir)
    folder.make()
    folder.write_bytes(OWNER, owner.encode())
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: _leave_word(folder, owner))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_word(folder: Folder, owner: str) -> None:
    folder.write_bytes(OWNER, f"{owner} {STOP}".encode())


def _word(state_dir: str) -> str:
    with open(os.path.join(state_dir, OWNER), encoding="utf-8") as file:
        return file.read()
