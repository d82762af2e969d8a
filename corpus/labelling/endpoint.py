"""Requests over HTTP to a server that speaks OpenAI's chat completions: at most so many at a time, retried, paced, and never
redirected.

Retried: 408, 409, 425, 429, 5xx, timeouts, cut connections, and answers that are no chat completion. Any other status ends the run at
once, and so does a server that took no connection from the first request on. Error messages hold the status, and of the server's words
only a short code: servers echo pages, and some echo keys. Proxies and other settings of the environment are not used, so pages go to
the address the recipe names and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from corpus.labelling.answer import Reply
from corpus.labelling.ask_params import AskParams, EndpointParams
from corpus.labelling.cost import Purse
from corpus.labelling.model_list import TIMEOUT_S, check_listed, listed
from corpus.labelling.pace import Pace, retry_after_s
from corpus.labelling.request import Deliver, NoAnswer, Request
from store.errors import DefinemedError, RecipeError, ResourceError

RETRIED = {408, 409, 425, 429}
NO_SCHEMA = {400, 404, 415, 422, 501}
MAX_ANSWER_BYTES = 4 << 20
LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1")
NEVER_REACHED_ATTEMPTS = 4
"""Attempts of a request after which a server that was never reached is taken not to be there: some 3 s, not minutes."""
CODE = re.compile(r"[A-Za-z]{2,40}(_[A-Za-z]{1,40}){0,7}")
REMEDIES = {
    400: "check the model's name, max_chars and max_tokens: the prompt may be longer than the model reads",
    401: "check the key in the variable that api_key_env names",
    403: "check the key in the variable that api_key_env names, and what it may do",
    404: "check the endpoint's url (it ends with /v1) and the model's name",
    413: "send less of a page: lower max_chars",
    422: "the server does not take a field of the request: see seed, structured and extra",
}
UNREACHED, FELL_OVER = "no connection", "HTTP 500"
END = object()
log = logging.getLogger(__name__)


class Endpoint:
    """Answers the requests of one model over HTTP.

    ``sent`` counts requests that went out, retries included. Money is counted by the tokens the server says, or by the stated rule
    where it says none. On an error that ends the run, requests under way are waited for: their answers are paid.
    """

    def __init__(self, params: AskParams, endpoint: EndpointParams, model: str, purse: Purse | None = None) -> None:
        self.params, self.endpoint, self.model, self.purse = params, endpoint, model, purse or Purse()
        self.pace, self.sent = Pace(endpoint), 0
        self._key: str | None = None
        self._structured: bool | None = {"auto": None, "schema": True, "text": False}[params.structured]
        self._probe = asyncio.Lock()
        self._reached, self._looked_up = False, not endpoint.check_model
        self._error: DefinemedError | None = None

    async def answer(self, requests: Iterator[Request | None], deliver: Deliver) -> None:
        """See corpus.labelling.request.Answerer."""
        self._key = _key(self.endpoint)
        await self._look_up()
        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(self.endpoint.concurrency):
                group.create_task(self._work(client, requests, deliver))
        if self._error is not None:
            raise self._error

    def _client(self) -> httpx.AsyncClient:
        headers: dict[str, str] = {"authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self.endpoint.concurrency, max_keepalive_connections=self.endpoint.concurrency)
        verify = ssl.create_default_context() if self.endpoint.url.startswith("https:") else True
        # A whole answer has a limit of its own, so httpx needs none.
        return httpx.AsyncClient(headers=headers, limits=limits, timeout=None, follow_redirects=False, trust_env=False, verify=verify)

    async def _look_up(self) -> None:
        """Once, before the first request: a server that lists its models must list this one. It is not counted as sent, and has a
        connection of its own, as a server that fails here may close it under the first request."""
        if self._looked_up:
            return
        self._looked_up = True
        try:
            async with self._client() as client, asyncio.timeout(min(TIMEOUT_S, self.endpoint.timeout_s)):
                status, _, data = await self._read(client, "GET", "models")
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError):
            return  # the first request will say it
        if status == 200:
            check_listed(self.model, listed(data), self.endpoint.url, self._key)

    async def _work(self, client: httpx.AsyncClient, requests: Iterator[Request | None], deliver: Deliver) -> None:
        try:
            while self._error is None and (request := next(requests, END)) is not END:
                if isinstance(request, Request):
                    await self._one(client, request, deliver)
                else:
                    await asyncio.sleep(0)
        except DefinemedError as error:
            self._error = self._error or error

    async def _one(self, client: httpx.AsyncClient, request: Request, deliver: Deliver) -> None:
        reply = await self._with_retries(client, request)
        deliver(request, reply)
        if isinstance(reply, NoAnswer):
            self.pace.gave_up(reply.why)
        else:
            self.pace.answered()

    async def _with_retries(self, client: httpx.AsyncClient, request: Request) -> Reply | NoAnswer:
        why = ""
        for attempt in range(1, self.endpoint.attempts + 1):
            found = await self._once(client, request)
            if isinstance(found, Reply):
                return found
            why, wait_s = found
            if wait_s is not None:
                self.pace.pause(wait_s)
            if self._error is not None:
                break
            if not self._reached and why.startswith(UNREACHED) and attempt >= min(NEVER_REACHED_ATTEMPTS, self.endpoint.attempts):
                raise ResourceError(f"nobody answers there: {why}", where=self.endpoint.url, expected="a server",
                                    remedy="start it and wait until it has read its model, or correct the endpoint's url")  # fmt: skip
            if attempt < self.endpoint.attempts:
                await self.pace.back_off(attempt)
        return NoAnswer(why)

    async def _once(self, client: httpx.AsyncClient, request: Request) -> Reply | tuple[str, float | None]:
        """A reply; or why there is none, and the seconds the server asks to wait (None: it does not say)."""
        if self._structured is not None:
            return await self._send(client, request, self._structured)
        async with self._probe:  # the first request finds out whether the server takes a schema; the others wait for it
            if self._structured is None:
                return await self._find_out(client, request)
        return await self._send(client, request, self._structured)

    async def _find_out(self, client: httpx.AsyncClient, request: Request) -> Reply | tuple[str, float | None]:
        try:
            found = await self._send(client, request, True)
        except _RefusedError as refused:
            if refused.status not in NO_SCHEMA:
                raise
            found = await self._send(client, request, False)
            if isinstance(found, Reply):
                self._as_text()
            return found
        if isinstance(found, Reply):
            self._structured = True
        elif found[0].startswith(FELL_OVER):
            return await self._fell_over(client, request, found)
        return found

    async def _fell_over(
        self, client: httpx.AsyncClient, request: Request, found: tuple[str, float | None]
    ) -> Reply | tuple[str, float | None]:
        """Some servers answer 500 to a field they do not know (llama-cpp-python 0.3.36 does), and any server may once. Asked without
        the schema and then with it again, a fault that passes does not change how answers are asked for."""
        plain = await self._send(client, request, False)
        if not isinstance(plain, Reply):
            return found
        try:
            again = await self._send(client, request, True)
        except _RefusedError as refused:
            if refused.status not in NO_SCHEMA:
                raise
            self._as_text()  # the fault had nothing to do with the schema, which the server refuses
            return plain
        if isinstance(again, Reply):
            self._structured = True
            return again
        if again[0].startswith(FELL_OVER):
            self._as_text()
        return plain

    def _as_text(self) -> None:
        self._structured = False
        log.info("%s takes no response_format with a schema: answers are read as text", self.endpoint.url)

    async def _send(self, client: httpx.AsyncClient, request: Request, structured: bool) -> Reply | tuple[str, float | None]:
        most = request.tokens_in + self.params.max_tokens
        price = self._price(request.tokens_in, self.params.max_tokens)
        self.purse.reserve(price, self.endpoint.url)
        try:
            await self.pace.turn(most)
            self.sent += 1
            status, headers, data = await self._post(client, request, structured)
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError) as error:
            return self._failure(error), None
        finally:
            self.purse.release(price)
        self._reached = True
        if status != 200:
            return self._judged(status, headers, data)
        reply = read_reply(data)
        if reply is None:
            return "the answer is no chat completion", None
        tokens_in = request.tokens_in if reply.tokens_in is None else reply.tokens_in
        self.purse.spent += self._price(tokens_in, self.params.max_tokens if reply.tokens_out is None else reply.tokens_out)
        return reply

    async def _post(self, client: httpx.AsyncClient, request: Request, structured: bool) -> tuple[int, httpx.Headers, bytes]:
        body = json.dumps(request.body(structured), ensure_ascii=False).encode()
        headers = {"content-type": "application/json"}
        async with asyncio.timeout(self.endpoint.timeout_s):
            return await self._read(client, "POST", "chat/completions", content=body, headers=headers)

    async def _read(
        self, client: httpx.AsyncClient, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, httpx.Headers, bytes]:
        async with client.stream(method, f"{self.endpoint.url}/{path}", content=content, headers=headers) as response:
            data = bytearray()
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    break
            return response.status_code, response.headers, bytes(data)

    def _failure(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no whole answer within {self.endpoint.timeout_s:g} s"
        if isinstance(error, httpx.ConnectError):
            return f"{UNREACHED} ({error})"  # of the address and its certificate; nothing was sent
        return f"the connection failed ({type(error).__name__})"

    def _judged(self, status: int, headers: httpx.Headers, data: bytes) -> tuple[str, float | None]:
        """Why a request with such a status is sent again; raises for what would be the same the next time."""
        what = f"HTTP {status}{self._code(data)}"
        if status in RETRIED or (status >= 500 and status != 501):
            return what, retry_after_s(headers.get("retry-after"))
        raise _RefusedError(status, what, self.endpoint.url)

    def _code(self, data: bytes) -> str:
        """The server's short name of the error, such as " (model_not_found)"; never its sentence."""
        try:
            error = json.loads(data)["error"]
            names = [error.get("code"), error.get("type")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ""
        for name in names:
            if isinstance(name, str) and CODE.fullmatch(name) and not (self._key and (name in self._key or self._key in name)):
                return f" ({name})"
        return ""

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.endpoint.input_price + tokens_out * self.endpoint.output_price) / 1e6


