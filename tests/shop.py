"""A pipeline with every kind of column and a real server over it, for the tests of serving."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

CONFIG = """
name = "shop"
target = "bought"
key = "id"
[[sources]]
url = "data.csv"
[schema]
missing = ["", "NA", "-999"]
[gate]
min_rows = 1000000
[models.deep]
d_hidden = 8
n_epochs = 1
[models.linear]
"""

ROW = {"price": 0.5, "colour": "red", "at": "2026-01-02 10:00", "fresh": True}


def rows(n: int, start: int = 0) -> str:
    """Make CSV of numbers, categories, times and booleans, with a label that follows from them."""
    rng = np.random.default_rng(start)
    lines = ["id,price,colour,at,fresh,bought"] if not start else []
    for i in range(start, start + n):
        price, colour = float(rng.normal()), ["red", "green", "blue"][int(rng.integers(3))]
        bought = "yes" if price + (colour == "red") > 0.3 else "no"
        lines.append(
            f"{i},{price:.3f},{colour},2026-01-{1 + i % 28:02} {i % 24:02}:00,{'true' if i % 2 else 'false'},{bought}"
        )
    return "\n".join(lines) + "\n"


def night(folder: Path, n: int = 200) -> None:
    """Append rows to the pipeline's file, and train."""
    path = folder / "data.csv"
    start = len(path.read_text().splitlines()) - 1 if path.exists() else 0
    with path.open("a") as file:
        file.write(rows(n, start))
    train(folder)


def train(folder: Path) -> None:
    """Run a night."""
    subprocess.run([sys.executable, "-m", "nightfit", "train", "--config", folder / "nightfit.toml"], check=True)


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - what JSON holds
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Client:
    """A server that runs, its log, and a way to ask it."""

    process: subprocess.Popen[bytes]
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the server has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        url = urlsplit(next(event["url"] for event in self.events if event["event"] == "serving"))
        assert url.hostname
        assert url.port
        return url.hostname, url.port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Ask once, on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {**self.headers, **named})
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def post(self, path: str, value: Any, **headers: str) -> Reply:  # noqa: ANN401 - what JSON holds
        """Post JSON."""
        return self.ask("POST", path, json.dumps(value).encode(), content_type="application/json", **headers)

    def until(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until something holds; fails the test if it does not in time."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.events
            assert self.process.poll() is None, self.events
            time.sleep(0.02)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def serving(folder: Path, log: Path, *options: str) -> Iterator[Client]:
    """Run `nightfit serve` over a pipeline."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "nightfit",
        "serve",
        "--config",
        folder / "nightfit.toml",
        "--port",
        "0",
        *options,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, env=os.environ)
    client = Client(process, log)
    try:
        client.until(lambda: any(event["event"] == "serving" for event in client.events))
        yield client
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a pipeline that has learned one night; do not touch it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "nightfit.toml").write_text(CONFIG)
    night(folder, 400)
    return folder


@pytest.fixture
def copy(shop: Path, tmp_path: Path) -> Path:
    """Give a copy of it that a test may change."""
    shutil.copytree(shop, tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture(scope="session")
def server(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Give a server over the pipeline that nobody changes."""
    with serving(shop, tmp_path_factory.mktemp("log") / "log") as client:
        yield client
