"""What this machine has: cores, memory, disk, GPUs, versions. Asked of the system, without importing torch or starting Ray.

In a container the cgroup says what is allowed, not /proc/cpuinfo: a node of 64 cores may allow this process two.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

from store.fs import Folder
from store.params import Json

CGROUP = Path("/sys/fs/cgroup")
PACKAGES = ("definemed", "ray", "torch", "transformers", "accelerate", "mergekit", "lm-eval", "pyarrow", "polars", "numba", "numpy")
GIB = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it."""

    name: str
    memory_bytes: int
    driver: str


def describe_machine(out: str) -> dict[str, Json]:
    """The machine for a run record: no host name, no user name, no address."""
    disk = disk_free(out)
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "python": platform.python_version(),
        "n_cores": cores_allowed(),
        "memory_bytes": memory_allowed(),
        "disk_free_bytes": disk,
        "gpus": [dict(asdict(g)) for g in gpus()],
        "versions": dict(versions().items()),
    }


def cores_allowed(cgroup: Path = CGROUP) -> int:
    """Cores this process may use: the smaller of its affinity mask and its cgroup's quota (v2 or v1), at least one."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if quota := _words(cgroup / "cpu.max"):
        if quota[0] != "max":
            allowed = min(allowed, int(quota[0]) / int(quota[1]))
    elif (quota := _words(cgroup / "cpu/cpu.cfs_quota_us")) and int(quota[0]) > 0:
        allowed = min(allowed, int(quota[0]) / int(_words(cgroup / "cpu/cpu.cfs_period_us")[0]))
    return max(1, math.floor(allowed))


def memory_allowed(cgroup: Path = CGROUP) -> int:
    """Bytes of memory this process may use: the machine's, or its cgroup's limit (v2 or v1) if that is less."""
    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _words(cgroup / name)
        if limit and limit[0] != "max":
            return min(total, int(limit[0]))
    return total


def memory_available() -> int:
    """Bytes of memory free for new work now."""
    return min(memory_allowed(), int(psutil.virtual_memory().available))


def disk_free(path: str) -> int | None:
    """Bytes free where ``path`` is or would be created; None for object storage."""
    folder = Folder(path)
    if not folder.is_local:
        return None
    here = Path(folder.path("")).absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def gpus() -> list[Gpu]:
    """NVIDIA GPUs that the driver shows; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer has no GPU to give; the doctor compares with torch's build
    return [parse_gpu(line) for line in found.splitlines() if line.strip()]


def parse_gpu(line: str) -> Gpu:
    """A line of nvidia-smi's CSV: name, MiB, driver."""
    name, mib, driver = (part.strip() for part in line.split(","))
    return Gpu(name, int(mib) << 20 if mib.isdigit() else 0, driver)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of the packages that matter, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
