"""Where a running Ray head is, and whether it lets us in: asked in milliseconds, before ``ray.init``.

``ray.init`` waits two minutes for an address nobody answers, retries a refused token just as long, and then ends the process with
SIGTERM. So one cheap call is made first: ``GetClusterId`` of the head's control store (or a ping of its Ray Client server), with the
token a user gave. Every refusal is a ResourceError of one sentence.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import grpc
import ray
from ray._private import ray_constants, services, utils
from ray._raylet import AuthenticationTokenLoader
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc, ray_client_pb2, ray_client_pb2_grpc

from store.errors import ResourceError

CLIENT = "ray://"
PROBE_S = 5.0
DEFAULT_PORTS = {"": 6379, CLIENT: 10001}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Head:
    """A head that answered and let us in.

    Attributes:
        address: what ``ray.init`` takes: ``host:port`` or ``ray://host:port``.
        auth_mode: the RAY_AUTH_MODE under which it let us in.
        loopback: it listens on 127.0.0.1 only. Ray rewrites a loopback address to the machine's own, where such a head is deaf,
            unless told that this process takes part in no cluster.
    """

    address: str
    auth_mode: str
    loopback: bool = False


def find_head() -> str | None:
    """Address of the head that RAY_ADDRESS or the last ``ray start --head`` names, without asking whether it is alive.

    Ray would also take any Ray it finds among this machine's processes; a stranger's local session is not ours to use.
    """
    named = os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE, "")
    if named and named not in ("auto", "local"):
        return named
    return None if named == "local" else utils.read_ray_address()


def is_alive(address: str) -> bool:
    """Does anything listen there?"""
    return any(_reachable(host, port) for host, port in _candidates(address))


def knock(address: str) -> Head:
    """Ask the head at ``address`` to let us in; ResourceError if it is not there or refuses."""
    scheme = CLIENT if address.startswith(CLIENT) else ""
    for host, port in _candidates(address):
        if _reachable(host, port):
            mode = _auth_mode(f"{host}:{port}", scheme, address)
            return Head(f"{scheme}{host}:{port}", mode, loopback=not scheme and host in LOOPBACK)
    raise ResourceError(
        "no Ray head answers at this address", where=address,
        remedy="start one (ray start --head), correct the address, or use --address local",
    )  # fmt: skip


def _candidates(address: str) -> list[tuple[str, int]]:
    """(host, port) to try in order; for a loopback name also the machine's own address, which Ray binds by default."""
    scheme = CLIENT if address.startswith(CLIENT) else ""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host:
        host, port = port, str(DEFAULT_PORTS[scheme])
    if "://" in host or not port.isdigit():
        raise ResourceError("this is not an address of a Ray head", where=address,
                            expected="auto, local, HOST:PORT or ray://HOST:PORT")  # fmt: skip
    host = host.strip("[]")
    own = services.node_ip_address_from_perspective()
    hosts = [own, "127.0.0.1"] if host in LOOPBACK and not scheme else [host]
    return [(h, int(port)) for h in hosts]


def _reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PROBE_S):
            return True
    except OSError:
        return False


def _auth_mode(target: str, scheme: str, address: str) -> str:
    """The authentication mode under which ``target`` answers."""
    wanted = os.environ.get("RAY_AUTH_MODE", "").lower()
    if wanted not in ("", "disabled", "token"):
        return wanted  # a mode this code does not know (Kubernetes): Ray itself will say
    if wanted != "token" and _ask(target, scheme, None, address):
        return "disabled"
    token = None if wanted == "disabled" else known_token()
    if token and _ask(target, scheme, token, address):
        return "token"
    raise ResourceError(
        "the Ray head refuses this token" if token else "the Ray head wants a token, and none was given", where=address,
        remedy="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token the head was started with",
    )  # fmt: skip


def known_token() -> str | None:
    """The token a user gave: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token; None if there is none."""
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if not loader.has_token(ignore_auth_mode=True):
        return None
    return str(loader.get_raw_token(ignore_auth_mode=True))


def _ask(target: str, scheme: str, token: str | None, address: str) -> bool:
    """True if the head answers, False if it refuses the token; ResourceError if what listens there is no Ray head."""
    credentials = [("authorization", f"Bearer {token}")] if token else []
    # A hospital's proxy variables are for the web; Ray's own channels ignore them too.
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            if scheme:
                ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
                client = ray_client_pb2_grpc.RayletDriverStub(channel)
                client.ClusterInfo(ping, timeout=PROBE_S, metadata=[("client_id", "definemed"), *credentials])
            else:
                control = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
                control.GetClusterId(gcs_service_pb2.GetClusterIdRequest(), timeout=PROBE_S, metadata=credentials)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ResourceError(
                f"what answers there is not a Ray {ray.__version__} head ({error.code().name.lower()})", where=address,
                expected="HOST:6379 for a head's control store, or ray://HOST:10001 for its Ray Client server",
            ) from error  # fmt: skip
    return True
