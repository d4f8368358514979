from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.config import load
from nightfit.history import lineages
from nightfit.serving.app import App
from nightfit.serving.following import Follower
from nightfit.serving.http import Limits
from nightfit.serving.telemetry import Metrics
from shop import ROW, Client, serving

OK = list(ROW.values())

BAD: list[tuple[bytes, int, str]] = [
    (b"", 400, "must be JSON"),
    (b"{", 400, "must be JSON"),
    (b'{"features": [NaN, "red", null, true]}', 400, "finite"),
    (b'{"features": [Infinity, "red", null, true]}', 400, "finite"),
    (b'{"features": [1e999, "red", null, true]}', 400, "finite"),
    (b'{"features": [NaN, "red", null, true]}', 400, "NaN (byte 14) is none; null means missing"),
    (b'{"features": "\xff"}', 400, "must be JSON"),
    (b'{"features": [1], "features": [2]}', 400, "every key once, however 'features' is there twice"),
    (b'{"features": [1], "f\\u0065atures" : [2]}', 400, "every key once, however 'features' is there twice"),
    (b'{"features": {"price": 1, "colour": "red", "price": 2}}', 400, "however 'price' is there twice"),
    (
        b'{"features": [' + b'{"price": 1},' * 200 + b'{"price": 1, "price": 1}]}',
        400,
        "however 'price' is there twice",
    ),
    (b"[" * 100_000, 400, "levels deep"),
    (b'{"features": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "levels deep"),
    (b"[]", 422, "object with 'features' alone"),
    (b'{"feature": [1]}', 422, "object with 'features' alone"),
    (b'{"features": [1], "more": 2}', 422, "object with 'features' alone"),
    (b'{"features": []}', 422, "a row"),
    (b'{"features": 7}', 422, "a row"),
    (b'{"features": [[]]}', 422, "list of 4 values"),
    (b'{"features": [1, "red"]}', 422, "row 0 has 2"),
    (b'{"features": [[1, "red", null, true], [1]]}', 422, "row 1 has 1"),
    (b'{"features": [[1, "red", null, true], 1]}', 422, "row 1 is 1"),
    (
        b'{"features": [true, "red", null, true]}',
        422,
        "column 'price' must hold numbers or null, however row 0 has true",
    ),
    (b'{"features": ["1", "red", null, true]}', 422, "row 0 has '1'"),
    (b'{"features": [1e101, "red", null, true]}', 422, "up to 1e+100"),
    (b'{"features": [1' + b"0" * 400 + b', "red", null, true]}', 422, "up to 1e+100"),
    (b'{"features": [1, ["red"], null, true]}', 422, "column 'colour' must hold text, however row 0 has a list"),
    (b'{"features": [1, "red", "yesterday", true]}', 422, "column 'at' must hold times"),
    (b'{"features": [1, "red", true, true]}', 422, "column 'at' must hold times"),
    (b'{"features": [1, "red", null, 2]}', 422, "column 'fresh' must hold true or false"),
    (b'{"features": [1, "red", null, 1' + b"0" * 400 + b"]}", 422, "column 'fresh' must hold true or false"),
    (b'{"features": {"price": 1}}', 422, "lacks 'colour', 'at', 'fresh'"),
    (b'{"features": {"prise": 1}}', 422, "did you mean 'price'?"),
    (b'{"features": [{"price": 1, "colour": "red", "at": null, "fresh": true}, 5]}', 422, "row 1 is 5"),
    (json.dumps({"features": [OK] * 10_001}).encode(), 422, "at most 10,000 rows"),
]


@pytest.mark.parametrize(("body", "status", "says"), BAD, ids=[f"{b[:30]!r}" for b, _, _ in BAD])
def test_nonsense_is_refused_with_the_rule_and_the_fact(server: Client, body: bytes, status: int, says: str) -> None:
    """A body that makes no sense gets a JSON 4xx that says why, and never an answer."""
    reply = server.ask("POST", "/predict", body, content_type="application/json")
    assert reply.status == status, reply
    assert says in reply.json["error"], reply
    assert set(reply.json) == {"error", "request_id"}


TENSOR = {"name": "x", "shape": [1, 4], "datatype": "BYTES", "data": ["1", "red", "", "true"]}
BAD_TENSORS: list[tuple[Any, str]] = [
    ({}, "inputs"),
    ({"inputs": []}, "must have inputs"),
    ({"inputs": [TENSOR | {"shape": [2, 4]}]}, "fill its shape"),
    ({"inputs": [TENSOR | {"shape": [-1, 4]}]}, "fill its shape"),
    ({"inputs": [TENSOR | {"shape": [1, 1, 4]}]}, "one tensor of shape"),
    ({"inputs": [TENSOR | {"shape": [10**18, 0], "data": []}]}, "must have the shape [n, 4]"),
    ({"inputs": [TENSOR | {"shape": [10**4000, 4]}]}, "must fill its shape [1000"),
    ({"inputs": [TENSOR | {"datatype": "FP65"}]}, "datatype"),
    ({"inputs": [TENSOR | {"datatype": "FP64"}]}, "must be FP64"),
    ({"inputs": [TENSOR | {"data": [["1", "red"], "", "true"]}]}, "uneven"),
    ({"inputs": [TENSOR], "outputs": [{"name": "shap"}]}, "outputs"),
    ({"inputs": [{"name": "price", "shape": [1], "datatype": "UINT8", "data": [256]}]}, "must be UINT8"),
    ({"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": [1]}]}, "lacks"),
    ({"inputs": [{"name": "price", "shape": [1], "datatype": "FP64", "data": [1]}] * 2}, "twice"),
]


