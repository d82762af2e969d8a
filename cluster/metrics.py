"""Counters of finished work, and gauges of a training, in Ray's metrics, for Prometheus and Grafana.

Exposed on every node's metrics port as ``ray_definemed_documents_total``, ``…_bytes_total``, ``…_tasks_total`` and
``…_busy_seconds_total``, with tags ``step``, ``outcome`` and ``reason``. Ray adds its own label for each worker: aggregate with
``sum by (step, outcome, reason)``. Tags come from the names of steps, stages and reasons, never from data.

Counters are rates to watch, not results: a worker that is killed takes its last seconds with it. The manifest has the truth.

A training's first worker sets gauges ``ray_definemed_train_<figure>`` after every step (loss, lr, grad_norm, tokens_per_s, mfu,
data_wait, memory_bytes, step; training/watch.py says what they are) with tag ``model``, and ``ray_definemed_train_heldout`` (bits per
byte) with tags ``model`` and ``set`` after every evaluation. Processes report to the port every ten seconds (Ray's
``metrics_report_interval_ms``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from ray.util.metrics import Counter, Gauge

from store.artifact import Receipt

TAGS = ("step", "outcome", "reason")
OUTCOMES = ("read", "kept", "dropped", "quarantined")


@dataclass(frozen=True)
class Increment:
    """One addition to one counter."""

    metric: str
    outcome: str
    reason: str
    value: float


def increments(receipt: Receipt, elapsed_s: float) -> Iterator[Increment]:
    """What a finished task adds. Counts of other names than the four outcomes are the step's own and are not exported."""
    yield Increment("tasks", "done", "", 1)
    yield Increment("busy_seconds", "done", "", elapsed_s)
    yield Increment("bytes", "read", "", receipt.counts.get("read_bytes", 0))
    yield Increment("bytes", "written", "", sum(f.size_bytes for f in receipt.files))
    for name, n in sorted(receipt.counts.items()):
        outcome, _, reason = name.partition("/")
        if outcome in OUTCOMES:
            yield Increment("documents", outcome, reason, n)


class TaskMetrics:
    """The counters of one worker process."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.counters = {
            "tasks": Counter("definemed_tasks", "Tasks finished or failed", TAGS),
            "busy_seconds": Counter("definemed_busy_seconds", "Seconds spent in tasks", TAGS),
            "bytes": Counter("definemed_bytes", "Bytes of text read, bytes of files written", TAGS),
            "documents": Counter("definemed_documents", "Documents read, kept, dropped and quarantined", TAGS),
        }

    def finished(self, receipt: Receipt, elapsed_s: float) -> None:
        """Count a finished task."""
        for change in increments(receipt, elapsed_s):
            self._add(change)

    def failed(self, kind: str, elapsed_s: float) -> None:
        """Count an attempt that failed; ``kind`` is the name of the exception's class."""
        self._add(Increment("tasks", "failed", kind, 1))
        self._add(Increment("busy_seconds", "failed", kind, elapsed_s))

    def _add(self, change: Increment) -> None:
        if change.value > 0:  # Ray refuses zero
            self.counters[change.metric].inc(change.value, {"step": self.step, "outcome": change.outcome, "reason": change.reason})


GAUGES = {
    "step": "Optimizer steps done", "loss": "Nats per target of the last step", "lr": "Learning rate of the last step",
    "grad_norm": "Global gradient norm before clipping", "tokens_per_s": "Tokens of the last step per second, padding not counted",
    "mfu": "Share of the devices' peak that the last step needed", "data_wait": "Share of the last step spent waiting for rows",
    "memory_bytes": "Peak memory of the device, or resident memory of the process on a CPU",
}  # fmt: skip


REPEAT_S = 1.0  # the shortest interval at which Ray reports


class TrainMetrics:
    """The gauges of one training, set by its first worker. A training.watch.Sink and a context manager.

    Ray forgets a gauge that is not set again within two of its reporting intervals. A step may take longer, and an evaluation comes
    once in hours: a thread sets all values again every second until the context ends.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.gauges = {name: Gauge(f"definemed_train_{name}", about, ("model",)) for name, about in GAUGES.items()}
        self.heldout = Gauge("definemed_train_heldout", "Held-out bits per byte", ("model", "set"))
        self._shown: dict[str, tuple[Gauge, float, dict[str, str]]] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="train-metrics", daemon=True)

    def __call__(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Show a step's figures or scores."""
        for name, value in {"step": float(step), **figures}.items():
            if value is not None and name in self.gauges:
                self._show(name, self.gauges[name], value, {"model": self.model})
            elif value is not None and name.startswith("heldout/"):
                self._show(name, self.heldout, value, {"model": self.model, "set": name.removeprefix("heldout/")})

    def __enter__(self) -> TrainMetrics:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _show(self, name: str, gauge: Gauge, value: float, tags: dict[str, str]) -> None:
        with self._lock:
            self._shown[name] = gauge, value, tags
            gauge.set(value, tags)

    def _repeat(self) -> None:
        while not self._over.wait(REPEAT_S):
            with self._lock:
                for gauge, value, tags in self._shown.values():
                    gauge.set(value, tags)
