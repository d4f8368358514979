from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightfit.serving.tokens import Tokens
from shop import ROW, Client, serving

OLD, NEW = "an old token", "a new one"
OPEN = ["/", "/page.js", "/docs", "/ping", "/health", "/v2/health/live", "/v2/health/ready", "/v2/models/deep/ready"]
GUARDED = [
    "/version",
    "/api/lineages",
    "/api/live",
    "/openapi.json",
    "/metrics",
    "/v2",
    "/v2/models/deep",
    "/v2/models/deep/versions/1",
]
POSTED = ["/predict", "/predict/deep", "/invocations", "/v2/models/deep/infer", "/v2/models/deep/versions/1/infer"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture(scope="module")
def guarded(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Give a server that two tokens open."""
    folder = tmp_path_factory.mktemp("guarded")
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in (OLD, NEW)]
    (folder / "tokens").write_text(f"# who may ask\n{digests[0]}  # the old one\n\n{digests[1]}\n")
    with serving(shop, folder / "log", "--tokens", str(folder / "tokens")) as client:
        yield client


@pytest.mark.parametrize("path", [*OPEN, *GUARDED, *POSTED, "/nothing"])
def test_every_route_is_open_to_whom_the_table_says(guarded: Client, path: str) -> None:
    """Each route, with no, a wrong and each right token, and seven methods: exactly the documented status."""
    for method in METHODS:
        for token in (None, "wrong", OLD, NEW):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            reply = guarded.ask(method, path, None, **headers)
            if path not in OPEN and token not in {OLD, NEW}:
                wanted = 401
            elif path == "/nothing":
                wanted = 404
            elif (method in {"GET", "HEAD"}) == (path in POSTED) or method not in {"GET", "HEAD", "POST"}:
                wanted = 405
            else:
                wanted = 200 if method != "POST" else 400 if path.endswith("/infer") else 415
            assert reply.status == wanted, (method, path, token)
            if wanted == 401:
                assert reply.headers["www-authenticate"] == "Bearer"
                if method != "HEAD":
                    assert token is None or token not in reply.body.decode()


def test_a_right_token_gets_an_answer(guarded: Client) -> None:
    """Either of two tokens opens prediction: one can replace the other without a gap."""
    for token in (OLD, NEW):
        assert guarded.post("/predict", {"features": ROW}, authorization=f"bearer {token}").status == 200
    for wrong in (f"Basic {OLD}", "Bearer", "Bearer  ", OLD, f"Bearer {OLD} {OLD}", f"Bearer\t{OLD}", "Bearer \xe9"):
        assert guarded.post("/predict", {"features": ROW}, authorization=wrong).status == 401, wrong


def test_the_digest_of_nothing_opens_nothing() -> None:
    """A file made of an empty variable lets nobody in."""
    nothing = Tokens(frozenset([hashlib.sha256(b"").digest()]))
    assert not nothing.allow(b"Bearer ")
    assert not nothing.allow(b"")


def test_a_strange_host_is_refused(server: Client) -> None:
    """On loopback a name that is not this machine's (DNS rebinding) gets nothing."""
    assert server.ask("GET", "/version", host="evil.example").status == 400
    for name in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"):
        assert server.ask("GET", "/version", host=name).status == 200, name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "needs a token"),  # noqa: S104 - which is refused
        (["--tokens", "nowhere"], "must be readable text"),
        (["--tokens", "empty"], "must hold a digest"),
        (["--tokens", "plain"], "line 1"),
        (["--port", "1", "--host", "203.0.113.1", "--tokens", "good"], "must be able to listen"),
    ],
)
def test_what_is_not_safe_does_not_start(copy: Path, options: list[str], says: str) -> None:
    """An address that others reach without a token, or tokens that are none, end with 78 and one line."""
    (copy / "empty").write_text("# nothing\n")
    (copy / "plain").write_text("my secret\n")
    (copy / "good").write_text(hashlib.sha256(b"x").hexdigest())
    command = [sys.executable, "-m", "nightfit", "serve", "--config", "nightfit.toml", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=copy, timeout=60, check=False)
    assert done.returncode == 78, done
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "my secret" not in done.stderr


def test_a_token_and_its_digest_belong_together() -> None:
    """`token` prints a token of 256 bits, another one every time, and its SHA-256."""
    command = [sys.executable, "-m", "nightfit", "token", "--json"]
    made = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)]
    for one in made:
        assert hashlib.sha256(one["token"].encode()).hexdigest() == one["sha256"]
        assert len(one["token"]) == 43
    assert made[0] != made[1]