@pytest.mark.parametrize(("body", "says"), BAD_TENSORS, ids=[says for _, says in BAD_TENSORS])
def test_tensors_that_make_no_sense_are_refused(server: Client, body: Any, says: str) -> None:  # noqa: ANN401
    """Shapes, datatypes, names and outputs are checked."""
    reply = server.post("/v2/models/deep/infer", body)
    assert (reply.status, list(reply.json)) == (422, ["error", "request_id"]), reply
    assert says in reply.json["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "says"),
    [
        ("application/json", b"{}", 422, "exactly one of"),
        ("application/json", b'{"instances": [[1]], "inputs": [[1]]}', 422, "exactly one of"),
        ("application/json", b'{"dataframe_split": {"columns": ["price"], "data": [[1, 2]]}}', 422, "list of 1 values"),
        ("application/json", b'{"dataframe_split": {"columns": [["price"]], "data": []}}', 422, "different names"),
        ("application/json", b'{"inputs": {"price": [1], "colour": "red"}}', 422, "mixed"),
        ("text/csv", b'price,colour,at,fresh\n1,"red', 400, "CSV"),
        ("text/csv", b"price,colour,at,fresh\n1,red\n", 422, "record 0 has 2"),
        ("text/csv", b"price,colour,at,fresh\n", 422, "at least one row"),
        ("text/csv", b"price,colour,at,fresh\nmany,red,,\n", 422, "row 0 has 'many'"),
        ("text/csv; charset=latin-1", b"a\n1\n", 415, "UTF-8"),
        ("text/html", b"", 415, "content type"),
    ],
)
def test_invocations_that_make_no_sense_are_refused(
    server: Client, kind: str, body: bytes, status: int, says: str
) -> None:
    """Errors have the shape of MLflow's, without a stack trace."""
    reply = server.ask("POST", "/invocations", body, content_type=kind)
    assert (reply.status, set(reply.json)) == (status, {"error_code", "message", "request_id"}), reply
    assert says in reply.json["message"]


def test_paths_methods_and_types(server: Client) -> None:
    """An unknown path or model is 404, a wrong method 405 with Allow, a wrong type 415, another version 404."""
    for path in (
        "/nothing",
        "/page.html",
        "/v2/models",
        "/v2/models/other",
        "/v2/models/deep/versions/9",
        "/predict/x/y",
        "//",
    ):
        assert server.ask("GET" if path != "/predict/other" else "POST", path).status == 404, path
    reply = server.ask("DELETE", "/predict")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert server.ask("POST", "/metrics").headers["allow"] == "GET, HEAD"
    assert server.ask("POST", "/predict", b"{}", content_type="text/plain").status == 415
    assert server.ask("POST", "/predict", b"{}").status == 415
    assert server.post("/v2/models/deep/versions/2/infer", {"inputs": [TENSOR]}).status == 404


def test_texts_that_look_like_keys_are_texts(server: Client) -> None:
    """A category with a quote and a colon is no key, and refused by nobody."""
    assert server.post("/predict", {"features": ROW | {"colour": '":": a": '}}).status == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=utf-8; other=x", 200),
        ('application/json;other=x ; CHARSET="UTF-8"', 200),
        ("application/json; format=pandas-records", 200),
        ("application/json; other=x; charset=latin-1", 415),
        ("application/jsonp", 415),
    ],
)
def test_parameters_of_a_content_type(server: Client, kind: str, status: int) -> None:
    """Only the charset matters, wherever it stands."""
    body = json.dumps({"features": OK}).encode()
    assert server.ask("POST", "/predict", body, content_type=kind).status == status


