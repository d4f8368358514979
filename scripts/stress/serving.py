"""Serve the default models while versions change, rot and answer: nothing fails, nothing grows, and torch agrees.

Clients on 32 connections ask one-row questions without a pause; the slowest answer is the slowest of all. How long
things took is held against a mark in the full dose alone, which wants a machine to itself.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import uvloop

from nightfit.acts import promote
from nightfit.lock import writer_lock
from stress.pipeline import Pipeline, Truth
from stress.table import Dose, Result, chance

N_CONNECTIONS = 32
ROW = {"features": [0.3, "a"]}


@dataclass
class Server:
    """A server that runs over a pipeline, with its log."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def ask(self, path: str, value: object = None) -> bytes:
        """Ask once; raises for any answer but a 200."""
        body = None if value is None else json.dumps(value).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as reply:  # noqa: S310 - our own
            return bytes(reply.read())

    def version(self) -> int:
        """Return the version of the default model that answers."""
        return int(json.loads(self.ask("/predict", ROW))["model_version"])

    def resident_mib(self) -> float:
        """Return the memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def logged(self, event: str) -> bool:
        """Say whether an event is in the log."""
        return f'"event": "{event}"' in self.log.read_text()

    def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.log.read_text()[-1000:]
            time.sleep(0.005)


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Server]:
    """Serve a pipeline on a free port until it is asked to stop, as a success."""
    log = pipeline.root / "serve.log"
    command = [sys.executable, "-m", "nightfit", "serve", "--config", "n.toml", "--port", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=pipeline.root, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
    server = Server(process, log, 0)
    try:
        server.until(lambda: server.logged("serving"))
        server.port = int(re.findall(r'"url": "http://[^"]*:(\d+)"', log.read_text())[0])
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@dataclass
class Load:
    """Clients that ask without a pause, on connections that stay, in a thread."""

    port: int
    most: float = float("inf")
    """Requests after which they end."""
    n: int = 0
    n_failed: int = 0
    slowest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until told to stop."""
        uvloop.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(N_CONNECTIONS)))

    async def _one(self) -> None:
        body = json.dumps(ROW).encode()
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while not self._stop.is_set() and self.n < self.most:
            self.n += 1
            started = time.perf_counter()
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            try:
                told = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.findall(rb"content-length: (\d+)", told)[0]))
            except (OSError, asyncio.IncompleteReadError):
                told = b""
            self.slowest_s = max(self.slowest_s, time.perf_counter() - started)
            self.n_failed += not told.startswith(b"HTTP/1.1 200 ")
            if not told:
                break
        writer.close()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask while something else is done."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def swap(pipeline: Pipeline, version: int) -> tuple[int, float]:
    """Put a version's state into service again; return the new entry and the time of its commit."""
    lineage = pipeline.lineages()[0]
    with writer_lock(pipeline.folder):
        manifest, _ = promote(lineage, version, now=datetime.now(UTC))
    return manifest.version, time.monotonic()


def promotions(pipeline: Pipeline, n: int, seconds: float, *, is_timed: bool) -> list[Result]:
    """Change the version again and again under load."""
    late = 0.0
    with running(pipeline) as server:
        load = Load(server.port)
        with load.going_on():
            for i in range(n):
                time.sleep(seconds / n)
                wanted, at = swap(pipeline, 1 + i % 2)
                server.until(lambda wanted=wanted: server.version() == wanted)  # type: ignore[misc]
                late = max(late, time.monotonic() - at)
    slow = load.slowest_s
    return [
        Result(
            f"{n} promotions in {seconds:g} s under {N_CONNECTIONS} connections",
            "0 failed, slowest <= 50 ms, served <= 500 ms after the commit",
            f"{load.n_failed} of {load.n:,} failed, slowest {1000 * slow:.0f} ms, served after {1000 * late:.0f} ms",
            ok=not load.n_failed and (not is_timed or (slow <= 0.05 and late <= 0.5)),  # noqa: PLR2004
        )
    ]


