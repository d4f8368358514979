"""How fast rows are answered over HTTP, beside servers that people write or run today, in the same run.

Every server answers the same rows of three numbers on loopback, asked by `wrk`; rounds are interleaved and medians
compared. The peers serve one network of 64-64 units: FastAPI in plain numpy, without a check of a value, a metric or a
token; Flask and MLServer as scikit-learn's pipeline of a scaler and `MLPClassifier`, which Flask loads for every
request, and MLServer runs by its own scikit-learn runtime. nightfit serves its default ensemble with a token, metrics
and checks.

    python scripts/bench_serving.py --peers-python /path/to/python   # with fastapi, uvicorn, flask, mlserver-sklearn

Needs `wrk` on the path.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import numpy as np

TOKEN = "a token"  # noqa: S105 - of a server that lives for seconds
CONFIG = 'name = "b"\ntarget = "y"\nkey = "id"\n[[sources]]\nurl = "a.csv"\n'

FASTAPI = """
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
w = [np.random.default_rng(0).normal(size=s).astype("f") for s in ((3, 64), (64, 64), (64, 2))]
class Rows(BaseModel):
    features: list[list[float]] | list[float]
app = FastAPI()
@app.post("/predict")
async def predict(rows: Rows):
    x = np.atleast_2d(np.array(rows.features, "f"))
    z = np.maximum(np.maximum(x @ w[0], 0) @ w[1], 0) @ w[2]
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return {"prediction": p.argmax(1).tolist(), "probability": p.tolist()}
"""
FIT = """
import joblib, numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rng = np.random.default_rng(0)
x = rng.normal(size=(3000, 3))
pipeline = make_pipeline(StandardScaler(), MLPClassifier((64, 64), max_iter=20, random_state=0))
joblib.dump(pipeline.fit(x, x.sum(1) + rng.normal(size=3000) > 0), "model.joblib")
"""
"""The peers' own file, in their own format: nightfit neither writes nor reads it."""

FLASK = """
import joblib, numpy as np
from flask import Flask, jsonify, request
app = Flask("b")
@app.post("/predict")
def predict():
    p = joblib.load("model.joblib").predict_proba(np.atleast_2d(np.array(request.get_json()["features"], float)))
    return jsonify({"prediction": p.argmax(1).tolist(), "probability": p.tolist()})
"""
MLSERVER = {
    "name": "b", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"},
}  # fmt: skip
ROW = [11.5, 15.3, 108.0]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def train(folder: Path) -> None:
    """Make a lineage of each default model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)) * [3, 5, 20] + ROW
    y = ((x - ROW) @ [1 / 3, 1 / 5, 1 / 20] + rng.normal(size=3000) > 0).astype(int)
    lines = [f"{i},{a:.3f},{b:.3f},{c:.3f},{y[i]}" for i, (a, b, c) in enumerate(x)]
    (folder / "a.csv").write_text("id,a,b,c,y\n" + "\n".join(lines) + "\n")
    (folder / "n.toml").write_text(CONFIG)
    (folder / "tokens").write_text(hashlib.sha256(TOKEN.encode()).hexdigest())
    subprocess.run([sys.executable, "-m", "nightfit", "train", "--config", folder / "n.toml"], check=True)


def answers(url: str) -> bool:
    """Say whether a server answers, with whatever status."""
    try:
        urllib.request.urlopen(url).close()  # noqa: S310 - our own
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def running(command: list[str], folder: Path, port: int, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it answers, and end it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    try:
        end = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start: {(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def ask(port: int, path: str, body: object, folder: Path, *, connections: int, seconds: int) -> dict[str, float]:
    """Ask by wrk; return requests a second, and the median and 99th percentile in milliseconds."""
    lua = folder / "ask.lua"
    lua.write_text(
        f'wrk.method = "POST"\nwrk.body = [==[{json.dumps(body)}]==]\n'
        f'wrk.headers["Content-Type"] = "application/json"\nwrk.headers["Authorization"] = "Bearer {TOKEN}"\n'
    )
    url, options = f"http://127.0.0.1:{port}{path}", ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    out = subprocess.run(["wrk", *options, "-s", lua, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError(out)
    found = {"rps": float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])}
    for name, percent in (("p50", "50%"), ("p99", "99%")):
        value, unit = re.findall(rf"{percent}\s+([\d.]+)(us|ms|s)", out)[0]
        found[name] = float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    return found


def bare_rows_per_second(folder: Path, model: str, n_rows: int) -> float:
    """Score rows without a server, in this process."""
    from nightfit.store import Store
    from nightfit.version import load_scorer

    lineage = Store(folder / "checkpoints").pipeline("b").lineage(model)
    head = lineage.head()
    assert head
    scorer = load_scorer(head, lineage.load(head))
    x, ids = np.tile(ROW, (n_rows, 1)), np.zeros((n_rows, 0), np.int32)
    rates = []
    for _ in range(50):
        started = time.perf_counter()
        scorer.score(x, ids)
        rates.append(n_rows / (time.perf_counter() - started))
    return median(rates)


def commands(folder: Path, peers: str | None) -> dict[str, tuple[list[str], str, str, object]]:
    """Return how each server is started ({port} is filled in), its probe, and what it is asked."""
    native = {"features": ROW}
    serve = [sys.executable, "-m", "nightfit", "serve", "--config", "n.toml", "--tokens", "tokens", "--port", "{port}"]
    found: dict[str, tuple[list[str], str, str, object]] = {
        "nightfit, deep": (serve, "/ping", "/predict", native),
        "nightfit, linear": (serve, "/ping", "/predict/linear", native),
    }
    if peers:
        for name, text in (("fast.py", FASTAPI), ("flasky.py", FLASK), ("model-settings.json", json.dumps(MLSERVER))):
            (folder / name).write_text(text)
        if not (folder / "model.joblib").exists():
            subprocess.run([peers, "-c", FIT], cwd=folder, check=True)
        uvicorn = [
            peers,
            "-m",
            "uvicorn",
            "fast:app",
            "--port",
            "{port}",
            "--log-level",
            "critical",
            "--loop",
            "uvloop",
        ]
        tensor = {
            "inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP64", "data": ROW}],
            "outputs": [{"name": "predict_proba"}],
        }
        mlserver = [str(Path(peers).with_name("mlserver")), "start", "."]
        found |= {
            "FastAPI": (uvicorn, "/openapi.json", "/predict", native),
            "Flask": (
                [peers, "-m", "flask", "--app", "flasky", "run", "--port", "{port}"],
                "/nothing",
                "/predict",
                native,
            ),
            "MLServer": (mlserver, "/v2/health/ready", "/v2/models/b/infer", tensor),
        }
    return found


def main() -> None:
    """Run the rounds and print a table of medians, and of ratios to nightfit's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", help="a Python with fastapi, uvicorn, httptools, uvloop, flask and mlserver")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk must be on the path, however it is not; install it (apt-get install wrk)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        measure(folder, options.peers_python, options.rounds, options.seconds)


