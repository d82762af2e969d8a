"""Ends what a killed driver's local Ray leaves behind. Run as a script, beside the session it guards.

The kernel ends Ray's servers with the process that started them. Two of their children, the agents, then try for 60 seconds, a number
fixed in Ray, to report that to a control store which is gone. The guardian reads a pipe whose other end the driver holds: a byte says
that the session ended in order; end of file says that the driver is dead, and Ray's processes that hold a log of the session open are
ended. (Their environment would be the plainer mark, but Ray overwrites it with their titles.) It needs /proc; elsewhere the agents end
by themselves after their minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

GRACE_S = 2.0
TITLE = "ray::"


@contextlib.contextmanager
def guarded(folder: str) -> Iterator[None]:
    """Run a guardian of the Ray whose temporary folder this is."""
    # In a session of its own, so that Ctrl-C in the terminal reaches only the driver; -S -E: 8 MB and 20 ms.
    command = [sys.executable, "-S", "-E", os.path.abspath(__file__), os.path.realpath(folder)]
    # Its own outputs are closed, or whoever reads the driver's would wait for the guardian too.
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        assert process.stdin is not None
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # somebody ended the guardian first
                process.stdin.write(b"x")
                process.stdin.flush()


def end_ray_of(folder: str) -> list[int]:
    """Kill Ray's processes that have a file below ``folder`` open; their ids."""
    ended = []
    for pid in os.listdir("/proc") if os.path.isdir("/proc") else []:
        with contextlib.suppress(OSError):  # no process, it has just ended, or it is somebody else's
            if _title(pid).startswith(TITLE) and any(name.startswith(f"{folder}/") for name in _open_files(pid)):
                os.kill(int(pid), signal.SIGKILL)
                ended.append(int(pid))
    return ended


def _title(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read()


def _open_files(pid: str) -> Iterator[str]:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


def main() -> None:
    """Wait for the driver's word or its death."""
    if not os.read(0, 1):
        time.sleep(GRACE_S)  # most of it ends by itself
        end_ray_of(sys.argv[1])


if __name__ == "__main__":
    main()
