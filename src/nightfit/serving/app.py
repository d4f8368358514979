"""The ASGI application: who may ask, what is asked, how much of it; the protocols do the rest.

Every answer that is not one of a protocol's own is JSON with the rule and the fact; nothing a client sends makes a 5xx.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from nightfit import __version__
from nightfit.serving import binary, mlflow, native, oip
from nightfit.serving.answers import Answers
from nightfit.serving.batching import Batching
from nightfit.serving.errors import RequestError
from nightfit.serving.features import Inputs
from nightfit.serving.following import Follower
from nightfit.serving.http import (
    AGAIN,
    BEARER,
    CLOSE,
    CSV,
    GET,
    HTML,
    JSON,
    METHODS,
    POST,
    SCRIPT,
    SMALL_BYTES,
    TEXT,
    Limits,
    Receive,
    Reply,
    Request,
    Route,
    Scope,
    Send,
    check_head,
    check_type,
    file_handler,
    host_of,
    send_reply,
    to_json,
    too_large,
)
from nightfit.serving.openapi import describe
from nightfit.serving.served import Served
from nightfit.serving.story import Story
from nightfit.serving.telemetry import Metrics, log
from nightfit.serving.tokens import Tokens


@dataclass
class App:
    """The application over the versions that a follower keeps in service."""

    follower: Follower
    metrics: Metrics
    tokens: Tokens = field(default_factory=Tokens)
    hosts: frozenset[str] | None = None
    """The names by which the server may be called; None: any."""
    limits: Limits = field(default_factory=Limits)
    logs_requests: bool = False

    def __post_init__(self) -> None:
        self._batching = Batching()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="nightfit-large")
        self._prefix, self._numbers = secrets.token_hex(4), itertools.count(1)
        self._n_running = self._n_reading = self._n_bytes_read = 0
        self.metrics.in_flight.set_function(lambda: self._n_running)
        self._story = Story(self.follower)
        self._started, self._live_counts = time.monotonic(), {"requests": 0, "refused": 0, "rows": 0}
        self._exact = {
            "/predict": Route("/predict", POST, self._predict),
            "/invocations": Route("/invocations", POST, self._invocations),
            "/metrics": Route("/metrics", GET, self._metrics_text),
            "/ping": Route("/ping", GET, self._ready, is_open=True),
            "/health": Route("/health", GET, self._ready, is_open=True),
            "/version": Route("/version", GET, self._version),
            "/openapi.json": Route("/openapi.json", GET, self._openapi),
            "/": Route("/", GET, file_handler("page.html", HTML), is_open=True),
            "/page.js": Route("/page.js", GET, file_handler("page.js", SCRIPT), is_open=True),
            "/docs": Route("/docs", GET, file_handler("docs.html", HTML), is_open=True),
            "/api/lineages": Route("/api/lineages", GET, self._lineages),
            "/api/live": Route("/api/live", GET, self._live_figures),
            "/v2": Route("/v2", GET, self._server),
            "/v2/health/live": Route("/v2/health/live", GET, self._live, is_open=True),
            "/v2/health/ready": Route("/v2/health/ready", GET, self._ready, is_open=True),
        }

    def route(self, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """Return what answers a path, and the names in it."""
        if path in self._exact:
            return self._exact[path], ()
        match path.split("/")[1:]:
            case ["predict", name]:
                return Route("/predict/{model}", POST, self._predict), (name,)
            case ["v2", "models", name, *rest]:
                return self._model_route(name, rest)
        return None

    def _model_route(self, name: str, rest: list[str]) -> tuple[Route, tuple[str, ...]] | None:
        names: tuple[str, ...] = (name,)
        base = "/v2/models/{model}"
        if rest[:1] == ["versions"] and len(rest) > 1:
            names, base, rest = (name, rest[1]), f"{base}/versions/{{version}}", rest[2:]
        match rest:
            case []:
                return Route(base, GET, self._metadata), names
            case ["ready"]:
                return Route(f"{base}/ready", GET, self._model_ready, is_open=True), names
            case ["infer"]:
                return Route(f"{base}/infer", POST, self._infer), names
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live_on(receive, send)
            return
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        name, method = "other", scope["method"]
        self._n_running += 1
        try:
            found = self.route(scope["path"])
            if found is not None:
                name = found[0].name
            reply = await self._answer(scope, receive, found)
        finally:
            self._n_running -= 1
        await send_reply(send, reply, with_body=method != "HEAD")
        self._count(name, method if method in METHODS else "other", reply.status, time.perf_counter() - started)

    def _count(self, name: str, method: str, status: int, seconds: float) -> None:
        self.metrics.answered(name, method, status, seconds)
        self._live_counts["requests"] += 1
        self._live_counts["refused"] += status >= HTTPStatus.BAD_REQUEST
        if self.logs_requests:
            log("request", route=name, method=method, status=status, seconds=round(seconds, 6))

    async def _answer(self, scope: Scope, receive: Receive, found: tuple[Route, tuple[str, ...]] | None) -> Reply:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        try:
            check_head(scope["headers"], headers)
            route, names = self._check(scope, headers, found)
            return await route.handler(Request(headers, lambda: self._read(headers, receive)), names)
        except RequestError as error:
            return self._refuse(error, found)
        except Exception as error:  # noqa: BLE001 - a bug of ours: told in the log, not to the client
            log("bug", path=scope["path"][:100], reason=f"{type(error).__name__}: {error}")
            return self._refuse(RequestError(500, "the server has failed; its log says how"), found)

    def _check(
        self, scope: Scope, headers: Mapping[bytes, bytes], found: tuple[Route, tuple[str, ...]] | None
    ) -> tuple[Route, tuple[str, ...]]:
        """Refuse before a body is read: too many at once, a wrong host, no token, no such path or method."""
        is_open = found is not None and found[0].is_open
        if not is_open:  # a probe that fails would end a busy server
            self._check_room()
        host = headers.get(b"host", b"")
        if self.hosts is not None and host_of(host) not in self.hosts:
            raise RequestError(400, "the Host header must name this server, however it names another; see --allow-host")
        if not host and scope.get("http_version") == "1.1":
            raise RequestError(400, "a request must have a Host header, however this one has none", CLOSE)
        if not is_open and not self.tokens.allow(headers.get(b"authorization", b"")):
            raise RequestError(401, "a bearer token is needed, however none that is valid came", BEARER)
        if found is None:
            raise RequestError(404, f"a path must be one of the API's, however there is no {scope['path'][:100]!r}")
        if scope["method"] not in found[0].methods:
            methods = ", ".join(found[0].methods)
            fact = f"{found[0].name} must be asked by {methods}, however {scope['method'][:20]} came"
            raise RequestError(405, fact, (b"allow", methods.encode()))
        return found

    def _refuse(self, error: RequestError, found: tuple[Route, tuple[str, ...]] | None) -> Reply:
        identity = f"{self._prefix}-{next(self._numbers)}"
        if found and found[0].name == "/invocations":
            body: dict[str, object] = mlflow.encode_error(error)
        else:
            body = {"error": error.message}
        return Reply(error.status, msgspec.json.encode(body | {"request_id": identity}), JSON, error.headers)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Read a body, up to the limits of size and time."""
        limit, parts, n, more = self.limits.body_bytes, list[bytes](), 0, True
        if int(headers.get(b"content-length", b"0")) > limit:
            raise too_large(limit)
        self._n_reading += 1  # a client that sends slowly takes nobody's turn
        try:
            async with asyncio.timeout(self.limits.read_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(400, "a request must be sent whole, however its client has gone")
                    parts.append(message.get("body", b""))
                    n, more = n + len(parts[-1]), message.get("more_body", False)
                    self._n_bytes_read += len(parts[-1])
                    if n > limit:
                        raise too_large(limit)
                    if self._n_bytes_read > self.limits.reading_bytes:
                        rule = (
                            f"bodies that are being read must have at most {self.limits.reading_bytes:,} bytes together"
                        )
                        raise RequestError(503, f"{rule}, however they have more", AGAIN)
        except TimeoutError:
            raise RequestError(408, f"a body must come within {self.limits.read_s:g} s, however it did not") from None
        finally:
            self._n_reading -= 1
            self._n_bytes_read -= n
        self._check_room()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_room(self) -> None:
        """Raise if too many are being answered; those whose body is still coming are not yet."""
        if self._n_running - self._n_reading > self.limits.n_requests:
            rule = f"at most {self.limits.n_requests} requests are answered at once"
            raise RequestError(503, f"{rule}, however more came", AGAIN)

    def _served(self, names: tuple[str, ...]) -> Served:
        """Return the version that a path names: a model (the default one without), and perhaps a number."""
        name = names[0] if names else self.follower.default
        served = self.follower.get(name)
        if name not in self.follower.names:
            known = ", ".join(self.follower.names)
            raise RequestError(404, f"a model must be one of {known}, however '{name[:60]}' is asked for")
        if served is None:
            raise RequestError(503, f"{name} must have an accepted version that verifies, however it has none", AGAIN)
        if len(names) > 1 and names[1] != str(served.number):
            raise RequestError(404, f"a version must be in service, however {name} serves {served.number} alone")
        return served

    async def _work(
        self, body: bytes, served: Served, decode: Callable[[bytes, Served], Inputs], encode: Callable[[Answers], Reply]
    ) -> Reply:
        """Decode, score and encode: small bodies here and batched, large ones on a thread."""
        if len(body) > SMALL_BYTES:
            loop = asyncio.get_running_loop()
            n, reply = await loop.run_in_executor(self._pool, _whole, body, served, decode, encode)
        else:
            inputs = decode(body, served)
            n, reply = len(inputs.x_num), encode(Answers.of(served, await self._batching.predict(served, inputs)))
        self.metrics.predicted(served, n)
        self._live_counts["rows"] += n
        return reply

    async def _predict(self, request: Request, names: tuple[str, ...]) -> Reply:
        check_type(request.headers, JSON)
        served = self._served(names)
        return await self._work(await request.read(), served, native.decode, native.encode)

    async def _infer(self, request: Request, names: tuple[str, ...]) -> Reply:
        json_bytes = request.headers.get(binary.JSON_BYTES)
        kinds = (JSON,) if json_bytes is None else (JSON, binary.CONTENT_TYPE)
        check_type(request.headers, *kinds, absent=JSON)
        served, asked = self._served(names), oip.Asked()

        def decode(body: bytes, served: Served) -> Inputs:
            nonlocal asked
            inputs, asked = oip.decode(body, served, json_bytes)
            return inputs

        return await self._work(await request.read(), served, decode, lambda answers: oip.encode(answers, asked))

    async def _invocations(self, request: Request, names: tuple[str, ...]) -> Reply:
        kind = check_type(request.headers, JSON, CSV)
        decode = mlflow.decode_csv if kind == CSV else mlflow.decode
        served = self._served(names)
        return await self._work(await request.read(), served, decode, mlflow.encode)

    async def _metadata(self, _request: Request, names: tuple[str, ...]) -> Reply:
        return to_json(oip.metadata(self._served(names)))

    async def _model_ready(self, _request: Request, names: tuple[str, ...]) -> Reply:
        return to_json({"name": self._served(names).model, "ready": True})

    async def _server(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return to_json(oip.server_metadata())

    async def _live(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return to_json({"live": True})

    async def _ready(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return to_json({"ready": self.follower.is_ready}, 200 if self.follower.is_ready else 503)

    async def _version(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return Reply(200, __version__.encode(), TEXT)

    async def _openapi(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        served = self.follower.get(self.follower.default)
        return to_json(describe(served, self.follower.names, needs_token=bool(self.tokens)))

    async def _lineages(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return to_json(await asyncio.get_running_loop().run_in_executor(self._pool, self._story.to_json))

    async def _live_figures(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return to_json({"uptime_s": time.monotonic() - self._started, **self._live_counts})

    async def _metrics_text(self, _request: Request, _names: tuple[str, ...]) -> Reply:
        return Reply(200, self.metrics.text(), TEXT)

    async def _live_on(self, receive: Receive, send: Send) -> None:
        """Follow the store from start to stop."""
        await receive()
        self.follower.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.follower.stop()
        self._pool.shutdown(cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})


def _whole(
    body: bytes, served: Served, decode: Callable[[bytes, Served], Inputs], encode: Callable[[Answers], Reply]
) -> tuple[int, Reply]:
    inputs = decode(body, served)
    return len(inputs.x_num), encode(Answers.of(served, served.predict(inputs)))
