"""What the application says and hears: requests, replies, routes and limits, and the checks of a request's head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import msgspec

from nightfit.serving.errors import RequestError
from nightfit.serving.pages import page

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

SMALL_BYTES = 4_096
"""Bodies up to this are answered on the event loop; larger ones on a thread, so that nobody waits for them."""

GET, POST = ("GET", "HEAD"), ("POST",)

JSON, TEXT, HTML = b"application/json", b"text/plain; version=0.0.4; charset=utf-8", b"text/html; charset=utf-8"
SCRIPT = b"text/javascript; charset=utf-8"


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may ask for."""

    body_bytes: int = 8 << 20
    read_s: float = 10.0
    n_requests: int = 256
    """Requests that are answered at once; those whose body is still coming do not count."""
    reading_bytes: int = 256 << 20
    """Bytes of all bodies together that are still coming."""


class Reply(NamedTuple):
    """An answer: status, body, its content type, and further headers."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Request(NamedTuple):
    """A request whose head has been checked: headers by name, and what reads the body."""

    headers: Mapping[bytes, bytes]
    read: Callable[[], Awaitable[bytes]]


Handler: TypeAlias = "Callable[[Request, tuple[str, ...]], Awaitable[Reply]]"


class Route(NamedTuple):
    """What answers a path: its name in metrics, its methods, the handler, and whether it is open without a token."""

    name: str
    methods: tuple[str, ...]
    handler: Handler
    is_open: bool = False


def to_json(value: Any, status: int = 200) -> Reply:  # noqa: ANN401 - what JSON holds
    """Return a JSON reply."""
    return Reply(status, msgspec.json.encode(value))


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

SAFE = (
    (
        b"content-security-policy",
        b"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
)
"""Headers of pages: nothing from elsewhere, and no script but our own file."""

AGAIN, BEARER = (b"retry-after", b"1"), (b"www-authenticate", b"Bearer")


def file_handler(name: str, content_type: bytes) -> Handler:
    """Return what answers with a file of the package."""

    async def handler(_request: Request, _names: tuple[str, ...]) -> Reply:
        return Reply(200, page(name), content_type, SAFE)

    return handler


def too_large(limit: int) -> RequestError:
    """Return the error for a body of more bytes."""
    return RequestError(413, f"a body must have at most {limit:,} bytes, however this one has more")


def check_type(headers: Mapping[bytes, bytes], *legal: bytes) -> bytes:
    """Return the content type; raises `RequestError` for another one, or a charset that is not UTF-8."""
    kind, _, options = headers.get(b"content-type", b"").lower().partition(b";")
    charset = options.strip().removeprefix(b"charset=").strip(b'"') if b"charset=" in options else b"utf-8"
    if kind.strip() not in legal or charset not in {b"utf-8", b"utf8"}:
        words = " or ".join(word.decode() for word in legal)
        came = headers.get(b"content-type", b"none")[:60].decode("latin-1")
        raise RequestError(415, f"the content type must be {words} in UTF-8, however it is {came}")
    return kind.strip()


def host_of(header: bytes) -> str:
    """Return the name in a Host header, without its port."""
    name = header.decode("latin-1").lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


async def send_reply(send: Send, reply: Reply, *, with_body: bool) -> None:
    """Send a reply, or, to a HEAD, all but its body."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})
