"""Sessions: a private local Ray, a user's running head with its own token, and refusals in one sentence."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import ray
from ray import cloudpickle

from cluster.connect import _ask, find_head, knock
from cluster.executor import RayExecutor
from cluster.session import PACKAGES, TEMP_PATH_MAX, open_session
from store.artifact import Draft, Identity, Receipt
from store.errors import ResourceError
from store.executor import Job, Task
from store.fs import Folder

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
RAY_VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


class Where:
    """Says where the packages of a worker come from."""

    def __init__(self, draft):
        self.draft = draft

    def run(self, task):
        import store

        folders = [Path(p) for p in sys.path if "runtime_resources" in p]
        shipped = sorted(file.parent.name for folder in folders for file in folder.glob("*/__init__.py"))
        entry = self.draft.folder.write_bytes(f"x/{task.key}", b"1")
        return Receipt(key=task.key, files=(entry,), data={"store": store.__file__, "shipped": shipped})


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No settings of the person who runs the tests, and a home folder that shows what is written to it."""
    for name in RAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    yield
    assert not ray.is_initialized()


def where(tmp_path, name="where"):
    draft = Draft.begin(Folder(str(tmp_path / name)), Identity("where", 1, {}))
    return [r.data for r in RayExecutor().map(Job("where", Where, {"draft": draft}, [Task("a", {}), Task("b", {})], draft))]


def test_a_local_session_is_private_and_leaves_nothing(tmp_path):
    began_s, others = time.monotonic(), set(psutil.Process().children(recursive=True))
    before = {name: os.environ.get(name) for name in (*RAY_VARIABLES, "PYTHONPATH")}
    with open_session("local", n_cpus=1) as session:
        assert session.owned and session.dashboard_url is None
        assert "1 CPUs" in session.describe() and session.token not in repr(session)
        assert len(session.temp_dir) <= TEMP_PATH_MAX and os.stat(Path(session.temp_dir).parent).st_mode & 0o077 == 0
        root = str(Path(__file__).resolve().parents[2] / "store")
        assert all(seen["store"].startswith(root) and not seen["shipped"] for seen in where(tmp_path))
        family = [p for p in psutil.Process().children(recursive=True) if p not in others]
        listening = [c for p in family for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert len(listening) > 5 and {c.laddr.ip for c in listening} <= set(LOOPBACK)
        assert _ask(session.address, "", session.token, "")
        assert not _ask(session.address, "", None, "") and not _ask(session.address, "", "0" * 64, "")
        with open_session("auto") as second:
            assert not second.owned and second.address == session.address
        assert ray.is_initialized(), "the second session ends nothing"
        with pytest.raises(ResourceError, match="connected to Ray already"):
            open_session("127.0.0.1:6379")
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert not os.path.exists(Path(session.temp_dir).parent) and not os.path.exists(tmp_path / "home" / ".ray")
    session.close()
    assert {name: os.environ.get(name) for name in before} == before
    assert time.monotonic() - began_s < 60


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:{free}", "no Ray head answers at this address. Start one"),
        ("ray://127.0.0.1:{free}", "no Ray head answers at this address. Start one"),
        ("http://127.0.0.1:{free}", "not an address of a Ray head; expected auto, local, HOST:PORT or ray://HOST:PORT"),
        ("127.0.0.1:{taken}", "what answers there is not a Ray"),
        ("nowhere", "no Ray head answers at this address"),
    ],
)
def test_an_address_without_a_head_is_one_sentence_at_once(address, sentence):
    with socket.create_server(("127.0.0.1", 0)) as server:
        began_s = time.monotonic()
        with pytest.raises(ResourceError, match=sentence):
            open_session(address.format(free=free_ports(1)[0], taken=server.getsockname()[1]))
        assert time.monotonic() - began_s < 15


def test_a_named_head_must_answer_and_a_forgotten_one_need_not(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    address = f"127.0.0.1:{free_ports(1)[0]}"
    (tmp_path / "ray" / "ray_current_cluster").write_text(address)
    assert find_head() == address
    with pytest.raises(ZeroDivisionError), open_session("auto", n_cpus=1) as session:
        assert session.owned
        raise ZeroDivisionError
    assert not ray.is_initialized()
    assert os.path.isdir(os.path.join(session.temp_dir, "session_latest", "logs")), "the logs of a failed session are kept"
    shutil.rmtree(Path(session.temp_dir).parent)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match="no Ray head answers"):
        open_session("auto")


def free_ports(n):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in servers]
    for server in servers:
        server.close()
    return ports


@contextlib.contextmanager
def running_head(folder, env):
    """A head as a user starts one, on loopback; ended by the processes that are its own."""
    port, client, agent = free_ports(3)
    before = set(psutil.pids())
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={port}", f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}", "--include-dashboard=false", "--num-cpus=2", "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000", "--disable-usage-stats",
    ]  # fmt: skip
    env = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_TMPDIR": folder, **env}
    try:
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=60, cwd="/")
        wait_for(client)  # Ray says it runs before this server does
        yield port, client
    finally:
        own = [
            p for p in psutil.process_iter(["pid", "cmdline"]) if p.pid not in before and folder in " ".join(p.info["cmdline"] or [])
        ]
        own += [c for p in own for c in p.children(recursive=True)]
        for process in own:
            if process.is_running():
                process.kill()
        psutil.wait_procs(own, timeout=10)


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


@pytest.fixture
def short_folder():
    folder = tempfile.mkdtemp(prefix="dmh-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_running_head_with_a_token(tmp_path, monkeypatch, short_folder):
    token = secrets.token_hex(16)
    with running_head(short_folder, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}) as (port, client):
        address = f"127.0.0.1:{port}"
        monkeypatch.setenv("RAY_TMPDIR", short_folder)
        began_s = time.monotonic()
        for wrong in (address, f"ray://127.0.0.1:{client}", "auto"):
            with pytest.raises(ResourceError, match="the Ray head wants a token, and none was given"):
                open_session(wrong)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
        with pytest.raises(ResourceError, match=r"refuses this token\. Set RAY_AUTH_MODE=token"):
            open_session(address)
        assert time.monotonic() - began_s < 10
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        (tmp_path / "secret").write_text(token)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "secret"))
        for name, wanted in {"auto": "auto", "port": address, "client": f"ray://127.0.0.1:{client}"}.items():
            with open_session(wanted) as session:
                assert not session.owned
                assert [seen["shipped"] for seen in where(tmp_path, name)] == [sorted(PACKAGES)] * 2
            assert knock(address).auth_mode == "token", "closing a session leaves the head running"


def test_a_running_head_without_a_token(tmp_path, monkeypatch, short_folder):
    with running_head(short_folder, {"RAY_AUTH_MODE": "disabled"}) as (port, _):
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        (tmp_path / "home" / ".ray").mkdir()
        (tmp_path / "home" / ".ray" / "auth_token").write_text("a" * 32)  # of some other cluster
        with open_session("auto") as session:
            assert session.address.endswith(f":{port}") and os.environ["RAY_AUTH_MODE"] == "disabled"
            assert len(where(tmp_path)) == 2