def measure(folder: Path, peers: str | None, n_rounds: int, seconds: int) -> None:
    """Ask every server in every round, then print."""
    found: dict[str, dict[str, list[float]]] = {}
    for i in range(n_rounds):
        for server, (command, ready, path, body) in commands(folder, peers).items():
            print(f"round {i + 1}: {server}", file=sys.stderr, flush=True)
            port = free_port()
            (folder / "settings.json").write_text(
                json.dumps(
                    {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
                )
            )
            with running([part.format(port=port) for part in command], folder, port, ready):
                told = found.setdefault(server, {})
                ask(port, path, body, folder, connections=8, seconds=1)
                for n in (32, 1):
                    for what, value in ask(port, path, body, folder, connections=n, seconds=seconds).items():
                        told.setdefault(f"{what}, {n}", []).append(value)
                if server.startswith("nightfit"):
                    rows = {"features": [ROW] * 1000}
                    rate = ask(port, path, rows, folder, connections=2, seconds=seconds)["rps"] * 1000
                    bare = bare_rows_per_second(folder, server.rpartition(" ")[2], 1000)
                    told.setdefault("rows/s", []).append(rate)
                    told.setdefault("bare", []).append(bare)
    report({server: {what: median(values) for what, values in told.items()} for server, told in found.items()})


def report(medians: dict[str, dict[str, float]]) -> None:
    """Print medians, and ratios to nightfit's."""
    print(f"{'':18}{'req/s, 32':>12}{'deep is':>9}{'linear is':>10}{'p50 ms, 1':>11}{'p99 ms, 1':>11}")
    ours = [medians[f"nightfit, {model}"]["rps, 32"] for model in ("deep", "linear")]
    for server, told in medians.items():
        ratios = "".join(f"{rate / told['rps, 32']:{width}.2f}x" for rate, width in zip(ours, (8, 9), strict=True))
        print(f"{server:18}{told['rps, 32']:12,.0f}{ratios}{told['p50, 1']:11.3f}{told['p99, 1']:11.3f}")
    for server, told in medians.items():
        if "rows/s" in told:
            share = told["rows/s"] / told["bare"]
            print(f"{server}: bodies of 1,000 rows, {told['rows/s']:,.0f} rows/s, {share:.0%} of the bare forward pass")


if __name__ == "__main__":
    main()
