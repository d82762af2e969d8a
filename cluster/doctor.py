"""Is this machine fit for a run? A list of checks, each with a finding in words and, where something is wrong, what to do.

"fail" means a run will fail; "warn" means it may, or will be slower or less than it could be. Checks run side by side, and Ray is
started in a process of its own, so the whole takes little longer than a start of Ray. Nothing is changed on the machine, except that a
missing language model is fetched into the cache.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.machine import GIB, cores_allowed, disk_free, gpus, memory_allowed, memory_available
from cluster.packages import fasttext_findings, out_of_range, requirements, torch_build
from store.errors import DefinemedError
from store.fs import Folder

Verdict = Literal["ok", "warn", "fail"]
HUB_TIMEOUT_S = 3.0
RAY_TIMEOUT_S = 60.0
PYTHON_MIN = (3, 11)
CLOCK_SKEW_S = 5.0


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    ok: Verdict
    finding: str
    remedy: str = ""


def diagnose(out: str) -> list[Check]:
    """Check this machine for runs that write below ``out``; always the same checks in the same order."""
    checks: Sequence[Callable[[], Check]] = (
        check_python, check_packages, check_fasttext, check_language_model, check_cpu_and_memory, lambda: check_disk(out),
        lambda: check_clock(out), check_shared_memory, check_gpu, check_numba_cache, check_loopback, check_ray, check_hub,
    )  # fmt: skip
    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(lambda check: check(), checks))


def check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return Check("Python", "fail", f"{found} is too old", f"use Python {'.'.join(map(str, PYTHON_MIN))} or newer")
    return Check("Python", "ok", found)


def check_packages() -> Check:
    wanted = requirements()
    wrong = [f"{w.name} {w.found or 'is missing'} (wants {w.wanted})" for w in out_of_range(wanted)]
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), "install the project again: pip install -e .")
    return Check("packages", "ok", f"{len(wanted)} requirements met")


def check_fasttext() -> Check:
    problems = fasttext_findings()
    if problems:
        remedy = "pip uninstall -y fasttext fasttext-wheel fasttext-predict; pip install --force-reinstall --no-deps fasttext-community"
        return Check("fastText", "fail", "; ".join(problems), remedy)
    return Check("fastText", "ok", "fasttext-community, unchanged")


def check_language_model() -> Check:
    from corpus.stages.lid_model import find_lid176

    try:
        return Check("language model", "ok", find_lid176())
    except DefinemedError as error:
        return Check("language model", "warn", f"{error.what}: the language stage cannot run", error.remedy or "")


def check_cpu_and_memory() -> Check:
    n_cores, total, free = cores_allowed(), memory_allowed() / GIB, memory_available() / GIB
    finding = f"{n_cores} cores, {free:.1f} of {total:.1f} GiB memory free"
    if total < 3:
        return Check("memory", "fail", finding, "Ray and one worker need about 3 GiB")
    if free < 2 + n_cores:
        return Check("memory", "warn", finding, "about 2 GiB and 1 GiB a core: end other programs, or set cluster.workers")
    return Check("memory", "ok", finding)


def check_disk(out: str) -> Check:
    free = disk_free(out)
    if free is None:
        return Check("disk", "ok", f"{out} is object storage")
    finding = f"{free / GIB:.1f} GiB free for {out}"
    if not os.access(_nearest(out), os.W_OK):
        return Check("disk", "fail", f"{out} cannot be written", "choose another --out")
    if free < GIB:
        return Check("disk", "fail", finding, "free space or choose another --out")
    if free < 20 * GIB:
        return Check(
            "disk", "warn", finding, "enough for a trial; a corpus needs about twice its input, a checkpoint 14 bytes a parameter"
        )
    return Check("disk", "ok", finding)


def check_clock(out: str) -> Check:
    """The clock against the newest of our own files, and against the file system of ``out`` (a server may keep another time)."""
    installed_s = Path(__file__).stat().st_mtime
    if time.time() < installed_s - CLOCK_SKEW_S:
        return Check(
            "clock", "warn", "the clock is behind the time these files were written", "set the clock: downloads fail otherwise"
        )
    here = _nearest(out) if Folder(out).is_local else tempfile.gettempdir()
    if not os.access(here, os.W_OK):
        return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M %Z"))
    with tempfile.NamedTemporaryFile(dir=here, prefix=".definemed-") as file:
        skew_s = abs(os.fstat(file.fileno()).st_mtime - time.time())
    if skew_s > CLOCK_SKEW_S:
        return Check("clock", "warn", f"the file system of {here} is {skew_s:.0f} s off this machine's clock", "synchronise the clocks")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M %Z"))


def check_shared_memory() -> Check:
    shm = "/dev/shm"
    if not os.path.isdir(shm):
        return Check("shared memory", "warn", f"{shm} does not exist: Ray uses files instead", "docker run --shm-size=1g")
    free = disk_free(shm) or 0
    if free < 128 << 20:
        return Check("shared memory", "warn", f"{free >> 20} MiB in {shm}: Ray uses files instead", "docker run --shm-size=1g")
    return Check("shared memory", "ok", f"{free / GIB:.1f} GiB in {shm}")


def check_gpu() -> Check:
    found, build = gpus(), torch_build()
    if build is None:
        return Check("GPU", "fail", "torch is not installed", "pip install torch")
    version, cuda = build
    if not found:
        return Check("GPU", "ok", f"none: training and evaluation use the processor (torch {version}); small models only")
    names = ", ".join(f"{g.name} {g.memory_bytes / GIB:.0f} GiB" for g in found)
    if cuda is None:
        remedy = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
        return Check("GPU", "warn", f"{names}, but torch {version} is built for the processor only", remedy)
    return Check("GPU", "ok", f"{names}, driver {found[0].driver}, torch {version} for CUDA {cuda}")


def check_numba_cache() -> Check:
    """Where compiled kernels are kept; without such a place every worker compiles anew, about half a minute each time."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    package = Path(__file__).resolve().parent.parent / "corpus"
    places = [Path(named)] if named else [package, Path.home() / ".cache"]
    for place in places:
        if os.access(_nearest(str(place)), os.W_OK):
            return Check("kernel cache", "ok", str(place if named or place != package else package / "__pycache__"))
    tried = ", ".join(map(str, places))
    return Check("kernel cache", "warn", f"not writable: {tried}", "set NUMBA_CACHE_DIR to a writable folder")


