"""A Ray session: a running head's, or a local Ray that lives and dies with this process.

A local Ray is private: every port it opens is on loopback, and every call to it needs a token that is made for the session and kept
only in the environment of this process and its children. Nothing is written to the home folder. Its processes end with the session,
and also, within seconds, when this process is killed (cluster/guardian.py).

What this process did not start it does not end: closing a session on a running head only disconnects.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import ray
from ray._private import ray_constants
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._raylet import AuthenticationTokenLoader, Config

from cluster.connect import Head, find_head, is_alive, knock
from cluster.guardian import guarded
from cluster.machine import cores_allowed
from store.errors import ResourceError

log = logging.getLogger(__name__)

PACKAGES = ("store", "corpus", "training", "merging", "evaluation", "cluster")
# Receipts are all that travels through the object store. 75 MiB is the least that Ray accepts.
OBJECT_STORE_BYTES, OBJECT_STORE_MIN_BYTES = 384 << 20, 80 << 20
# Ray puts sockets at <temp>/session_<date>_<pid>/sockets/plasma_store: 66 characters of the 107 an AF_UNIX path may have.
TEMP_PATH_MAX = 40
RAY_FOLDER = "r"
TEMP_PREFIX = "dm-ray-"
LOOPBACK_ENV = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}


@dataclass
class Session:
    """An open connection to Ray. A context manager; ``close`` may be called more than once.

    Attributes:
        address: of the head's control store.
        owned: whether this process started the Ray it uses.
        dashboard_url: None if there is no dashboard. A dashboard asks for the session's ``token``.
        metrics_url: page of this machine's figures in Prometheus' format, of a local Ray; None for a running head.
        temp_dir: where a local Ray keeps its logs; removed when the session ends without an error.
    """

    address: str
    owned: bool
    dashboard_url: str | None
    metrics_url: str | None = None
    temp_dir: str | None = None
    token: str | None = field(default=None, repr=False)
    _cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cleanup.__exit__(kind, error, trace)

    def close(self) -> None:
        """End the Ray that this session started, or disconnect from the one it did not."""
        self._cleanup.close()

    def describe(self) -> str:
        """One line for a log: where, and with what."""
        have = ray.cluster_resources()
        gpus = f", {have['GPU']:g} GPUs" if have.get("GPU") else ""
        metrics = f", metrics at {self.metrics_url}" if self.metrics_url else ""
        return f"{'local Ray' if self.owned else 'Ray at ' + self.address}: {have.get('CPU', 0):g} CPUs{gpus}{metrics}"


def open_session(address: str = "auto", n_cpus: int | None = None, dashboard: bool = False, working_dir: str | None = None) -> Session:
    """Connect to Ray, starting a local one if need be.

    Args:
        address: "auto" (RAY_ADDRESS, else the head that ``ray start --head`` started on this machine, else a local Ray), "local",
            "HOST:PORT" (from a machine of the cluster) or "ray://HOST:PORT" (from anywhere).
        n_cpus: CPUs of a local Ray; default: those this process may use. No meaning for a running head.
        dashboard: give a local Ray its dashboard, on loopback (8 s and 1.8 GB instead of 4 s and 0.6 GB).
        working_dir: folder to ship to a running head's workers instead of the packages of this checkout.

    Raises:
        ResourceError: nobody answers, the token is refused, versions differ, or Ray cannot start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        if address != "auto":
            raise ResourceError("this process is connected to Ray already", where=address, remedy="close that session first")
        return Session(ray.get_runtime_context().gcs_address, owned=False, dashboard_url=None)
    if address == "auto":
        found = find_head()
        # A head that was killed leaves its address behind; a name the user chose must answer.
        address = found if found and ("RAY_ADDRESS" in os.environ or is_alive(found)) else "local"
    return _start_local(n_cpus, dashboard) if address == "local" else _connect(knock(address), working_dir)


