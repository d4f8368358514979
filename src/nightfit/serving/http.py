"""What the application says and hears: requests, replies, routes and limits, and the checks of a request's head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
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

JSON, CSV = b"application/json", b"text/csv"
TEXT, HTML = b"text/plain; version=0.0.4; charset=utf-8", b"text/html; charset=utf-8"
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

AGAIN, BEARER, CLOSE = (b"retry-after", b"1"), (b"www-authenticate", b"Bearer"), (b"connection", b"close")

_ONCE = (
    b"host",
    b"authorization",
    b"content-type",
    b"content-length",
    b"transfer-encoding",
    b"content-encoding",
    b"inference-header-content-length",
)


def file_handler(name: str, content_type: bytes) -> Handler:
    """Return what answers with a file of the package."""

    async def handler(_request: Request, _names: tuple[str, ...]) -> Reply:
        return Reply(200, page(name), content_type, SAFE)

    return handler


def too_large(limit: int) -> RequestError:
    """Return the error for a body of more bytes."""
    return RequestError(413, f"a body must have at most {limit:,} bytes, however this one has more")


def check_head(pairs: Sequence[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]) -> None:
    """Raise `RequestError` (400, and an end to the connection) for a head that could be read in two ways.

    A header that came twice, where only one can be meant (RFC 9110, 5.3, and 9112, 3.2); a body that is coded otherwise
    than chunked: whoever does not see it may find another request in it (RFC 9112, 11.2).
    """
    if len(headers) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next((name for name in _ONCE if names.count(name) > 1), None)
        if twice is not None:
            fact = f"{twice.decode()} is there {names.count(twice)} times"
            raise RequestError(400, f"this header must be there once, however {fact}", CLOSE)
    coding = headers.get(b"transfer-encoding", b"chunked")
    if coding.strip().lower() != b"chunked":
        fact = f"its Transfer-Encoding is {coding[:60].decode('latin-1')}"
        raise RequestError(400, f"a body must be sent plain or chunked, however {fact}", CLOSE)


def check_type(headers: Mapping[bytes, bytes], *legal: bytes, absent: bytes = b"") -> bytes:
    """Return the content type; `absent` is what none means, but not from a browser's page, which could be anybody's.

    Raises `RequestError` for another one, a charset that is not UTF-8, and a body that is compressed.
    """
    came = headers.get(b"content-type", b"" if b"origin" in headers else absent)
    coding = headers.get(b"content-encoding", b"identity")
    kind, *options = (part.strip() for part in came.lower().split(b";"))
    if kind not in legal or not all(map(_is_utf8, options)):
        words = " or ".join(word.decode() for word in legal)
        raise RequestError(
            415, f"the content type must be {words} in UTF-8, however it is {came[:60].decode('latin-1') or 'none'}"
        )
    if coding.lower() != b"identity":
        raise RequestError(415, f"a body must come as it is, however it is coded as {coding[:60].decode('latin-1')}")
    return kind


def _is_utf8(option: bytes) -> bool:
    """Say whether a content type's parameter leaves its text in UTF-8."""
    name, _, value = option.partition(b"=")
    return name.strip() != b"charset" or value.strip().strip(b'"') in {b"utf-8", b"utf8"}


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
