"""One client's connection: uvicorn's HTTP, with bounds on what a head may take and an answer for what is no HTTP.

A timer runs whenever no request is being answered. It closes a connection that is idle, that sends its head or the rest
of a body that was refused too slowly, or that does not read its answer.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_S = 10.0
"""Seconds in which a request's head must have come, and for which an idle connection is kept."""

HEAD_BYTES = 64 << 10
"""Bytes that a request's head may have."""


class Connection(HttpToolsProtocol):
    """A connection of a client, from which requests come one after the other."""

    _timer: asyncio.TimerHandle | None = None
    _n_head = 0
    """Bytes that have come since the last head or piece of a body: an unfinished head, trailers."""
    _data = b""
    _n_unread = float("inf")
    """Bytes of answers that the client had not read when the timer last ended."""
    _last_words: bytes | None = None
    """What is still to be said, after the answers to the requests before, to bytes that are no request."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's
        """Await the first head."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read on, and end what has no end."""
        self._n_head += len(data)
        self._data = data
        super().data_received(data)  # which sets it back to 0 where it comes to a head's end or a body
        if self._n_head > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"a request's head must have at most {HEAD_BYTES:,} bytes, however it has more")

    def on_message_begin(self) -> None:
        """Await the end of a head."""
        super().on_message_begin()
        self._n_head = 0
        if self._timer is None:  # a request that comes before the last one's answer
            self._start_timer()

    def on_headers_complete(self) -> None:
        """Leave the time that a body and an answer take to the application."""
        self._n_head = 0
        if self._asks_for_upgrade():
            return
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, whose size the application bounds."""
        self._n_head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a body."""
        self._n_head = 0
        if not self._asks_for_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Await the next head, unless the next request is there already."""
        super().on_response_complete()
        if self._last_words is not None and not self._is_answering():
            self._end_with(self._last_words)
        elif self.pipeline:  # uvicorn reads on, without an end
            self.flow.pause_reading()
        elif self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that this is no HTTP."""
        self._refuse(400, f"a request must be HTTP, however: {msg}")

    def _asks_for_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """Read the request again without its wish, as HTTP lets a server do: Java's client wishes for HTTP/2."""
        upgrade = sys.exception()
        assert isinstance(upgrade, httptools.HttpParserUpgrade)
        rest = self._data[upgrade.args[0] :]
        head = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        head += [b"%s: %s" % item for item in self.headers if item[0] not in {b"connection", b"upgrade"}]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*head, b"", b""]) + rest)

    def _refuse(self, status: int, message: str) -> None:
        body = msgspec.json.encode({"error": message, "request_id": secrets.token_hex(4)})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self._end_with(STATUS_LINE[status] + head + body)

    def _is_answering(self) -> bool:
        """Say whether the last request, which came whole, waits for its answer."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    def _end_with(self, words: bytes) -> None:
        """Send this after the answers that are still to come, and close."""
        if self._is_answering():
            self._last_words = words
            self.flow.pause_reading()
        else:
            self.transport.write(words)
            self.transport.close()

    def _start_timer(self) -> None:
        self._n_unread = float("inf")
        self._timer = self.loop.call_later(HEAD_S, self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        """Close, at once where the client reads no answer: to wait for it would be for ever."""
        n = self.transport.get_write_buffer_size()
        if 0 < n < self._n_unread:
            self._n_unread, self._timer = n, self.loop.call_later(HEAD_S, self._end)
        else:
            self.transport.abort()