def _connect(head: Head, working_dir: str | None) -> Session:
    with contextlib.ExitStack() as stack:
        env = {"RAY_AUTH_MODE": head.auth_mode, "RAY_USAGE_STATS_ENABLED": "0", **(LOOPBACK_ENV if head.loopback else {})}
        stack.enter_context(_environment(env))
        stack.callback(ray.shutdown)
        try:
            info = ray.init(head.address, runtime_env=_shipped(working_dir), log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ResourceError(f"Ray refuses the connection ({_first_line(error)})", where=head.address) from error
        url = info.dashboard_url
        return Session(head.address, False, f"http://{url}" if url else None, _cleanup=stack.pop_all())


def _start_local(n_cpus: int | None, dashboard: bool) -> Session:
    with contextlib.ExitStack() as stack:
        temp = stack.enter_context(_temp_dir())
        stack.enter_context(guarded(temp))
        token = secrets.token_hex(32)
        env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PYTHONPATH": _python_path(), **LOOPBACK_ENV}
        stack.enter_context(_environment(env))
        stack.callback(ray.shutdown)
        size, in_files = _object_store()
        try:
            info = ray.init(
                "local", num_cpus=n_cpus or cores_allowed(), include_dashboard=dashboard, dashboard_host="127.0.0.1",
                object_store_memory=size, _temp_dir=temp, _plasma_directory=temp if in_files else None,
                log_to_driver=False, logging_level=logging.WARNING,
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ResourceError(
                f"Ray cannot start on this machine ({_first_line(error)})", where=temp,
                remedy="definemed doctor says what is missing; Ray's logs are kept in this folder",
            ) from error  # fmt: skip
        url = f"http://{info.dashboard_url}" if info.dashboard_url else None
        metrics = f"http://127.0.0.1:{info.address_info['metrics_export_port']}/metrics"
        return Session(info.address_info["gcs_address"], True, url, metrics, temp, token, stack.pop_all())


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, tell Ray's native parts, and restore both afterwards."""
    before = {k: os.environ.get(k) for k in values}
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(values)
    if LOOPBACK_ENV.items() <= values.items():
        ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment at import, which may be long past
    _reload_ray_config()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
        _reload_ray_config()


def _reload_ray_config() -> None:
    # In this order: a thread of Ray that is still ending would abort the process if it met token mode without a token.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _temp_dir() -> Iterator[str]:
    """A folder for one local Ray, locked while it is used, removed afterwards unless the session failed."""
    base = tempfile.gettempdir()
    if len(f"{base}/{TEMP_PREFIX}12345678/{RAY_FOLDER}") > TEMP_PATH_MAX:
        base = "/tmp"
    _sweep(base)
    path = tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=base)
    with open(os.path.join(path, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield os.path.join(path, RAY_FOLDER)  # Ray opens the folder it is given to all users; ours around it stays closed
        shutil.rmtree(path, ignore_errors=True)  # Ray's last processes may still be writing their logs


def _sweep(base: str) -> None:
    """Remove what killed sessions of this user left: folders whose lock nobody holds."""
    for path in Path(base).glob(f"{TEMP_PREFIX}*/lock"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as lock:  # a folder of another user, or just removed
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_uid == os.getuid():
                shutil.rmtree(path.parent, ignore_errors=True)


def _object_store() -> tuple[int, bool]:
    """(bytes, whether it must be kept in files): shared memory may be absent, or a container's 64 MB."""
    free = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    size = max(OBJECT_STORE_MIN_BYTES, min(OBJECT_STORE_BYTES, free * 3 // 4))
    return size, size > free


def _root() -> Path | None:
    """The checkout these packages are imported from; None if they are installed."""
    root = Path(__file__).resolve().parent.parent
    return None if root.name in ("site-packages", "dist-packages") else root


def _python_path() -> str:
    """PYTHONPATH for the workers of a local Ray: this checkout first."""
    parts = [str(_root() or ""), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(p for p in parts if p))


def _shipped(working_dir: str | None) -> dict[str, object] | None:
    """The runtime environment for a running head's workers.

    The packages are shipped one by one, not the checkout around them: that may hold an output folder of terabytes. Inside
    ``ray job submit`` the job ships the code.
    """
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:
        return None
    if working_dir is not None:
        return {"working_dir": working_dir}
    root = _root()
    if root is None:
        return None
    return {"py_modules": [str(root / p) for p in PACKAGES], "excludes": ["__pycache__"]}


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__
