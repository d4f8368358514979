from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from nightfit.checkpoint import decode, encode
from nightfit.config import load
from nightfit.history import lineages
from nightfit.jsontypes import Json
from nightfit.serving.app import App
from nightfit.serving.following import Follower
from nightfit.serving.telemetry import Metrics
from shop import ROW, Client, night, serving, train

VALUES = list(ROW.values())


def version(client: Client) -> int:
    """Ask for a prediction and return the version that made it."""
    return int(client.post("/predict/linear", {"features": VALUES}).json["model_version"])


def weights(folder: Path, number: int) -> Path:
    """Name the file with the linear model's weights."""
    return folder / "checkpoints" / "shop" / "linear" / f"{number:06d}" / "model.safetensors"


def rot(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def count(client: Client, event: str) -> int:
    """Count the log's lines of an event about the linear model."""
    return sum(e["event"] == event and e.get("model") == "linear" for e in client.events)


def test_a_new_night_is_served_without_a_restart(copy: Path, tmp_path: Path) -> None:
    """Requests never fail while a new version takes over, and its night is counted."""
    with serving(copy, tmp_path / "log") as client:
        seen: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                seen.append(version(client))

        thread = threading.Thread(target=ask)
        thread.start()
        night(copy)
        client.until(lambda: seen[-1] == 2)
        stop.set()
        thread.join()
        assert sorted(seen) == seen
        assert set(seen) == {1, 2}
        text = client.ask("GET", "/metrics").body.decode()
        assert 'nightfit_model_info{model="linear",sha256=' in text
        assert 'version="1"' not in text.replace('model_version="1"', "")
        assert 'nightfit_gate_decisions_total{decision="accepted",model="linear"} 1.0' in text
        assert 'nightfit_train_rows_total{model="linear",result="learned"}' in text


def test_a_rotten_version_that_appears_is_passed_over(copy: Path, tmp_path: Path) -> None:
    """The version before goes on serving, a line of the log and a metric say why, and the next good one takes over."""
    with serving(copy, tmp_path / "log") as client:
        assert version(client) == 1
        other = tmp_path / "other"
        shutil.copytree(copy, other)
        night(other)
        rot(weights(other, 2))
        weights(other, 2).parent.rename(weights(copy, 2).parent)
        client.until(lambda: count(client, "version_refused") == 1)
        assert version(client) == 1
        metrics = client.ask("GET", "/metrics").body.decode()
        assert 'nightfit_model_reloads_total{model="linear",result="failure"} 1.0' in metrics
        night(copy)  # which sets the rotten one aside
        client.until(lambda: version(client) == 3)


def test_a_rotten_head_is_passed_over_at_the_start(copy: Path, tmp_path: Path) -> None:
    """A server that starts on a rotten head serves the version before."""
    night(copy)
    rot(weights(copy, 2))
    with serving(copy, tmp_path / "log") as client:
        assert version(client) == 1
        assert count(client, "version_refused") == 1


def test_a_store_that_goes_away_costs_no_answer(copy: Path, tmp_path: Path) -> None:
    """What serves goes on while the store cannot be read, and follows it again when it is back."""
    with serving(copy, tmp_path / "log") as client:
        (copy / "checkpoints").rename(copy / "away")
        client.until(lambda: any(e["event"] == "store_unreadable" for e in client.events))
        assert version(client) == 1
        assert client.ask("GET", "/v2/health/ready").status == 200
        (copy / "away").rename(copy / "checkpoints")
        client.until(lambda: any(e["event"] == "store_readable" for e in client.events))
        night(copy)
        client.until(lambda: version(client) == 2)


def test_a_server_waits_for_the_first_version(tmp_path: Path, shop: Path) -> None:
    """Without any version it is alive and not ready, answers 503, and begins to serve with the first night."""
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(shop / "nightfit.toml", folder)
    with serving(folder, tmp_path / "log") as client:
        assert client.ask("GET", "/v2/health/live").status == 200
        assert client.ask("GET", "/v2/health/ready").status == 503
        reply = client.post("/predict", {"features": VALUES})
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        night(folder)
        client.until(lambda: client.ask("GET", "/v2/health/ready").status == 200)
        assert client.post("/predict", {"features": VALUES}).json["model_version"] == 1


def test_a_model_without_a_version_holds_back_no_other(copy: Path, tmp_path: Path) -> None:
    """Of two models one has no version yet: the other answers, and the server is ready when both do."""
    (copy / "checkpoints" / "shop" / "linear").rename(tmp_path / "linear")
    with serving(copy, tmp_path / "log") as client:
        assert client.post("/predict/deep", {"features": VALUES}).status == 200
        assert client.post("/predict/linear", {"features": VALUES}).status == 503
        assert client.ask("GET", "/v2/models/deep/ready").status == 200
        assert client.ask("GET", "/v2/models/linear/ready").status == 503
        assert client.ask("GET", "/v2/health/ready").status == 503
        (tmp_path / "linear").rename(copy / "checkpoints" / "shop" / "linear")
        client.until(lambda: client.ask("GET", "/v2/health/ready").status == 200)
        assert version(client) == 1


def test_a_schema_that_grows_fails_no_client(copy: Path, tmp_path: Path) -> None:
    """A night with a new column, category and class takes over under requests as they were, and as they are now."""
    with serving(copy, tmp_path / "log") as client:
        failed: list[Any] = []
        stop = threading.Event()

        def ask() -> None:
            old: list[Any] = [VALUES, ROW, [VALUES, [None] * 4], [ROW]]
            while not stop.is_set():
                replies = [client.post("/predict/linear", {"features": features}) for features in old]
                tensor = {
                    "name": "x",
                    "shape": [1, 4],
                    "datatype": "BYTES",
                    "data": ["0.5", "red", "2026-01-02", "true"],
                }
                replies.append(client.post("/v2/models/linear/infer", {"inputs": [tensor]}))
                failed.extend(reply.json for reply in replies if reply.status != 200)

        thread = threading.Thread(target=ask)
        thread.start()
        path = copy / "data.csv"
        names = path.read_text().partition("\n")[0].split(",")
        fresh = [
            f"{1000 + i},{i / 100},{colour},2026-02-01 10:00,true,{i % 7},{bought}"
            for i, (colour, bought) in enumerate([("mauve", "maybe"), ("red", "no"), ("mauve", "no")] * 70)
        ]
        path.write_text("\n".join([",".join([*names[:-1], "size", "bought"]), *fresh]) + "\n")
        train(copy)
        client.until(lambda: version(client) == 2)
        asked = len(failed)
        time.sleep(0.3)
        stop.set()
        thread.join()
        assert (asked, failed) == (0, [])
        now = client.post("/predict/linear", {"features": [*VALUES, 3]})
        assert now.json["classes"] == ["no", "yes", "maybe"]
        assert (
            client.post("/predict/linear", {"features": ROW | {"size": 3}}).json["probability"]
            == now.json["probability"]
        )
        for features in (VALUES[:3], {"price": 1, "size": 3}, [*VALUES, 3, 3]):
            assert client.post("/predict/linear", {"features": features}).status == 422


def test_a_stop_answers_what_was_asked(copy: Path, tmp_path: Path) -> None:
    """SIGTERM while a large request is being answered: it gets its answer, and the server exits 0."""
    with serving(copy, tmp_path / "log") as client:
        body = json.dumps({"features": [VALUES] * 10_000}).encode()
        with socket.create_connection(client.address) as s:
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            s.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            client.until(lambda: "nightfit_http_requests_in_flight 2.0" in client.ask("GET", "/metrics").body.decode())
            assert client.stop() == 0
            assert s.recv(20).startswith(b"HTTP/1.1 200")
        assert client.events[-1]["event"] == "stopped"


def test_a_log_that_cannot_be_written_costs_no_answer(shop: Path) -> None:
    """On a full disk the server starts, answers, logs in vain and stops as ever."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    command: list[str | Path] = [sys.executable, "-m", "nightfit", "serve", "--config", shop / "nightfit.toml"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen([*command, "--port", str(port), "--log-requests"], stderr=full)
    try:
        end, answers = time.monotonic() + 20, 0
        while answers < 3:
            assert time.monotonic() < end
            with suppress(URLError), urlopen(f"http://127.0.0.1:{port}/ping") as reply:
                answers += reply.status == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def later(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the pipeline a night later; do not touch it."""
    shutil.copytree(shop, folder := tmp_path_factory.mktemp("later") / "shop")
    night(folder)
    return folder


def follow(folder: Path) -> Callable[[], dict[str, int]]:
    """Follow a pipeline without a server; what is returned looks once and gives the versions in service."""
    config = load(folder / "nightfit.toml")
    follower = Follower(lineages(config, None), config.rules, Metrics())

    def look() -> dict[str, int]:
        follower.look()
        return {name: served.number for name in follower.names if (served := follower.get(name))}

    return look


def test_a_version_that_is_copied_piece_by_piece_is_served_when_it_is_whole(copy: Path, later: Path) -> None:
    """What fails because a file has not come yet is tried again when it has."""
    look = follow(copy)
    assert look() == {"deep": 1, "linear": 1}
    target, source = weights(copy, 2).parent, weights(later, 2).parent
    target.mkdir()
    assert look() == {"deep": 1, "linear": 1}
    for name in ("manifest.json", "model.safetensors"):
        assert look() == {"deep": 1, "linear": 1}
        (target / name).write_bytes((source / name).read_bytes()[:100])
        assert look() == {"deep": 1, "linear": 1}
        shutil.copy(source / name, target)
    assert look() == {"deep": 1, "linear": 2}


def test_a_store_that_was_made_anew_is_served_anew(copy: Path, tmp_path: Path) -> None:
    """Version 1 of another store is another version 1."""
    config = load(copy / "nightfit.toml")
    follower = Follower(lineages(config, None), config.rules, Metrics())
    follower.look()
    first = follower.get("linear")
    (copy / "data.csv").unlink()
    (copy / "checkpoints").rename(tmp_path / "old")
    follower.look()
    assert follower.get("linear") is first
    night(copy, 300)
    follower.look()
    found = follower.get("linear")
    assert first
    assert found
    assert found.number == first.number
    assert found.digest != first.digest


def test_what_is_wrong_with_one_model_does_not_hold_back_another(copy: Path, later: Path, tmp_path: Path) -> None:
    """A folder that cannot be read stops the following of its own model alone."""
    look = follow(copy)
    look()
    deep = weights(copy, 1).parents[1].parent / "deep"
    deep.rename(tmp_path / "deep")
    deep.write_text("no folder")
    shutil.copytree(weights(later, 2).parent, weights(copy, 2).parent)
    assert look() == {"deep": 1, "linear": 2}
    deep.unlink()
    shutil.copytree(tmp_path / "deep", deep)
    shutil.copytree(weights(later, 2).parents[2] / "deep" / "000002", deep / "000002")
    assert look() == {"deep": 2, "linear": 2}


def test_a_state_that_makes_no_sense_is_passed_over(copy: Path, later: Path) -> None:
    """Whatever a version's state makes of the code that reads it, the version before serves."""
    path = shutil.copytree(weights(later, 2).parent, weights(copy, 2).parent) / "manifest.json"
    manifest = decode(path.read_bytes())
    schemas: list[Json] = [[], "columns", {"columns": [{"name": []}]}, None]
    for schema in schemas:
        path.write_bytes(encode(replace(manifest, state={**manifest.state, "schema": schema})))
        assert follow(copy)() == {"deep": 1, "linear": 1}


def test_what_serves_is_not_given_up_because_its_files_rot(copy: Path, later: Path) -> None:
    """A manifest that rots under the version in service makes no server go back to an older one."""
    target = shutil.copytree(weights(later, 2).parent, weights(copy, 2).parent)
    look = follow(copy)
    assert look() == {"deep": 1, "linear": 2}
    rot(target / "manifest.json")
    (target.parent / "000003").mkdir()
    for _ in range(3):
        assert look() == {"deep": 1, "linear": 2}


def test_a_request_keeps_the_version_that_it_began_with(copy: Path, later: Path) -> None:
    """A version that takes over while a body still comes answers the requests after it."""
    config = load(copy / "nightfit.toml")
    follower = Follower(lineages(config, None), config.rules, Metrics())
    follower.look()
    app, sent = App(follower, Metrics()), list[Any]()

    async def receive() -> Any:  # noqa: ANN401 - ASGI's
        if not weights(copy, 2).exists():
            shutil.copytree(weights(later, 2).parent, weights(copy, 2).parent)
            follower.look()
        return {"type": "http.request", "body": json.dumps({"features": VALUES}).encode()}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict/linear"}
    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    for _ in range(2):
        asyncio.run(app(scope | {"headers": headers}, receive, send))
    assert [json.loads(sent[i]["body"])["model_version"] for i in (1, 3)] == [1, 2]
