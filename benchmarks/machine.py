"""What every benchmark records: the machine, the versions, the figures; and the memory of a process and its children."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import psutil

from cluster.machine import describe_machine, processor
from store.params import Json

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


def machine_name() -> str:
    """Processor, cores, memory: one line."""
    facts = describe_machine(".")
    return f"{processor()}, {facts['n_cores']} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"


def write_result(name: str, source: str, figures: Mapping[str, Json], notes: str) -> str:
    """Write benchmarks/results/NAME.json and return its path."""
    versions = describe_machine(".")["versions"]
    body = {"name": name, "machine": machine_name(), "versions": versions, "input": source, "figures": dict(figures), "notes": notes}
    path = os.path.join(RESULTS, f"{name}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1, sort_keys=True)
        file.write("\n")
    return path


class Watched:
    """A subprocess whose peak resident memory, children included, is sampled while it runs.

    Attributes:
        wall_s: seconds from start to end.
        peak_bytes: largest sum over the process tree, at any sample, of the memory that only one process has (USS).
    """

    def __init__(self, command: Sequence[str], log: str) -> None:
        self.wall_s, self.peak_bytes, self.largest_worker_bytes = 0.0, 0, 0
        begin = time.monotonic()
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            thread = threading.Thread(target=self._sample, daemon=True)
            thread.start()
            self.returncode = self.process.wait()
        self.wall_s = time.monotonic() - begin
        thread.join(timeout=2)

    def _sample(self) -> None:
        root = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            total = 0
            try:
                for child in [root, *root.children(recursive=True)]:
                    try:
                        used = child.memory_full_info().uss
                        total += used
                        if child.name().startswith("ray::"):
                            self.largest_worker_bytes = max(self.largest_worker_bytes, used)
                    except (psutil.NoSuchProcess, psutil.AccessDenied):
                        continue
            except psutil.NoSuchProcess:
                return
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(0.5)