class _RefusedError(ResourceError):
    """A status that the same request would get again."""

    def __init__(self, status: int, what: str, url: str) -> None:
        self.status = status
        redirect = 300 <= status < 400
        remedy = "name the address that answers itself: redirects are not followed" if redirect else REMEDIES.get(status)
        super().__init__(f"the server refuses the request: {what}", where=f"{url}/chat/completions", expected="HTTP 200",
                         remedy=remedy or "see the server's log")  # fmt: skip

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _as_resource_error, (self.what, self.where, self.expected, self.remedy)


def _as_resource_error(what: str, where: str, expected: str, remedy: str) -> DefinemedError:
    return ResourceError(what, where=where, expected=expected, remedy=remedy)


def read_reply(data: bytes) -> Reply | None:
    """The first choice of a chat completion; None if the bytes are none."""
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    if isinstance(text, list):  # content in parts
        text = "".join(p["text"] for p in text if isinstance(p, dict) and isinstance(p.get("text"), str))
    if text is not None and not isinstance(text, str):
        return None
    usage = body.get("usage")
    counts = [usage.get(k) if isinstance(usage, dict) else None for k in ("prompt_tokens", "completion_tokens")]
    tokens_in, tokens_out = (n if isinstance(n, int) and 0 <= n < 1 << 40 else None for n in counts)
    return Reply(text or "", str(choice.get("finish_reason") or "stop"), tokens_in, tokens_out, refused=bool(refusal))


def _key(endpoint: EndpointParams) -> str | None:
    """The API key, from the environment only."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise ResourceError(f"the environment variable {endpoint.api_key_env} is not set", where=endpoint.url,
                            remedy="put the API key into it; it is read there and written nowhere")  # fmt: skip
    if not key.isascii() or not key.isprintable():
        raise RecipeError(f"the environment variable {endpoint.api_key_env} does not hold a key", where=endpoint.url,
                          expected="printable ASCII on one line")  # fmt: skip
    host = urlsplit(endpoint.url).hostname or ""
    if endpoint.url.startswith("http:") and not LOOPBACK.fullmatch(host):
        log.warning("%s: the key and the pages go there unencrypted", endpoint.url)
    return key
