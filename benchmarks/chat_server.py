"""A scripted server that speaks OpenAI's chat completions on loopback, and pages that hold the label it is to answer.

    python benchmarks/chat_server.py      serves until it is killed; prints its address

Tests give it faults to act out; the benchmark of labelling runs it as a process of its own. GET anything: {"requests": n so far};
GET .../models: ``models``, or 404, and the request's headers are noted in ``looked``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS = ("medical", "legal", "other")
MARK = "Geheimseite"
"""In every page: it must turn up in no file and no message."""
PAGE = re.compile(r"<page ([0-9a-f]{16})>\n(.*?)\n</page \1>", re.DOTALL)
PLANTED = re.compile(rf"{MARK} (\d+) truth=(\w+)")


def page_text(number: int, label: str) -> str:
    """A page for which the server answers ``label``."""
    return f"{MARK} {number} truth={label} " + "Lorem ipsum dolor sit amet. " * 5


def completion(content: str | None, finish: str = "stop", usage: tuple[int, int] | None = (20, 7)) -> dict[str, object]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content}
    body: dict[str, object] = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return body | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})


def said(label: str) -> dict[str, object]:
    """A completion with a right answer."""
    return completion(json.dumps({"label": label}))


@dataclass
class Action:
    """What the server does with a request. ``cut``: bytes of the answer after which the connection is closed; -1: not even a status."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int | None = None


@dataclass
class Asked:
    """A request as the server saw it; ``nth`` counts from 1 how often this body was sent."""

    body: dict[str, object]
    headers: dict[str, str]
    page: int
    truth: str
    nth: int
    time_s: float
    path: str


class Server:
    """Answers with the planted label, unless ``script`` (Asked -> Action or None) says otherwise."""

    def __init__(self, script: Callable[[Asked], Action | None] = lambda _: None) -> None:
        self.asked: list[Asked] = []
        self.script, self.lock, self.seen = script, threading.Lock(), Counter[bytes]()
        self.now, self.most = 0, 0
        self.models: Action | None = None
        self.looked: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                outer.handle(self)

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    super().handle()

            def do_GET(self) -> None:
                if self.path.endswith("/models"):
                    outer.looked.append(dict(self.headers))
                    outer.act(self, outer.models or Action(404, {}), "")
                else:
                    outer.act(self, Action(body={"requests": len(outer.asked)}), "")

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def handle(self, call: BaseHTTPRequestHandler) -> None:
        """Note a request and act."""
        size = int(call.headers["content-length"])
        raw = call.rfile.read(size)
        if len(raw) < size:  # the client was killed while it sent
            call.close_connection = True
            return
        body = json.loads(raw)
        user = PAGE.search(body["messages"][-1]["content"])[2]
        page, truth = PLANTED.search(user).groups()
        with self.lock:
            digest = hashlib.sha256(raw).digest()
            self.seen[digest] += 1
            asked = Asked(body, dict(call.headers), int(page), truth, self.seen[digest], time.monotonic(), call.path)
            self.asked.append(asked)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.act(call, self.script(asked) or Action(), truth)
        finally:
            with self.lock:
                self.now -= 1

    def act(self, call: BaseHTTPRequestHandler, action: Action, truth: str) -> None:
        """Answer, or do what stands for an answer."""
        time.sleep(action.delay_s)
        body = said(truth) if action.body is None else action.body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if action.cut == -1:
            call.close_connection = True
            call.connection.close()
            return
        try:
            call.send_response(action.status)
            for name, value in {"content-type": "application/json", "content-length": str(len(data)), **action.headers}.items():
                call.send_header(name, value)
            call.end_headers()
            call.wfile.write(data if action.cut is None else data[: action.cut])
            if action.cut is not None:
                call.close_connection = True
        except OSError:  # the client gave up
            call.close_connection = True

    def close(self) -> None:
        """Stop serving."""
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    serving = Server()
    print(serving.url, flush=True)
    threading.Event().wait()
