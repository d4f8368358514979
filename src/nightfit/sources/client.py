"""One GET after the other, within a budget of seconds and of bytes: what time may mend is asked for again."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from types import TracebackType
from typing import NoReturn, Self

import urllib3
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as NoAnswerError

from nightfit.errors import ConfigError, DataError, TryAgainError
from nightfit.sources.configs import HttpConfig
from nightfit.sources.endpoint import Endpoint, request_target

BACKOFF_S = 0.5
"""Longest wait after a first failure; it doubles with each that follows."""
LONGEST_BACKOFF_S = 30.0
MAX_REDIRECTS = 5
PIECE_BYTES = 64 << 10
_RETRIED = {408, 429, 500, 502, 503, 504}


class NotThereError(ConfigError):
    """The API answered 404."""


@dataclass(frozen=True)
class Answer:
    """A whole answer; `body` is unpacked, `url` is where it came from in the end."""

    url: str
    status: int
    content_type: str
    link: str
    body: bytes


class _FailedError(Exception):
    """An attempt failed in a way that time may mend; the server may say how many seconds that takes."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Client:
    """Asks one origin, and no other, for one reading.

    What failed attempts and the waits between them take is counted against `patience_s`, the bytes of bodies against
    `max_bytes`. Messages may hold secrets: what leaves the source is scrubbed.
    """

    def __init__(
        self, endpoint: Endpoint, config: HttpConfig, *, jitter: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._endpoint = endpoint
        self._config = config
        self._jitter = jitter
        self._left_s = config.patience_s
        self._left_bytes = config.max_bytes
        self._timeout = urllib3.Timeout(connect=config.timeout_s, read=config.timeout_s)
        options = {"ssl_context": ssl.create_default_context()} if endpoint.origin.startswith("https:") else {}
        self._pool = urllib3.connection_from_url(endpoint.origin, maxsize=1, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.close()

    def get(self, url: str) -> Answer:
        """Return what a url of the endpoint's origin answers.

        Raises `TryAgainError` when the patience is at its end, `ConfigError` for what the API refuses, `DataError` for
        more bytes than `max_bytes`.
        """
        n_failures = 0
        while True:
            started_at = time.monotonic()
            try:
                return self._follow(url)
            except _FailedError as failure:
                self._left_s -= time.monotonic() - started_at
                self._wait(failure, n_failures)
                n_failures += 1

    def _wait(self, failure: _FailedError, n_failures: int) -> None:
        """Wait before the next attempt: exponential backoff with full jitter, or as long as the server says."""
        backoff_s = self._jitter(0.0, min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0**n_failures))
        wait_s = max(failure.wait_s, backoff_s)
        if wait_s > self._left_s:
            said = f" and said to wait {failure.wait_s:.0f} s" if failure.wait_s > max(self._left_s, 0.0) else ""
            patience_s = self._config.patience_s
            when = f"within {patience_s:g} s of patience" if patience_s else "at the first attempt"
            raise TryAgainError(
                f"{self._endpoint.label} must answer {when}, however {failure}{said}; see that it is up, and that the "
                "url is right; then try again later, or raise patience_s"
            )
        time.sleep(wait_s)
        self._left_s -= wait_s

    def _follow(self, url: str) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            with closing(self._asked(url)) as response:
                location = response.get_redirect_location()
                if not location:
                    self._check_status(response)
                    return self._whole(url, response)
            url = self._redirected(location, url)
        raise ConfigError(
            f"{self._endpoint.label} must answer after at most {MAX_REDIRECTS} redirects, however it sends to one "
            "more; mend the url"
        )

    def _asked(self, url: str) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.urlopen(
                "GET",
                request_target(url),
                headers={"Accept": "application/json", "Accept-Encoding": "gzip", **self._endpoint.headers},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=self._timeout,
            )
        except HTTPError as error:
            self._fail(error)

    def _whole(self, url: str, response: urllib3.BaseHTTPResponse) -> Answer:
        """Read a body piece by piece, so that neither its size nor the time it takes is without a bound."""
        ends_at = time.monotonic() + max(self._left_s, self._config.timeout_s)
        body = bytearray()
        try:
            while piece := response.read1(PIECE_BYTES):
                body += piece
                if len(body) > self._left_bytes:
                    raise DataError(
                        f"the pages of {self._endpoint.label} must have at most {self._config.max_bytes} bytes in a "
                        "night, however there are more; raise max_bytes"
                    )
                if time.monotonic() > ends_at:
                    raise _FailedError("its answer did not come to an end")
        except HTTPError as error:
            self._fail(error)
        self._left_bytes -= len(body)
        headers = response.headers
        return Answer(url, response.status, headers.get("Content-Type", ""), headers.get("Link", ""), bytes(body))

    def _redirected(self, location: str, url: str) -> str:
        target, origin = self._endpoint.joined(location, url)
        if origin != self._endpoint.origin:
            raise ConfigError(
                f"{self._endpoint.label} must answer itself, however it redirects to {origin or 'no http url'}, where "
                "the headers are not sent; mend the url"
            )
        return target

    def _check_status(self, response: urllib3.BaseHTTPResponse) -> None:
        status, label = response.status, self._endpoint.label
        if status in _RETRIED:
            raise _FailedError(f"it answered {status}", _retry_after_s(response))
        if status >= 500:  # noqa: PLR2004 - server errors, as HTTP has them
            raise TryAgainError(f"{label} must answer 200, however it answered {status}; try again later")
        if status in {401, 403}:
            raise ConfigError(f"{label} must let the request in, however it answered {status}; mend the headers")
        if status == 404:  # noqa: PLR2004
            raise NotThereError(f"{label} must be there, however it answered 404; mend the url")
        if not 200 <= status < 300:  # noqa: PLR2004
            raise ConfigError(f"{label} must answer 200, however it answered {status}; mend the url and its parameters")

    def _fail(self, error: HTTPError) -> NoReturn:
        """Raise what an error of urllib3 means."""
        label = self._endpoint.label
        cause = error.args[0] if error.args else None
        if isinstance(error, SSLError) and isinstance(cause, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"{label} must have a certificate that this system trusts, however: {cause.verify_message}; mend the "
                "url, or add its authority to the system's (SSL_CERT_FILE)"
            ) from None
        if isinstance(error, DecodeError):
            raise DataError(f"{label} must answer sound gzip, however: {cause}; mend the API") from None
        if isinstance(error, NoAnswerError) and not isinstance(error, NewConnectionError):
            raise _FailedError(f"nothing came for {self._config.timeout_s:g} s") from None
        raise _FailedError(f"the connection failed: {error.args[-1] if error.args else type(error).__name__}") from None


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds of a Retry-After, which has them or a date; 0 if there is none that can be read.

    A date is compared with the server's own clock, where it tells that.
    """
    text = response.headers.get("Retry-After", "").strip()
    try:
        if text.isdecimal():
            return float(text)
        until, now = parsedate_tz(text), parsedate_tz(response.headers.get("Date", ""))
        return max(0.0, mktime_tz(until) - (mktime_tz(now) if now else time.time())) if until else 0.0
    except (ValueError, OverflowError):
        return 0.0
