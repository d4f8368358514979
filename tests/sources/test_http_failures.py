from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from api import (
    Api,
    Handler,
    Night,
    answering,
    dropping,
    endless,
    half,
    half_chunked,
    row,
    serving,
    silent,
    silent_within,
    source,
)
from nightfit.errors import ConfigError, NightfitError, TryAgainError
from nightfit.sources import client as client_module


@pytest.fixture
def api() -> Iterator[Api]:
    """Serve an API of no records yet."""
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_S", 0.01)


class Strict:
    """Answers 429 with a Retry-After, and bans whoever comes earlier than that."""

    def __init__(self, *, is_date: bool) -> None:
        self.is_date, self.until = is_date, 0.0

    def __call__(self, handler: Handler) -> None:
        """Answer one request."""
        now = time.time()
        if not self.until:
            # A date has whole seconds; the two clocks that are compared may tick between two steps of this.
            self.until = now // 1 + 2 if self.is_date else now + 0.95
            retry_after = formatdate(self.until, usegmt=True) if self.is_date else "1"
            handler.reply(b"", {"Retry-After": retry_after}, 429)
        elif now < self.until:
            handler.reply(b"", {}, 403)
        else:
            handler.server.api.page(handler)


class TestFailures:
    """Answers that do not come, and what is worth another attempt."""

    @pytest.mark.parametrize(
        "failure",
        [
            *(answering("", status) for status in (408, 429, 500, 502, 503, 504)),
            answering("", 503, Retry_After="0"),
            answering("", 503, Retry_After="soon"),
            answering("", 503, Retry_After="9" * 5000 + "x"),
            answering("", 429, Retry_After="Mon, 02 Nov 2026 00:00:00 GMT", Date="Mon, 02 Nov 2026 00:00:01 GMT"),
            dropping,
            half,
            half_chunked,
            silent,
            silent_within,
        ],
    )
    def test_second_attempt(self, api: Api, failure: Callable[[Handler], None]) -> None:
        """A page that fails once is asked for again, and nothing is lost or read twice."""
        api.records += [row(i, i) for i in range(9)]
        api.pages = "token"
        api.next_behaviours = [api.page, failure, failure]
        assert Night(source(api, timeout_s=0.25, patience_s=5)).ids == list(range(9))
        assert [query.get("page") for query in api.queries] == [None, "2", "2", "2", "3"]

    @pytest.mark.parametrize("is_date", [True, False])
    def test_retry_after(self, api: Api, *, is_date: bool) -> None:
        """An API that says how long to wait, in seconds or as a date, is not asked earlier."""
        api.records.append(row(1, 1))
        api.behaviour = Strict(is_date=is_date)
        assert Night(source(api)).ids == [1]

    @pytest.mark.parametrize(
        "retry_after", ["3600", formatdate(time.time() + 3600, usegmt=True), "9" * 400], ids=["s", "date", "too large"]
    )
    def test_retry_after_beyond_the_patience(self, api: Api, retry_after: str) -> None:
        """An API that says to wait longer than the patience is not waited for."""
        api.behaviour = answering("", 429, Retry_After=retry_after)
        with pytest.raises(TryAgainError, match=r"within 30 s of patience, however it answered 429 and said to wait"):
            Night(source(api, patience_s=30))
        assert len(api.requests) == 1

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (answering("", 503), "it answered 503;"),
            (dropping, "the connection failed: Remote end closed connection"),
            (half, r"the connection failed: IncompleteRead\(20 bytes read, 980 more expected\)"),
            (half_chunked, "the connection failed: "),
            (silent, "nothing came for 0.2 s;"),
            (silent_within, "nothing came for 0.2 s;"),
            (endless(piece=b" ", pause_s=0.02), "its answer did not come to an end;"),
        ],
    )
    def test_patience_ends(self, api: Api, failure: Callable[[Handler], None], reason: str) -> None:
        """An API that goes on failing ends the night with the last reason, and no page is read by halves."""
        api.records += [row(i, i) for i in range(9)]
        api.pages = "token"
        api.next_behaviours = [api.page, *[failure] * 1000]
        with pytest.raises(TryAgainError, match=rf"^source 'shop' \(http://\S+/rows\) must .*, however {reason}"):
            next(source(api, timeout_s=0.2, patience_s=0.5).read(None, lambda _: None))
        assert len(api.requests) >= 2

    def test_nobody_listens(self) -> None:
        """A port without a server is worth another attempt until the patience ends."""
        with serving() as gone:
            pass
        with pytest.raises(TryAgainError, match=r"the connection failed: .*refused"):
            Night(source(gone, patience_s=0.1))

    def test_no_patience(self, api: Api) -> None:
        """Without patience there is one attempt."""
        api.behaviour = answering("", 503)
        with pytest.raises(TryAgainError):
            Night(source(api, patience_s=0))
        assert len(api.requests) == 1

    @pytest.mark.parametrize(
        ("status", "error", "advice"),
        [
            (400, ConfigError, "mend the url and its parameters"),
            (401, ConfigError, "mend the headers"),
            (403, ConfigError, "mend the headers"),
            (404, ConfigError, "mend the url"),
            (405, ConfigError, "mend the url and its parameters"),
            (304, ConfigError, "mend the url and its parameters"),
            (501, TryAgainError, "try again later"),
        ],
    )
    def test_refused(self, api: Api, status: int, error: type[NightfitError], advice: str) -> None:
        """What no further attempt would mend is an error at once, which says what would."""
        api.behaviour = answering("", status)
        with pytest.raises(error, match=f"however it answered {status}; {advice}$"):
            Night(source(api))
        assert len(api.requests) == 1

    def test_optional(self, api: Api) -> None:
        """An optional API that is not there has nothing new; a page that is not there is an error nonetheless."""
        api.records += [row(i, i) for i in range(9)]
        first = Night(source(api))
        api.next_behaviours = [answering("", 404)]
        night = Night(source(api, optional=True), first.cursor)
        assert night.chunks == []
        assert night.notes[0].endswith("however it answered 404; nothing was read, since it is optional")
        api.pages, api.next_behaviours = "body", [api.page, answering("", 404)]
        with pytest.raises(ConfigError, match="404"):
            Night(source(api, optional=True))

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirect(self, api: Api, status: int) -> None:
        """A redirect within the host is followed, and the next page starts from there."""
        api.records += [row(i, i) for i in range(6)]
        api.pages = "body"
        api.next_behaviours = [answering("", status, Location="/v2/rows?page=1")]
        assert Night(source(api)).ids == list(range(6))
        assert [path for path, _ in api.requests] == ["/rows", "/v2/rows?page=1", "/v2/rows?page=2"]

    def test_redirect_to_another_host(self, api: Api) -> None:
        """A redirect to another host is an error that names it, and nothing is sent there."""
        with serving() as other:
            api.behaviour = answering("", 302, Location=f"{other.url}?key=secret-key")
            with pytest.raises(ConfigError, match=f"redirects to http://127.0.0.1:{other.port}, where the headers"):
                Night(source(api))
            assert other.requests == []

    def test_redirects_without_an_end(self, api: Api) -> None:
        """Redirects end after five."""
        api.behaviour = answering("", 302, Location="rows")
        with pytest.raises(ConfigError, match="after at most 5 redirects"):
            Night(source(api))
        assert len(api.requests) == 6


class TestTls:
    """HTTPS."""

    def test_trust(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A certificate counts if this system trusts it; otherwise it is an error at once."""
        request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -days 2"
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        subprocess.run(["openssl", *request.split(), "-keyout", key, "-out", certificate], check=True, stderr=-3)
        with serving(certificate=certificate, key=key, records=[row(1, 1)]) as api:
            with pytest.raises(ConfigError, match="must have a certificate that this system trusts, however: self"):
                Night(source(api))
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert Night(source(api)).ids == [1]