def test_a_compressed_body_is_refused(server: Client) -> None:
    """The error names the coding rather than the JSON that it hides."""
    reply = server.ask("POST", "/predict", b"\x1f\x8b", content_type="application/json", content_encoding="gzip")
    assert (reply.status, "coded as gzip" in reply.json["error"]) == (415, True)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"Host: localhost\r\nHost: localhost\r\n", "host is there 2 times"),
        (b"Host: evil.example\r\nHost: localhost\r\n", "host is there 2 times"),
        (b"Host: localhost\r\nContent-Type: text/csv\r\nContent-Type: application/json\r\n", "content-type is there 2"),
        (b"Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding is gzip, chunked"),
        (
            b"Host: localhost\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding is there 2",
        ),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_ends_the_connection(server: Client, head: bytes, says: str) -> None:
    """What two readers may take for two different requests gets a 400, and nothing after it is read."""
    tail = b"\r\n0\r\n\r\n" if b"chunked" in head else b"\r\n"
    with connected(server, b"GET /ping HTTP/1.1\r\n" + head + tail + GET + b"\r\n") as s:
        answer = read(s)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert says in answer.decode()


def test_a_large_body_is_refused_before_it_is_read(server: Client) -> None:
    """Nine megabytes are too many, whether their length is told or not."""
    with socket.create_connection(server.address) as s:
        s.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        s.sendall(b"Content-Length: 9000000\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection(server.address) as s:
        s.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        s.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        s.settimeout(20)
        for _ in range(9):
            try:
                s.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            except OSError:
                break
        assert s.recv(100).startswith(b"HTTP/1.1 413")


@pytest.fixture(scope="module")
def app(shop: Path) -> App:
    """Give the application itself, with a short patience."""
    config = load(shop / "nightfit.toml")
    metrics = Metrics()
    follower = Follower(lineages(config, None), config.rules, metrics)
    follower.look()
    return App(follower, metrics, limits=Limits(read_s=0.2, n_requests=2))


def call(app: App, path: str, *parts: bytes, wait: float = 0.0) -> tuple[int, Any]:
    """Ask the application without a network; `wait`: seconds before the last part."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)]

    async def receive() -> Any:  # noqa: ANN401 - ASGI's
        if len(messages) == 1:
            await asyncio.sleep(wait)
        return messages.pop(0)

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_slow_body_is_refused(app: App) -> None:
    """A client that does not send its body in time is told so."""
    status, body = call(app, "/predict", b'{"feat', b"", wait=1.0)
    assert status == 408
    assert "within 0.2 s" in body["error"]


def test_a_busy_server_is_alive(app: App) -> None:
    """Over the limit a request is told to come again; probes are answered, as one that fails would end the server."""
    large = json.dumps({"features": [OK] * 300}).encode()
    held = threading.Event()
    app._pool.submit(held.wait)  # where large bodies are answered

    async def crowd() -> list[int]:
        busy = [asyncio.create_task(ask(app, "POST", "/predict", large)) for _ in range(2)]
        await asyncio.sleep(0.05)
        found = [await ask(app, method, path) for method, path in [("POST", "/predict"), ("GET", "/v2/health/live")]]
        held.set()
        return [*found, *await asyncio.gather(*busy)]

    assert asyncio.run(crowd()) == [503, 200, 200, 200]


async def ask(app: App, method: str, path: str, body: bytes = b"", wait: float = 0.0) -> int:
    """Ask the application without a network, and return the status; `wait`: seconds before the body."""
    sent: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401 - ASGI's
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return int(sent[0]["status"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ROW, "x", "data"]), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = ["features", "instances", "inputs", "dataframe_split", "dataframe_records", "outputs", "id"]


@settings(max_examples=400, deadline=None)
@given(
    path=st.sampled_from(["/predict", "/predict/linear", "/invocations", "/v2/models/deep/infer"]),
    body=st.one_of(
        st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2).map(lambda value: json.dumps(value).encode()),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=40),
    ),
)
def test_nothing_that_a_client_sends_is_a_fault_of_the_server(app: App, path: str, body: bytes) -> None:
    """Any body at all is answered 200 with finite figures, or 4xx with a sentence: never 5xx."""
    status, reply = call(app, path, body)
    assert status == 200 or 400 <= status < 500, (status, reply)
    json.loads(json.dumps(reply, allow_nan=False))


def test_a_slow_head_is_cut_off(server: Client) -> None:
    """A connection that never finishes its request's head is closed, and costs no other client anything."""
    with socket.create_connection(server.address) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\n")
        started = time.monotonic()
        slow.settimeout(30)
        while time.monotonic() - started < 8:
            time.sleep(1)
            slow.sendall(b"X-A: b\r\n")  # a byte now and then does not help
            assert server.ask("GET", "/ping").status == 200
        assert slow.recv(10) == b""
        assert time.monotonic() - started < 20


@contextmanager
def connected(client: Client, first: bytes) -> Iterator[socket.socket]:
    """Connect, and send what begins a conversation."""
    with socket.create_connection(client.address, timeout=30) as s:
        s.sendall(first)
        yield s


def read(s: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := s.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


GET = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00 a client that speaks TLS\r\n\r\n",
        b"SPEAK /ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /pi\u00f1g HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_json(server: Client, garbage: bytes) -> None:
    """Bytes that are no request, or could be read in two ways, get a 400 like any other, and the connection ends."""
    with connected(server, garbage) as s:
        head, _, body = read(s).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert set(json.loads(body)) == {"error", "request_id"}


def test_what_is_no_http_is_refused_in_its_turn(server: Client) -> None:
    """Bytes that are no request, sent behind ones that are, get their 400 after the answers to those."""
    body = json.dumps({"features": [OK] * 5_000}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connected(server, request + request + b"SPEAK /ping HTTP/1.1\r\n\r\n") as s:
        answers = read(s)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"400"]


def test_a_request_names_its_host(shop: Path, tmp_path: Path) -> None:
    """Where any name will do, HTTP/1.1 without a Host header is refused all the same, as HTTP demands."""
    (tmp_path / "tokens").write_text("0" * 64)
    with serving(shop, tmp_path / "log", "--host", "0.0.0.0", "--tokens", str(tmp_path / "tokens")) as client:  # noqa: S104
        for head, status in [
            (b"HTTP/1.1\r\n", b"400"),
            (b"HTTP/1.1\r\nHost: a\r\n", b"200"),
            (b"HTTP/1.0\r\n", b"200"),
        ]:
            with connected(client, b"GET /ping " + head + b"Connection: close\r\n\r\n") as s:
                assert read(s).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("endless", [GET + b"X: ", GET.replace(b"ping", b"p"), CHUNKED + b"0\r\nX: "])
def test_a_head_has_an_end(server: Client, endless: bytes) -> None:
    """A header, or a trailer, of many megabytes is refused after some kilobytes."""
    with connected(server, endless) as s:
        n = 0
        with suppress(OSError):
            for _ in range(64):
                n += s.send(b"a" * (1 << 20))
        assert n < 16 << 20
    assert server.ask("GET", "/ping").status == 200


def test_requests_whose_answers_nobody_reads_do_not_pile_up(server: Client) -> None:
    """Requests sent one after the other are read no faster than their answers."""
    with connected(server, b"") as s:
        flood, n, end = memoryview((GET + b"\r\n") * 200_000), 0, time.monotonic() + 3
        s.setblocking(False)
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                n += s.send(flood[n:])
        metrics = server.ask("GET", "/metrics").body.decode()
        resident = next(line for line in metrics.splitlines() if line.startswith("process_resident_memory_bytes "))
        assert float(resident.split()[1]) < 150 << 20


def test_a_body_that_was_refused_does_not_go_on_for_ever(server: Client) -> None:
    """Whoever sends on after the answer, a byte now and then, is cut off."""
    with connected(server, b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n") as s:
        assert s.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        with pytest.raises(OSError, match=r".+"):  # noqa: PT012 - which of them is the operating system's choice
            for _ in range(20):
                time.sleep(1)
                s.sendall(b"x")


def test_a_wish_for_another_protocol_is_passed_over(server: Client) -> None:
    """A request that asks for HTTP/2 on the way, as Java's client does, is answered, and so is the next."""
    body = json.dumps({"features": OK}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    with connected(server, head + wish + length + body[:7]) as s:
        time.sleep(0.1)
        s.sendall(body[7:])
        for _ in range(2):
            answer = b""
            while not answer.endswith(b"}"):
                answer += s.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200 ")
            s.sendall(head + wish + length + body)
    with connected(server, b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n") as s:
        assert read(s).startswith(b"HTTP/1.1 400 ")


def test_slow_bodies_take_nobodys_turn(app: App) -> None:
    """More clients that send slowly than requests may be answered at once: others are answered meanwhile."""
    body = json.dumps({"features": OK}).encode()

    async def all_of_them() -> list[int]:
        slow = [asyncio.create_task(ask(app, "POST", "/predict", body, wait=0.15)) for _ in range(5)]
        await asyncio.sleep(0.02)
        return [await ask(app, "POST", "/predict", body), *(await asyncio.gather(*slow))]

    assert asyncio.run(all_of_them())[0] == 200


def test_bodies_that_are_read_are_bounded_together(app: App) -> None:
    """What all clients are sending may not fill the memory: beyond the bound they are asked to come again."""
    limits = replace(app.limits, reading_bytes=10)
    status, reply = call(replace(app, limits=limits), "/predict", b'{"features": [1, "red", null, true]}')
    assert status == 503
    assert "at most 10 bytes together" in reply["error"]
