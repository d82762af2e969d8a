"""The guardian ends what a dead driver's Ray left, and nothing else."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from cluster.guardian import guarded

# Titles itself as Ray's processes do (argument 1) and holds a log open (argument 2).
SLEEPER = """
import sys, time
with open("/proc/self/comm", "w") as comm, open(sys.argv[2], "a") as log:
    comm.write(sys.argv[1]); comm.flush()
    print("ready", flush=True); sys.stdout.close()
    time.sleep(60)
"""
DRIVER = """
import os, subprocess, sys
from cluster.guardian import guarded
with guarded(sys.argv[1]):
    print("guarded", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)
    if sys.argv[2] == "fails":
        raise ZeroDivisionError
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guardian needs /proc")


def sleeper(title, log):
    process = subprocess.Popen([sys.executable, "-S", "-c", SLEEPER, title, str(log)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize(("end", "agent_lives"), [("killed", False), ("in order", True), ("fails", True)])
def test_only_a_dead_driver_sets_it_off(tmp_path, end, agent_lives):
    session = tmp_path / "session"
    session.mkdir()
    agent = sleeper("ray::Agent", session / "agent.log")
    others = [
        sleeper("ray::Agent", tmp_path / "session.log"),  # of another session
        sleeper("tail", session / "agent.log"),  # somebody reads the logs
    ]
    try:
        ran = subprocess.run([sys.executable, "-c", DRIVER, str(session), end], capture_output=True, text=True, timeout=30)
        assert ran.stdout == "guarded\n"
        deadline = time.monotonic() + (3.5 if agent_lives else 10)
        while agent.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (agent.poll() is None) == agent_lives
        assert all(p.poll() is None for p in others)
    finally:
        for process in (agent, *others):
            process.kill()
            process.wait()


def test_it_is_gone_when_the_session_is():
    before = {p.pid for p in psutil.Process().children()}
    with guarded("/nowhere"):
        (pid,) = {p.pid for p in psutil.Process().children()} - before
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal must not end it"
    assert not psutil.pid_exists(pid)
