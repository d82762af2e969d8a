"""What a person watches while a run goes: speed, utilisation, waiting, memory, beside loss, gradient norm and learning rate.

The first process turns every step's record into figures and hands them to sinks: timing.jsonl, TensorBoard if asked, and whatever the
caller gives (cluster gives Ray's metrics). None of it bears identity and none of it enters an artifact's files: event files and
profiles lie in the watch folder, timing.jsonl in the state folder, and a summary goes into the manifest's provenance.
"""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from store.errors import InputError, ResourceError
from store.params import Json
from store.plan import PackPlan
from training.mfu import TERA, find_gpu, mfu, model_flops
from training.profile import Profiler
from training.shape import ModelShape

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from training.log import RunLog
    from training.params import TrainParams
    from training.step import StepRecord

log = logging.getLogger(__name__)

Figures = Mapping[str, float | None]
Sink = Callable[[int, Figures], None]
"""Takes (steps done, figures by name); None where a figure is not known."""
N_CURVE = 200


@dataclass
class Watch:
    """The step hook that watches. On processes other than the first it does nothing."""

    plan: PackPlan
    shape: ModelShape | None
    peak_flops: float | None
    n_devices: int
    device: torch.device
    sinks: list[Sink] = field(default_factory=list)
    profiler: Profiler | None = None
    active: bool = True
    done: int = 0
    closers: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def open(
        cls, params: TrainParams, config: Mapping[str, object], plan: PackPlan, *, n_devices: int, device: torch.device, folder: str,
        timing: RunLog, observe: Sink | None, active: bool,
    ) -> Watch:  # fmt: skip
        """A watch for this process.

        Args:
            config: of the transformers model; a family whose shape is not known has no MFU.
            folder: gets tensorboard/ and profile/ if asked for.
            timing: the log of times; written by the first process.
            observe: called on the first process with every step's figures and every held-out score.
        """
        watch = cls(plan, _shape(config), peak_of(device, params.peak_tflops), n_devices, device, active=active)
        if not active:
            return watch
        watch.sinks.append(lambda step, figures: timing.write({"step": step, **_timing(figures)}) if "elapsed_s" in figures else None)
        if observe is not None:
            watch.sinks.append(observe)
        if params.tensorboard:
            watch._write_events(os.path.join(folder, "tensorboard"))
        if params.profile_steps is not None:
            watch.profiler = Profiler(*params.profile_steps, os.path.join(folder, "profile"))
        return watch

    def begin(self, done: int) -> None:
        """``done`` steps are behind: an earlier process took them."""
        self.done = done
        if self.profiler is not None:
            self.profiler.after(done)

    def accepts(self, step: int, loss: float, grad_norm: float, rows: object) -> bool:  # noqa: ARG002
        """A watch refuses no step."""
        return True

    def after(self, record: StepRecord) -> None:
        """Hand the step's figures to the sinks."""
        self.done = record.step
        if not self.active:
            return
        if self.profiler is not None:
            self.profiler.after(record.step)
        self._tell(record.step, self.figures(record))

    def scores(self, done: int, figures: Mapping[str, Json]) -> None:
        """Hand held-out scores ("heldout/NAME": bits per byte) to the sinks."""
        found = {k: float(str(v)) for k, v in figures.items() if k.startswith("heldout/") and v is not None}
        if self.active and found:
            self._tell(done, found)

    def figures(self, record: StepRecord) -> dict[str, float | None]:
        """A step in figures: per second of the whole gang, bytes of this process."""
        busy = max(record.seconds, 1e-9)
        return {
            "loss": record.loss, "lr": record.lr, "grad_norm": record.grad_norm, "skipped": float(not record.taken),
            "elapsed_s": record.seconds, "tokens_per_s": record.n_tokens / busy, "positions_per_s": record.n_positions / busy,
            "read_s": record.data_wait_s, "data_wait": record.data_wait_s / busy, "mfu": self._mfu(record, busy),
            "memory_bytes": float(memory_bytes(self.device)),
        }  # fmt: skip

    def close(self) -> None:
        """Write what is still open; called however the run ends."""
        if self.profiler is not None:
            self.profiler.close(self.done)
        for close in self.closers:
            close()

    def _mfu(self, record: StepRecord, seconds: float) -> float | None:
        if self.shape is None or self.peak_flops is None:
            return None
        ends = self.plan.row_offsets
        pieces = np.concatenate([self.plan.length[ends[r] : ends[r + 1]] for r in record.rows.tolist()])
        return mfu(model_flops(self.shape, pieces.astype(np.int64)), seconds, self.peak_flops, self.n_devices)

    def _tell(self, step: int, figures: Figures) -> None:
        for sink in self.sinks:
            sink(step, figures)

    def _write_events(self, folder: str) -> None:
        writer: list[SummaryWriter] = []
        open_writer = _writer_class()

        def write(step: int, figures: Figures) -> None:
            if not writer:  # opened late: steps after a resume replace what an earlier process wrote of them
                writer.append(open_writer(folder, purge_step=step))
            for name, value in figures.items():
                if value is not None:
                    writer[0].add_scalar(name if "/" in name else f"train/{name}", value, step)

        self.sinks.append(write)
        self.closers.append(lambda: writer[0].close() if writer else None)


