from __future__ import annotations

import json
import shutil
import socket
import threading
from pathlib import Path

from shop import ROW, Client, night, serving

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