def check_loopback() -> Check:
    """Can this process talk to itself, as Ray's processes do?"""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
            pass
    except OSError as error:
        return Check("loopback", "fail", f"no connection on 127.0.0.1 ({error})", "allow loopback in the firewall or container")
    return Check("loopback", "ok", "ports can be opened on 127.0.0.1")


def check_ray() -> Check:
    """Start a local Ray, or knock at the head that is running, in another process."""
    code = (
        "from cluster.session import open_session\n"
        "from store.errors import DefinemedError\n"
        "try:\n"
        "    with open_session('auto') as s: print(s.describe())\n"
        "except DefinemedError as e: print(e.sentence()); raise SystemExit(2)"
    )
    root = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)}
    try:
        ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=RAY_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Check("Ray", "fail", f"does not start within {RAY_TIMEOUT_S:.0f} s", "look at memory and the firewall, then try again")
    said = (ran.stdout.strip() or ran.stderr.strip()).splitlines()
    if ran.returncode:
        return Check("Ray", "fail", said[-1] if said else f"ended with code {ran.returncode}", "see the finding")
    return Check("Ray", "ok", said[-1])


def check_hub() -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Check("Hugging Face hub", "ok", "switched off (HF_HUB_OFFLINE): models and data come from folders")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_TIMEOUT_S):
            return Check("Hugging Face hub", "ok", f"{address} answers")
    except urllib.error.HTTPError:
        return Check("Hugging Face hub", "ok", f"{address} answers")  # it refuses HEAD, but it is there
    except (OSError, ValueError):
        remedy = "give models and data as folders and set HF_HUB_OFFLINE=1, or set HF_ENDPOINT to your mirror"
        return Check("Hugging Face hub", "warn", f"{address} does not answer", remedy)


def _nearest(path: str) -> str:
    """The path, or the first of its parents that exists."""
    here = Path(Folder(path).path("")).absolute()
    while not here.exists():
        here = here.parent
    return str(here)