def peak_of(device: torch.device, peak_tflops: float | None) -> float | None:
    """Peak of one device in FLOP/s: as given, else of its kind; None if neither is known."""
    if peak_tflops is not None:
        return peak_tflops * TERA
    gpu = find_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if gpu is None and device.type == "cuda":
        log.warning("the peak of %s is not known, so there is no MFU: give peak_tflops", torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.peak_flops


def memory_bytes(device: torch.device) -> int:
    """On CUDA the most that torch had allocated at once so far; on a CPU the process's resident memory now."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else int(psutil.Process().memory_info().rss)


def timing_summary(lines: Sequence[Mapping[str, object]]) -> dict[str, Json]:
    """What a manifest's provenance says of the times: medians, and a curve of at most 200 points of (step, tokens per second)."""
    if not lines:
        return {}
    spent = sum(_number(line, "elapsed_s") for line in lines)
    out: dict[str, Json] = {
        "tokens_per_s": round(_median(lines, "tokens_per_s"), 1),
        "data_wait_share": round(sum(_number(line, "read_s") for line in lines) / spent, 5) if spent else 0.0,
        "n_timed_steps": len(lines),
    }
    known = [line for line in lines if line.get("mfu") is not None]
    if known:
        out["mfu"] = round(_median(known, "mfu"), 4)
    sized = [int(_number(line, "memory_bytes")) for line in lines if line.get("memory_bytes") is not None]
    if sized:
        out["peak_memory_bytes"] = max(sized)
    chunks = np.array_split(np.arange(len(lines)), min(N_CURVE, len(lines)))
    out["speed_curve"] = [
        [int(_number(lines[int(c[-1])], "step")), round(_median([lines[i] for i in c], "tokens_per_s"), 1)] for c in chunks
    ]
    return out


def _median(lines: Sequence[Mapping[str, object]], key: str) -> float:
    return statistics.median(_number(line, key) for line in lines)


def _number(line: Mapping[str, object], key: str) -> float:
    return float(str(line[key]))


def _timing(figures: Figures) -> dict[str, float | None]:
    names = ("elapsed_s", "tokens_per_s", "positions_per_s", "read_s", "mfu", "memory_bytes")
    return {name: figures[name] for name in names}


def _shape(config: Mapping[str, object]) -> ModelShape | None:
    try:
        return ModelShape.from_config(config)
    except InputError as error:
        log.info("no MFU: %s", error.sentence())
        return None


def _writer_class() -> Callable[..., SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ResourceError("tensorboard is not installed", where="train.tensorboard",
                            remedy="pip install 'definemed[tensorboard]', or leave tensorboard off") from error  # fmt: skip
    return SummaryWriter
