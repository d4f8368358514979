"""A real HTTP server on loopback with a list of records, which can be told how to answer or fail."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from nightfit.sources.base import Cursor
from nightfit.sources.configs import HttpConfig
from nightfit.sources.http import HttpSource

PAGES: dict[str, dict[str, Any]] = {
    "none": {"pages": "none"},
    "link": {"pages": "next"},
    "body": {"pages": "next", "next": "meta.next"},
    "number": {"pages": "number"},
    "token": {"pages": "token", "next": "meta.next"},
}
Query: TypeAlias = dict[str, str]
Behaviour: TypeAlias = "Callable[[Handler], None]"


class Handler(BaseHTTPRequestHandler):
    """Hands each GET to the next behaviour of the API, or to its usual one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.server.api.opened.append(self.client_address)

    def finish(self) -> None:
        """Count the connection's end."""
        super().finish()
        self.server.api.closed.append(self.client_address)

    def do_GET(self) -> None:
        """Answer one request."""
        api = self.server.api
        api.requests.append((self.path, dict(self.headers)))
        (api.next_behaviours.pop(0) if api.next_behaviours else api.behaviour)(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Say nothing."""

    def reply(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Serves one API; a client that goes away is nothing to report."""

    daemon_threads = True
    api: Api

    def handle_error(self, *_: object) -> None:
        """Say nothing, and remember it."""
        self.api.broken.set()


@dataclass
class Api:
    """Records, how they are handed out, and what was asked."""

    records: list[Any] = field(default_factory=list)
    pages: str = "none"
    page_size: int = 4
    cursor: str = "at"
    is_packed: bool = False
    arranged: Callable[[list[Any]], list[Any]] = list
    next_behaviours: list[Behaviour] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    opened: list[object] = field(default_factory=list)
    closed: list[object] = field(default_factory=list)
    broken: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        self.behaviour: Behaviour = self.page

    @property
    def url(self) -> str:
        """Where the records are."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}/rows"

    @property
    def queries(self) -> list[Query]:
        """The query parameters of all requests."""
        return [_query(path) for path, _ in self.requests]

    def page(self, handler: Handler) -> None:
        """Answer with the page that was asked for, of the records not before `since`."""
        query = _query(handler.path)
        records = self.arranged([r for r in self.records if self._is_since(r, query.get("since"))])
        page = int(query.get("page", "1"))
        start = (page - 1) * self.page_size
        is_last = start + self.page_size >= len(records)
        part = records if self.pages == "none" else records[start : start + self.page_size]
        answer: dict[str, Any] = {"data": {"items": part}, "meta": {"next": None}}
        headers: dict[str, str] = {}
        if not is_last and self.pages == "token":
            answer["meta"] = {"next": page + 1}
        if not is_last and self.pages == "body":
            answer["meta"] = {"next": _url(query, page + 1)}
        if not is_last and self.pages == "link":
            headers["Link"] = f'<{_url(query, 1)}>; rel="first", <{_url(query, page + 1)}>; rel="next"'
        body = json.dumps(answer).encode()
        if self.is_packed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        handler.reply(body, headers)

    def _is_since(self, record: Any, since: str | None) -> bool:  # noqa: ANN401
        value = record.get(self.cursor) if isinstance(record, dict) else None
        if since is None or isinstance(value, bool) or not isinstance(value, int | float | str):
            return True
        return bool(value >= type(value)(since))  # type: ignore[operator]


@contextmanager
def serving(**options: Any) -> Iterator[Api]:  # noqa: ANN401
    """Serve an API as long as the context lasts."""
    api = Api(**options)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.api, api.port = api, server.server_address[1]
        if api.certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(api.certificate, api.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.over.set()
            server.shutdown()
            thread.join()


def _query(path: str) -> Query:
    return {name: values[-1] for name, values in parse_qs(urlsplit(path).query).items()}


def _url(query: Query, page: int) -> str:
    """Give a relative URL."""
    since = f"since={query['since']}&" if "since" in query else ""
    return f"rows?{since}page={page}"


def answering(body: bytes | str, status: int = 200, **headers: str) -> Behaviour:
    """Answer so whatever is asked; `_` in a header's name stands for `-`."""
    data = body if isinstance(body, bytes) else body.encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(data, named, status)


def dropping(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def half(handler: Handler) -> None:
    """Promise a thousand bytes and send twenty."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": {"items": [')
    handler.close_connection = True


def half_chunked(handler: Handler) -> None:
    """Break off between two chunks."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"5\r\n[1, 2\r\n")
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.server.api.over.wait(20)
    handler.close_connection = True


def silent_within(handler: Handler) -> None:
    """Begin an answer and say nothing more until the test is over."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"[")
    silent(handler)


def endless(*, piece: bytes, pause_s: float = 0.0) -> Behaviour:
    """Send one piece after the other until the client goes away."""

    def behaviour(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while not handler.server.api.over.wait(pause_s):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    return behaviour


def source(api: Api, **options: Any) -> HttpSource:  # noqa: ANN401
    """Make a source of the API, with its cursor `at` unless options say otherwise."""
    defaults = {
        "url": api.url,
        "name": "shop",
        "records": "data.items",
        "cursor": "at",
        "since": "since",
        "patience_s": 5,
    }
    config = HttpConfig(**{**defaults, **PAGES[api.pages], **options})
    return HttpSource(config, url=config.url)


def listing(api: Api, **options: Any) -> HttpSource:  # noqa: ANN401
    """Make a source without a cursor."""
    return source(api, cursor="", since="", **options)


class Night:
    """One reading of a source: rows, bad rows, notes, and the cursor reached."""

    def __init__(self, src: HttpSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks = list(src.read(after, self.notes.append))
        self.ids = [row["id"] for chunk in self.chunks for row in chunk.table.to_pylist()]
        self.rows = [row for chunk in self.chunks for row in chunk.rows.tolist()]
        self.bad = [bad for chunk in self.chunks for bad in chunk.bad]
        last = self.chunks[-1] if self.chunks else None
        self.cursor = json.loads(json.dumps(last.cursor_at(len(last.table)))) if last else after


def row(i: object, at: object, **more: object) -> dict[str, object]:
    """Make a record."""
    return {"id": i, "at": at, **more}
