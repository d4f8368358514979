from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
)
from nightfit.errors import NightfitError
from nightfit.sources import client as client_module
from nightfit.sources.base import Surroundings
from nightfit.sources.configs import HttpConfig
from nightfit.sources.http import HttpSource
from nightfit.sources.make import make_source


@pytest.fixture
def api() -> Iterator[Api]:
    """Serve an API of no records yet."""
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_S", 0.01)


PASSWORD, KEY, TOKEN = "pass:wörd/1", "key+in=url/2", "token-in-header-3"
ENVIRONMENT = {"USER_NAME": "alice@shop", "PASSWORD": PASSWORD, "API_KEY": KEY, "TOKEN": TOKEN}


def echo(handler: Handler) -> bytes:
    """Give all that was sent."""
    return f"{json.dumps([PASSWORD, KEY])} {PASSWORD} {handler.path} {handler.headers}".encode()


def echoing(handler: Handler) -> None:
    """Answer with all that was sent, everywhere."""
    authorization, token = handler.headers["Authorization"], handler.headers["X-Token"]
    handler.reply(echo(handler), {"Content-Type": f"text/{token}", "X": authorization}, 200)


def echoing_records(handler: Handler) -> None:
    """Answer with records that hold all that was sent, and lead to another host of that name."""
    text = f"{handler.headers['X-Token']} {handler.headers['Authorization']} {handler.path}"
    body = {"data": {"items": [text, [text], row(1, 1), {"id": text}]}, "next": f"http://{TOKEN}.example/?{KEY}"}
    handler.reply(json.dumps(body).encode(), {})


def redirecting(handler: Handler) -> None:
    """Send to another host, with all that was sent."""
    handler.reply(b"", {"Location": f"http://user:{TOKEN}@{TOKEN}.example{handler.path}"}, 302)


FAILURES = [
    *(answering("", status, Retry_After="3600") for status in (301, 304, 400, 401, 403, 404, 429, 500, 501, 503)),
    dropping,
    half,
    half_chunked,
    silent,
    endless(piece=b" " * 100_000),
    echoing,
    echoing_records,
    redirecting,
]


class TestSecrets:
    """What must not be said."""

    @pytest.mark.parametrize("failure", FAILURES)
    def test_no_secret_is_said(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, failure: Callable[[Handler], None]
    ) -> None:
        """Whatever fails, and whatever the API repeats: no message, note, cursor, place or bad row holds a secret."""
        _set_environment(monkeypatch)
        api.records += [row(i, i) for i in range(9)]
        said = [repr(_say_all(api, failure, pages)) for pages in ({}, {"pages": "next", "next": "next"})]
        text = " ".join(said)
        assert "shop" in text
        for secret in (*ENVIRONMENT.values(), "w%C3%B6rd", "key%2Bin", "key+in", "alice%40", "YWxpY2V"):
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text

    def test_what_is_sent(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """User and password become basic authentication; headers and the query are filled from the environment."""
        _set_environment(monkeypatch)
        api.records.append(row(1, 1))
        assert Night(_secretive(api, timeout_s=5.0)).ids == [1]
        ((path, headers),) = api.requests
        assert headers["X-Token"] == f"Bearer {TOKEN}"
        assert headers["Authorization"] == "Basic YWxpY2VAc2hvcDpwYXNzOnfDtnJkLzE="
        assert path == "/rows?key=key%2Bin%3Durl%2F2"


def _set_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value if name == "TOKEN" else quote(value, safe=""))


def _secretive(api: Api, **options: Any) -> HttpSource:  # noqa: ANN401
    url = api.url.replace("http://", "http://${USER_NAME}:${PASSWORD}@") + "?key=${API_KEY}"
    defaults: dict[str, Any] = {"name": "shop", "records": "data.items", "cursor": "at", "timeout_s": 0.1}
    headers = {"X-Token": "Bearer ${TOKEN}"}
    config = HttpConfig(url, **{**defaults, "headers": headers, "patience_s": 0.1, "max_bytes": 1 << 20, **options})
    made = make_source(config, Surroundings((), "y", Path()))
    assert isinstance(made, HttpSource)
    return made


def _say_all(api: Api, failure: Callable[[Handler], None], options: dict[str, Any]) -> list[object]:
    """Return all that a source says of a failure."""
    api.behaviour = failure
    said: list[object] = [_secretive(api).name]
    for optional in (True, False):
        try:
            night = Night(_secretive(api, optional=optional, **options))
        except NightfitError as error:
            said += [str(error), *traceback.format_exception(error)]
        else:
            said += [night.notes, night.bad, night.cursor, [chunk.place for chunk in night.chunks]]
    return said
