"""What every benchmark has: its command line and sections, what it records, and the memory of a process and its children."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import psutil

from cluster.machine import describe_machine, processor
from store.params import Json

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")

Figures = dict[str, Json]


class Measured(Protocol):
    """What the sections of a benchmark measure on: ``result`` names the file of figures, ``input`` says what was read."""

    result: str
    input: str


J = TypeVar("J", bound=Measured)


def run_sections(about: str, sections: Mapping[str, Callable[[J], Figures]], open_job: Callable[[str | None, bool, str], J]) -> None:
    """The command line of a benchmark in sections: run those asked for, print their figures, write the result unless --quick.

    Args:
        about: the script's docstring: its --help, and the notes in the result.
        sections: name -> function of the job; figures are called SECTION.FIGURE, or after what the section measures.
        open_job: (--data, --quick, --work or a temporary folder) -> the job.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/ and truth/; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="few pages, one round (about a minute); writes no result file")
    parser.add_argument("--only", help=f"sections, comma-separated, of {', '.join(sections)}")
    parser.add_argument("--work", help="folder for working files, and what of peers can be kept; default: a temporary one")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(sections)
    if unknown := [n for n in names if n not in sections]:
        sys.exit(f"there is no section {unknown[0]}; expected {', '.join(sections)}")
    with tempfile.TemporaryDirectory() as temporary:
        job = open_job(options.data, options.quick, options.work or temporary)
        figures: Figures = {}
        for name in names:
            found = sections[name](job)
            figures |= found
            for key, value in found.items():
                print(f"{key:<58} {value:.4g}" if isinstance(value, float) else f"{key:<58} {value}", flush=True)
    if not options.quick:
        print("written:", write_result(job.result, job.input, kept_figures(job.result, options.only) | figures, about))


def kept_figures(name: str, only: str | None) -> Figures:
    """The figures of the result file that a run of the sections ``only`` leaves alone: all but those named after the sections."""
    path = os.path.join(RESULTS, f"{name}.json")
    if not only or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return {k: v for k, v in json.load(file)["figures"].items() if k.split(".")[0] not in only.split(",")}


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
