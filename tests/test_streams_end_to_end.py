"""Nights on a stream: what the broker is told and when, what a gap does, and where no secret may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from api import serving
from nightfit.errors import GapError
from pipe import Pipe, Row, make_rows

STREAM = """
name = "p"
target = "y"
key = "id"
[[sources]]
url = "redis://127.0.0.1:6379/0"
stream = "{stream}"
name = "clicks"
[models.linear]
[models.other]
kind = "partial_fit"
"""


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """Give a client of the server on this machine."""
    client = redis.Redis(decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def stream(server: redis.Redis) -> Iterator[str]:
    """Give the name of a stream that is gone afterwards."""
    name = f"test-{uuid4().hex}"
    yield name
    server.delete(name)


@pytest.fixture
def pipe(tmp_path: Path, stream: str) -> Pipe:
    """Give a pipeline of two models on the stream."""
    return Pipe(tmp_path, STREAM.format(stream=stream))


def add(server: redis.Redis, stream: str, rows: list[Row]) -> str:
    """Add entries, and return the last one's id."""
    return [str(server.xadd(stream, {name: str(value) for name, value in row.items()})) for row in rows][-1]


def told(server: redis.Redis, stream: str) -> str | None:
    """Return how far the broker was told that rows are accounted for."""
    groups: Any = server.xinfo_groups(stream)
    return groups[0]["last-delivered-id"] if groups else None


def test_the_broker_hears_what_every_lineage_has_accounted_for(pipe: Pipe, server: redis.Redis, stream: str) -> None:
    """Nothing is acknowledged while a model of the config has read nothing; then no further than the slowest."""
    first = add(server, stream, make_rows(50))
    pipe.train("linear")
    assert told(server, stream) is None
    pipe.train("other")
    assert told(server, stream) == first
    second = add(server, stream, make_rows(50, start=100))
    pipe.train("linear")
    assert told(server, stream) == first
    pipe.train("other")
    assert told(server, stream) == second


def test_what_a_run_could_not_say_the_next_one_says(pipe: Pipe, server: redis.Redis, stream: str) -> None:
    """A run that finds nothing new acknowledges what an earlier one that was killed after its commit did not."""
    last = add(server, stream, make_rows(50))
    pipe.nights()
    server.xgroup_destroy(stream, "nightfit")
    assert pipe.night().status == "nothing"
    assert told(server, stream) == last


def test_a_broker_that_does_not_listen_costs_no_night(pipe: Pipe, server: redis.Redis, stream: str) -> None:
    """What is committed stays so; the run says that the broker was not told."""
    add(server, stream, make_rows(50))
    pipe.config = pipe.config.replace("[models.linear]", 'group = "g"\n[models.linear]')
    user = f"u{uuid4().hex[:8]}"
    rights: dict[str, Any] = {"keys": ["*"], "commands": ["+@read", "+@connection", "+multi", "+exec"]}
    server.acl_setuser(user, enabled=True, passwords=["+secret"], **rights)
    try:
        pipe.config = pipe.config.replace("redis://127", f"redis://{user}:secret@127")
        result = pipe.night()
    finally:
        server.acl_deluser(user)
    assert result.status == "accepted"
    (alarm,) = result.alarms
    assert "the next night tells it again" in alarm
    assert "secret" not in alarm


def test_rows_that_went_before_they_were_read(pipe: Pipe, server: redis.Redis, stream: str) -> None:
    """They stop the night (65) before it learns; with on_gap = "skip" it goes on without them, and says so."""
    add(server, stream, make_rows(50))
    pipe.nights()
    add(server, stream, make_rows(50, start=100))
    server.xtrim(stream, maxlen=20, approximate=False)
    for _ in range(2):
        with pytest.raises(GapError, match="however 30 that came after") as caught:
            pipe.night()
        assert caught.value.exit_code == 65
        assert pipe.head().version == 1
    pipe.config = pipe.config.replace("[models.linear]", 'on_gap = "skip"\n[models.linear]')
    result = pipe.night()
    assert (result.status, result.rows.read) == ("accepted", 20)
    assert any("skipped" in note for note in result.notes)


def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    """Tokens and passwords from the environment are in no output, no file of the store, and not in `ps`."""
    secret = f"s3cret-{uuid4().hex}"
    config = """
name = "p"
target = "y"
key = "id"
[[sources]]
url = "http://user:${SECRET}@127.0.0.1:%d/rows?token=${SECRET}"
headers = { Authorization = "Bearer ${SECRET}" }
records = "data.items"
patience_s = 0.5
[models.linear]
"""
    with serving() as api:
        api.records += [{**row, "note": "x"} for row in make_rows(40)]
        (tmp_path / "n.toml").write_text(config % api.port)
        command = [sys.executable, "-m", "nightfit", "train", "--config", "n.toml", "--json"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "SECRET": secret}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True, text=True).stdout
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert json.loads(out)["models"]["linear"]["rows"]["read"] == 40
        assert secret not in listed
        assert "nightfit train" in listed
    failed = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "SECRET": secret}, capture_output=True, check=False
    )
    written = [out, err, failed.stdout, failed.stderr]
    written += [path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert failed.returncode == 75
    assert len(written) > 6
    assert not any(secret.encode() in text for text in written)