def memory(pipeline: Pipeline, n_requests: int, n_reloads: int) -> list[Result]:
    """Answer and reload, and see what of the memory comes back."""
    started = time.monotonic()
    with running(pipeline) as server:
        ready = time.monotonic() - started
        Load(server.port, most=2_000).run()
        before = server.resident_mib()
        Load(server.port, most=n_requests).run()
        for i in range(n_reloads):
            wanted, _ = swap(pipeline, 1 + i % 2)
            server.until(lambda wanted=wanted: server.version() == wanted)  # type: ignore[misc]
        after = server.resident_mib()
    return [
        Result(
            f"{n_requests:,} requests and {n_reloads} reloads",
            "RSS <= 90 MiB, growth < 5 MiB",
            f"RSS {after:.1f} MiB, growth {after - before:+.1f} MiB (ready after {ready:.2f} s)",
            ok=after <= 90 and after - before < 5,  # noqa: PLR2004
        )
    ]


def agreement(pipeline: Pipeline, n: int) -> list[Result]:
    """Compare what is served with what torch says, missing values, outliers and new categories among the rows."""
    draw = np.random.default_rng(0)
    x = np.where(draw.random(n) < 0.05, 10.0 ** draw.integers(-9, 90, n), draw.normal(size=n))  # noqa: PLR2004
    rows = [
        [None if draw.random() < 0.05 else float(value), str(draw.choice(["a", "b", "c", "new", ""]))]  # noqa: PLR2004
        for value in x
    ]
    with (pipeline.root / "asked.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "c"], *[["" if value is None else value for value in row] for row in rows]])
    worst = []
    for model in ("deep", "linear"):
        options = ["-o", "told.csv", "--model", model, "--device", "cpu", "--config", "n.toml"]
        command = [sys.executable, "-m", "nightfit", "predict", "asked.csv", *options]
        subprocess.run(command, cwd=pipeline.root, check=True, stdout=subprocess.DEVNULL)
        with (pipeline.root / "told.csv").open(newline="") as file:
            told = [float(row["probability_1"]) for row in csv.DictReader(file)]
        with running(pipeline) as server:
            served: list[float] = []
            for start in range(0, n, 1000):
                answer = json.loads(server.ask(f"/predict/{model}", {"features": rows[start : start + 1000]}))
                served += [p[answer["classes"].index("1")] for p in answer["probability"]]
        worst.append(float(np.abs(np.array(told) - served).max()))
    return [
        Result(
            f"{n:,} rows, served and by torch",
            "at most 1e-5 apart in probability",
            f"deep {worst[0]:.1e}, linear {worst[1]:.1e}",
            ok=max(worst) <= 1e-5,  # noqa: PLR2004
        )
    ]


def rot(pipeline: Pipeline) -> list[Result]:
    """Let the head rot, before a server meets it and while one runs."""
    lineage = pipeline.lineages()[0]
    with running(pipeline) as server:
        before = server.version()
        wanted, _ = swap(pipeline, 1 if lineage.resolve(lineage.manifest(before)).version != 1 else 2)
        server.until(lambda: server.version() == wanted)
        shutil.copytree(lineage.path(wanted), folder := lineage.folder / f".{wanted + 1:06d}")
        (folder / "model.safetensors").write_bytes(b"rotten")
        folder.rename(lineage.path(wanted + 1))
        server.until(lambda: server.logged("version_refused"))
        at_run = server.version() == wanted and 'result="failure"} 1.0' in server.ask("/metrics").decode()
    shutil.rmtree(lineage.path(wanted + 1))
    path = lineage.path(wanted) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with running(pipeline) as server:
        at_boot = server.version() == before and server.logged("version_refused")
        at_boot &= 'result="failure"} 1.0' in server.ask("/metrics").decode()
    told = {True: "serves, told by log and metric", False: "FAILS"}
    return [
        Result(
            "a head that rots",
            "the version before serves; log and metric say so",
            f"as the server runs: {told[at_run]}; as it starts: {told[at_boot]}",
            ok=at_run and at_boot,
        )
    ]


def run(seed: int, dose: Dose) -> list[Result]:
    """Try it all on a pipeline of two nights."""
    is_full = dose == "full"
    with tempfile.TemporaryDirectory() as folder:
        pipeline, truth, random_ = Pipeline(Path(folder) / "p"), Truth(), chance(seed, "serving")
        pipeline.start()
        for _ in range(2):
            pipeline.append(truth.make(random_, 500))
            pipeline.train_here()
        return [
            *promotions(pipeline, *((10, 60) if is_full else (3, 2)), is_timed=is_full),
            *memory(pipeline, *((100_000, 100) if is_full else (3_000, 5))),
            *agreement(pipeline, 100_000 if is_full else 2_000),
            *rot(pipeline),
        ]
