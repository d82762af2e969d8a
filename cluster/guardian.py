"""Ends what a killed driver's local Ray leaves behind. Run as a script, beside the session it guards.

The kernel ends Ray's servers with the process that started them. Two of their children, the agents, then try for 60 seconds, a number
fixed in Ray, to report that to a control store which is gone. The guardian reads a pipe whose other end the driver holds: a byte says
that the session ended in order; end of file says that the driver is dead, and the processes that carry the session's mark in their
environment are ended. It needs /proc; elsewhere the agents end by themselves after their minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

MARK = "DEFINEMED_SESSION"
GRACE_S = 2.0


@contextlib.contextmanager
def guarded(session: str) -> Iterator[dict[str, str]]:
    """Run a guardian; the processes it guards must have the variable this yields in their environment."""
    # In a session of its own, so that Ctrl-C in the terminal reaches only the driver; -S -E: 8 MB and 20 ms.
    command = [sys.executable, "-S", "-E", os.path.abspath(__file__), session]
    # Its own outputs are closed, or whoever reads the driver's would wait for the guardian too.
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        assert process.stdin is not None
        try:
            yield {MARK: session}
        finally:
            with contextlib.suppress(BrokenPipeError):  # somebody ended the guardian first
                process.stdin.write(b"x")
                process.stdin.flush()


def end_marked(session: str) -> list[int]:
    """Kill every process of this user that carries the session's mark; their ids."""
    mark, ended = f"{MARK}={session}".encode(), []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
            if marked:
                os.kill(int(name), signal.SIGKILL)
                ended.append(int(name))
    return ended


def main() -> None:
    """Wait for the driver's word or its death."""
    if not os.read(0, 1):
        time.sleep(GRACE_S)  # most of it ends by itself
        end_marked(sys.argv[1])


if __name__ == "__main__":
    main()
