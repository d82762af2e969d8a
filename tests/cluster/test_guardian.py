"""The guardian ends what a dead driver's session marked, and nothing else."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from cluster.guardian import MARK, guarded

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
DRIVER = """
import os, subprocess, sys
from cluster.guardian import guarded
with guarded(sys.argv[1]) as mark:
    quiet = subprocess.DEVNULL
    env = {**os.environ, **mark}
    child = subprocess.Popen(sys.argv[3:], env=env, start_new_session=True, stdout=quiet, stderr=quiet)
    print(child.pid, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)
    if sys.argv[2] == "fails":
        raise ZeroDivisionError
"""


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("end", "child_lives"), [("killed", False), ("in order", True), ("fails", True)])
def test_only_a_dead_driver_sets_it_off(tmp_path, end, child_lives):
    session = str(tmp_path / "session")
    others = [subprocess.Popen(SLEEPER, env={**os.environ, MARK: name}) for name in (session + "2", str(tmp_path))]
    driver = subprocess.run([sys.executable, "-c", DRIVER, session, end, *SLEEPER], capture_output=True, text=True, timeout=30)
    child = int(driver.stdout)
    try:
        deadline = time.monotonic() + (3.5 if child_lives else 10)
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert is_running(child) == child_lives
        assert all(p.poll() is None for p in others), "another session's processes are not touched"
    finally:
        for pid in (child, *(p.pid for p in others)):
            if is_running(pid):
                psutil.Process(pid).kill()
        for p in others:
            p.wait()


def test_it_is_gone_when_the_session_is():
    before = {p.pid for p in psutil.Process().children()}
    with guarded("/nowhere"):
        (pid,) = {p.pid for p in psutil.Process().children()} - before
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal must not end it"
    assert not psutil.pid_exists(pid)
