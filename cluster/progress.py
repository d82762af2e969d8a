"""What a person sees while a step runs: a live line in a terminal, a plain line every ten seconds in a log.

``ProgressDisplay`` is a store.executor.Watcher and a context manager. A line says the step, how much of how much is done, the rate,
the time left, and, where a step keeps some documents and drops others, the share kept so far. A step of several phases has a line for
each: what is done and left is the phase's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from store.executor import Progress

LOG_EVERY_S = 10.0


@dataclass
class ProgressDisplay:
    """Shows the progress of one step after another.

    Attributes:
        console: where to; default: stderr.
        log_every_s: seconds between lines where the console is not a terminal. The end of a step always has its line.
    """

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    log_every_s: float = LOG_EVERY_S
    _bars: Bars | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _said_s: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> ProgressDisplay:
        if self.console.is_terminal:
            columns = (
                TextColumn("     {task.description}"),
                BarColumn(24),
                MofNCompleteColumn(),
                TextColumn("[dim]{task.fields[detail]}"),
            )
            self._bars = Bars(*columns, console=self.console, transient=True, refresh_per_second=4)
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def __call__(self, now: Progress) -> None:
        """Show this moment."""
        if self._bars is None:
            self._log(now)
            return
        if now.name not in self._tasks:
            self._tasks[now.name] = self._bars.add_task(now.name, total=now.total, detail="")
        task = self._tasks[now.name]
        self._bars.update(task, completed=now.done, total=now.total, detail=detail(now))
        if now.done >= now.total:  # the command line prints a line of its own for a finished step
            self._bars.remove_task(self._tasks.pop(now.name))

    def _log(self, now: Progress) -> None:
        clock, ended = time.monotonic(), now.done >= now.total
        said = self._said_s.get(now.name)
        if said is None and not ended:
            self._said_s[now.name] = clock  # the first line comes when there is something to say
        elif ended or (said is not None and clock - said >= self.log_every_s):
            self._said_s[now.name] = clock
            self.console.print(f"     {line(now)}", markup=False)
        if ended:
            self._said_s.pop(now.name, None)


def line(now: Progress) -> str:
    """A moment as one line of text."""
    share = f" ({now.done / now.total:.0%})" if now.total else ""
    rest = detail(now)
    return f"{now.name}: {now.done:,} of {now.total:,} {now.unit}{share}" + (f", {rest}" if rest else "")


def detail(now: Progress) -> str:
    """Rate, time left or taken, share kept, what an earlier run had done."""
    parts = []
    if now.rate_per_s > 0:
        parts.append(rate(now.rate_per_s, now.unit))
    if now.done >= now.total:
        parts.append(f"{duration(now.elapsed_s)}")
    elif now.left_s is not None:
        parts.append(f"{duration(now.left_s)} left")
    if (share := kept_share(now)) is not None:
        parts.append(f"{share:.1%} kept")
    if now.resumed:
        parts.append(f"{now.resumed:,} from an earlier run")
    return ", ".join(parts)


def kept_share(now: Progress) -> float | None:
    """Kept of read documents so far; None where the step does not count them."""
    read = now.counts.get("read", 0)
    return now.counts.get("kept", 0) / read if read and "kept" in now.counts else None


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(per_s: float, unit: str) -> str:
    """80 documents/s, 2.5 documents/s, 12 models/h: in the largest time that gives at least one, or an hour."""
    value, time_unit = next(((per_s * n, name) for n, name in ((1, "s"), (60, "min")) if per_s * n >= 1), (per_s * 3600, "h"))
    return f"{value:,.0f} {unit}/{time_unit}" if value >= 10 else f"{value:.1f} {unit}/{time_unit}"
