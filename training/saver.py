"""Writing a checkpoint beside the training: a copy of the state is taken between two steps, a thread writes it.

The step that follows waits for the copy only. At most one write is in flight: a second waits for the first. The thread speaks to its
peers through a process group of its own (gloo), so its messages never mix with the gradients'. What goes wrong in it is kept and raised
in the training thread, by ``failed`` and ``wait``.

Memory: one copy of this process's weights and moments on the host (pinned with CUDA), kept from save to save, and one file being
serialised (FILE_BYTES).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from training.parallel import Gang

FILE_BYTES = 256 << 20  # a file is serialised in one piece while the interpreter waits: short pauses, little memory


class Saver:
    """Runs one write at a time, in a thread of its own or, without ``background``, in the caller's."""

    def __init__(self, gang: Gang, *, background: bool) -> None:
        self._gang, self._background = gang, background
        self.group = dist.new_group(backend="gloo") if gang.size > 1 else None
        self._stager: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, state: dict[str, Tensor], work: Callable[[dict[str, Tensor]], None]) -> None:
        """Copy ``state`` and hand the copy to ``work`` in the thread; nothing may be in flight."""
        if not self._background:
            self._run(state, work)
            return
        self._thread = threading.Thread(target=self._run, args=(self._copy(state), work), name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether the last write went wrong; ``wait`` raises how."""
        return self._error is not None

    def wait(self) -> None:
        """Until nothing is in flight; raises what went wrong in the write."""
        self.join()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def join(self, seconds: float | None = None) -> None:
        """Until nothing is in flight, or ``seconds`` have passed; raises nothing."""
        if self._thread is not None:
            self._thread.join(seconds)
            if not self._thread.is_alive():
                self._thread = None

    def _run(self, copy: dict[str, Tensor], work: Callable[[dict[str, Tensor]], None]) -> None:
        try:
            work(copy)
        except BaseException as error:  # raised again by wait, in the training thread
            self._error = error

    def _copy(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        if self._stager is None:
            cuda = self._gang.device.type == "cuda"
            self._stager = DefaultStager(
                StagingOptions(use_pinned_memory=cuda, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=cuda)
            )
        staged: dict[str, Tensor] = self._stager.stage(state)
        return staged


def write_shards(path: str, state: dict[str, Tensor], group: dist.ProcessGroup | None) -> None:
    """Each process writes its shards of ``state`` as safetensors into ``path``. OSError as a process met it, on all processes."""
    writer = dcp.HuggingFaceStorageWriter(path=path, fqn_to_index_mapping=_files(state), save_distributed=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # a single process saves as a single process
        try:
            dcp.save(state, storage_writer=writer, process_group=group, no_dist=group is None)
        except CheckpointException as error:
            causes = [cause for cause, _ in error.failures.values()]
            raise next((c for c in causes if isinstance(c, OSError)), causes[0]) from error


def read_shards(path: str, state: dict[str, Tensor], group: dist.ProcessGroup | None) -> None:
    """Fill ``state`` in place from safetensors below ``path``; each process reads only the slices it holds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.load(state, storage_reader=dcp.HuggingFaceStorageReader(path=path), process_group=group, no_dist=group is None)


def n_bytes(state: dict[str, Tensor]) -> int:
    """Bytes of the whole state, over all processes."""
    return sum(t.numel() * t.element_size() for t in state.values())


def _files(state: dict[str, Tensor]) -> dict[str, int]:
    """Tensor name to the number of its file, from 1; the same on every process, because sizes are those of whole tensors."""
    out, number, filled = {}, 1, 0
    for name, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if filled and filled + size > FILE_BYTES:
            number, filled = number + 1, 0
        out[name], filled = number, filled + size
    return out
