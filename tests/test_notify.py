"""Who is told of a night: a real HTTP server, and a file as node_exporter reads it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nightfit import config
from nightfit.checkpoint import RowCounts
from nightfit.errors import ConfigError
from nightfit.lock import writer_lock
from nightfit.notify.config import NotifyConfig
from nightfit.notify.tell import notify
from nightfit.notify.told import ModelTold, Told

ROWS = RowCounts(read=10, learned=8, held_out=1, rejected=1)
MODEL = ModelTold(
    "deep", "accepted", 2, 'accepted: "so"', {"log_loss": 0.25}, ROWS, 1.5, ["price"], 0.3, ["price moved"]
)
TOLD = Told("shop", 0, datetime(2026, 3, 2, 2, 31, tzinfo=UTC), [MODEL])


class Hook(ThreadingHTTPServer):
    """A server that keeps what it was sent, and answers as it is told: a status, a redirect, or a drip without end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: int | str = 200
        self.got: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        """Where it is, with a path that is a secret."""
        return f"http://127.0.0.1:{self.server_port}/services/s3cr3t"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        """Take a notification."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, dict(self.headers), body))
        if self.server.answer == "drip":
            self._drip()
        elif isinstance(self.server.answer, str):
            self.send_response(307)
            self.send_header("Location", self.server.answer)
            self.end_headers()
        else:
            self.send_response(int(self.server.answer))
            self.end_headers()

    def _drip(self) -> None:
        """Send a byte of a head that has no end, now and then."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Start a server."""
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def told_to(folder: Path, told: Told = TOLD, **keys: Any) -> list[str]:  # noqa: ANN401 - keys of [notify]
    """Tell of a night as a config with these keys would; return the warnings."""
    document = {"name": "shop", "target": "y", "sources": [{"url": "x.csv"}], "notify": keys}
    return list(notify(config.parse(document, folder), told))


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """Return what Prometheus' own parser finds in a file, by name and the labels' values: pipeline, model, the rest."""
    families = text_string_to_metric_families(path.read_text())
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = dict(sample.labels)
        first = [labels.pop(name) for name in ("pipeline", "model") if name in labels]
        found[sample.name, *first, *labels.values()] = sample.value
    return found


def test_a_webhook_gets_the_night(hook: Hook, tmp_path: Path) -> None:
    """A webhook gets one POST with verdict, scores, drift, rows and seconds of every model, and a line for chats."""
    assert told_to(tmp_path, webhook=hook.url) == []
    [(path, headers, body)] = hook.got
    assert (path, headers["Content-Type"]) == ("/services/s3cr3t", "application/json")
    assert body["text"] == 'nightfit: shop: deep: accepted: "so"'
    assert (body["pipeline"], body["exit_code"], body["error"]) == ("shop", 0, None)
    assert body["at"] == "2026-03-02T02:31:00+00:00"
    [model] = body["models"]
    assert model["scores"] == {"log_loss": 0.25}
    assert model["rows"] | {"read": 10, "learned": 8} == model["rows"]
    assert (model["seconds"], model["moved"], model["effect"]) == (1.5, ["price"], 0.3)


def test_secrets_come_from_the_environment(hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Url and headers may name variables; one that is not set is a warning that names it."""
    monkeypatch.setenv("HOOK_URL", hook.url)
    monkeypatch.setenv("HOOK_TOKEN", "abc")
    keys: dict[str, Any] = {"webhook": "${HOOK_URL}", "headers": {"Authorization": "Bearer ${HOOK_TOKEN}"}}
    assert told_to(tmp_path, **keys) == []
    assert hook.got[0][1]["Authorization"] == "Bearer abc"
    monkeypatch.delenv("HOOK_TOKEN")
    [warning] = told_to(tmp_path, **keys)
    assert "${HOOK_TOKEN}" in warning
    assert len(hook.got) == 1


@pytest.mark.parametrize("answer", [404, 500, "http://127.0.0.1:1/elsewhere", "drip"])
def test_a_webhook_that_fails_is_a_warning(hook: Hook, answer: int | str, tmp_path: Path) -> None:
    """Errors, redirects and answers without end are one warning within the timeout, without the url's secret."""
    hook.answer = answer
    started = time.monotonic()
    [warning] = told_to(tmp_path, webhook=hook.url, timeout_s=0.5)
    assert time.monotonic() - started < 3
    assert "the webhook must take what it is told, however http://127.0.0.1" in warning
    assert "changes nothing about the night" in warning
    assert "s3cr3t" not in warning
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/s3cr3t", "ftp://x/s3cr3t", "http://[/s3cr3t", "http://no-such.invalid/s3cr3t"]
)
def test_a_webhook_that_is_not_there_is_a_warning(url: str, tmp_path: Path) -> None:
    """A closed port, a name that nobody has and what is no url of http are warnings without the url."""
    [warning] = told_to(tmp_path, webhook=url, timeout_s=5)
    assert "webhook" in warning
    assert "s3cr3t" not in warning


def test_a_bad_header_is_a_warning(hook: Hook, tmp_path: Path) -> None:
    """A header that cannot be sent fails nothing but the telling."""
    [warning] = told_to(tmp_path, webhook=hook.url, headers={"X": "a\nb"})
    assert "the webhook must" in warning


