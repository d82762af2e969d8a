"""The processes that train together: who am I, which device, how the model is spread, and sums over all.

A gang is whatever started the processes: nothing (one process), ``torchrun``, or Ray Train, which has opened the process group already.
accelerate finds that out. ``none`` replicates the model (DistributedDataParallel), ``full`` shards it by layer (FSDP2's fully_shard).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from store.errors import ResourceError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.model import PackedLM
    from training.params import TrainParams


@dataclass(frozen=True)
class Gang:
    """This process's view of the gang."""

    accelerator: Accelerator
    sharded: bool

    @classmethod
    def join(cls, params: TrainParams) -> Gang:
        """Join the gang that the environment describes. Precision is handled by the model, so accelerate is left at fp32."""
        from accelerate import Accelerator

        _open_restarted_group()
        # Without cpu=True accelerate takes processes on a machine without GPUs for independent ones: all would write one folder.
        gang = cls(Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available()), params.sharding == "full")
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if gang.size != started:
            raise ResourceError(
                f"{started} processes were started, {gang.size} found each other",
                where="training",
                remedy="check MASTER_ADDR and MASTER_PORT, and that every process sees the same kind of device",
            )
        return gang

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def shards(self) -> bool:
        """Whether the model is cut up over the processes."""
        return self.sharded and self.size > 1

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def spread(self, packed: PackedLM) -> nn.Module:
        """Move the model to the device and wrap it for this gang; parameters stay reachable by the same names below the wrapper."""
        if self.shards:
            return _shard(packed, self.device)
        packed.to(self.device)
        return packed if self.size == 1 else self.accelerator.prepare_model(packed)

    def last_backward(self, wrapped: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes only in the last backward pass of a step."""
        if self.size == 1:
            return nullcontext()
        if self.shards:
            wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(wrapped)

    def sum(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Element-wise sum over the gang, the same on every process."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(values.copy()).to(self.device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all processes get the same answer."""
        return bool(self.sum(np.array([float(flag)]))[0] > 0)

    def wait(self) -> None:
        """Barrier."""
        if self.size > 1:
            dist.barrier()


def _open_restarted_group() -> None:
    """Open the process group of a gang that torchrun started again on one machine, with keys of this attempt; accelerate then uses it.

    torchrun keeps one key-value store over its restarts, and torch takes the same keys in it each time: a process that is faster than
    its peer reads the address of the peer's dead predecessor, and the gang fails again. Restarts are counted by machine, so machines
    may not agree on the attempt: for several see docs/training.md.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not one_machine or not kept or dist.is_initialized():
        return
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"attempt-{attempt}", store)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", store=store, rank=rank, world_size=size)


def _shard(packed: PackedLM, device: torch.device) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=packed.dtype, reduce_dtype=torch.float32, output_dtype=torch.float32)
    for layer in packed.model.get_decoder().layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    return fully_shard(packed, mesh=mesh, mp_policy=policy)


def unwrap(wrapped: nn.Module) -> PackedLM:
    """The PackedLM below DistributedDataParallel (fully_shard changes the class in place and needs no unwrapping)."""
    return wrapped.module if isinstance(wrapped, nn.parallel.DistributedDataParallel) else wrapped  # type: ignore[return-value]


def total_norm(parameters: list[Tensor]) -> Tensor:
    """Global L2 norm of the gradients; a plain scalar also when they are sharded."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16; others emulate it: the demo took ten times the processor time of float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def reproducible(device: torch.device, cpu_threads: int) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads; what was set before is restored."""
    threads, were = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill, grad = torch.utils.deterministic.fill_uninitialized_memory, torch.is_grad_enabled()
    if device.type == "cpu":
        torch.set_num_threads(cpu_threads)
        keep_freed_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Deterministic mode also fills every fresh tensor with NaN, which only costs time where nothing reads before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(were)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.set_grad_enabled(grad)
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks. A step frees and takes the same tens of megabytes; returning them to the kernel each time
    costs page faults: 11.7 k against 17.4 k tokens/s on a 2 M-parameter model."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)