def test_prometheus_reads_the_night(tmp_path: Path) -> None:
    """The textfile has verdict, scores, drift, rows and seconds as gauges, and nothing else is left in its folder."""
    assert told_to(tmp_path, textfile="shop.prom") == []
    found = samples(tmp_path / "shop.prom")
    assert found["nightfit_night_exit_code", "shop"] == 0
    assert found["nightfit_night_timestamp_seconds", "shop"] == TOLD.at.timestamp()
    assert found["nightfit_night_status", "shop", "deep", "accepted"] == 1
    assert found["nightfit_night_status", "shop", "deep", "refused"] == 0
    assert found["nightfit_night_version", "shop", "deep"] == 2
    assert found["nightfit_night_score", "shop", "deep", "log_loss"] == 0.25
    assert found["nightfit_night_rows", "shop", "deep", "learned"] == 8
    assert found["nightfit_night_seconds", "shop", "deep"] == 1.5
    assert found["nightfit_night_columns_moved", "shop", "deep"] == 1
    assert found["nightfit_night_drift_effect", "shop", "deep"] == 0.3
    assert [path.name for path in tmp_path.iterdir()] == ["shop.prom"]


def test_a_textfile_is_of_the_last_night(tmp_path: Path) -> None:
    """Each night replaces the file: of one that failed there are no models, not those of the night before."""
    told_to(tmp_path, textfile="shop.prom")
    told_to(tmp_path, replace(TOLD, models=[], exit_code=65, error="no"), textfile="shop.prom")
    assert {name for name, *_ in samples(tmp_path / "shop.prom")} == {
        "nightfit_night_exit_code", "nightfit_night_timestamp_seconds",
    }  # fmt: skip


def test_a_textfile_that_cannot_be_written_is_a_warning(hook: Hook, tmp_path: Path) -> None:
    """A folder that is not there is a warning, and the webhook is told all the same."""
    [warning] = told_to(tmp_path, webhook=hook.url, textfile="nowhere/shop.prom")
    assert "notify.textfile must be writable" in warning
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"textfile": "shop.txt"}, "must end in .prom"),
        ({"timeout_s": 0.0}, "above 0"),
        ({"headers": {"a": "b"}}, "go with a webhook"),
        ({"webhok": "x"}, "did you mean 'webhook'"),
    ],
)
def test_keys_are_checked(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A [notify] table that makes no sense is an error of the config."""
    with pytest.raises(ConfigError, match=words):
        told_to(tmp_path, **keys)


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    """Without [notify] nothing is sent, and nothing written."""
    assert NotifyConfig() == config.parse({"name": "s", "target": "y", "sources": [{"url": "x"}]}, tmp_path).notify
    assert told_to(tmp_path) == []
    assert [*tmp_path.iterdir()] == []


def test_nights_are_told(home: Path, hook: Hook, nightfit: Callable[..., Any], make_rows: Callable[..., str]) -> None:
    """Real nights tell of rows that were learned, of nothing new, and of an error; a lock that is held tells nobody."""
    settings = home / "configs" / "nightfit.toml"
    settings.write_text(f'{settings.read_text()}\n[notify]\nwebhook = "{hook.url}"\ntextfile = "shop.prom"\n')
    with (home / "data.csv").open("a") as data:
        data.write(make_rows(100, 600, header=False))
    done = nightfit("train")
    assert (done.code, done.err) == (0, "")
    figures = samples(home / "shop.prom")
    models = {each["model"]: each for each in hook.got[0][2]["models"]}
    assert set(models) == {"deep", "linear"}
    for name, each in models.items():
        assert (each["status"], each["version"], each["rows"]["read"]) == ("accepted", 2, 100)
        assert each["verdict"].startswith("accepted: ")
        assert figures["nightfit_night_score", "shop", name, "log_loss"] == each["scores"]["log_loss"] > 0
        assert figures["nightfit_night_seconds", "shop", name] == each["seconds"] > 0
        assert each["effect"] != 0
    assert nightfit("train").code == 0
    assert {each["status"] for each in hook.got[1][2]["models"]} == {"nothing"}
    with writer_lock(home / "checkpoints" / "shop"):
        assert nightfit("train").code == 75
    (home / "data.csv").unlink()
    assert nightfit("train").code == 65
    assert len(hook.got) == 3
    assert (hook.got[2][2]["exit_code"], hook.got[2][2]["models"]) == (65, [])
    assert "data.csv" in hook.got[2][2]["error"]
    assert samples(home / "shop.prom")["nightfit_night_exit_code", "shop"] == 65


def test_a_webhook_that_fails_fails_no_night(
    home: Path, hook: Hook, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """A night whose webhook is broken is committed, ends with 0, and says so on stderr alone."""
    hook.answer = 500
    settings = home / "configs" / "nightfit.toml"
    settings.write_text(f'{settings.read_text()}\n[notify]\nwebhook = "{hook.url}"\n')
    with (home / "data.csv").open("a") as data:
        data.write(make_rows(100, 600, header=False))
    done = nightfit("train", "--model", "linear", "--json")
    assert (done.code, json.loads(done.out)["models"]["linear"]["status"]) == (0, "accepted")
    assert done.err.startswith("nightfit: the webhook must take what it is told, however http://127.0.0.1")
    assert (home / "checkpoints" / "shop" / "linear" / "000002").is_dir()
