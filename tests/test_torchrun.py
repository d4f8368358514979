"""Several ranks under torchrun: they learn what one process learns, and the night dies with any of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import Command

CONFIG = """
name = "shop"
target = "bought"
key = "id"
root = "."
holdout = 0.2
[[sources]]
url = "data.csv"
[models.deep]
batch_size = 512
n_epochs = {}
"""
N_ROWS = 8_000
TRAIN = ("train", "--config", "shop.toml", "--device", "cpu")
DEADLINE_S = 60


def prepared(folder: Path, text: str, *, n_epochs: int = 2) -> Path:
    """Give a folder with data and a config, and one for what is temporary."""
    (folder / "tmp").mkdir(parents=True)
    (folder / "shop.toml").write_text(CONFIG.format(n_epochs))
    (folder / "data.csv").write_text(text)
    return folder


def torchrun(folder: Path) -> subprocess.Popen[str]:
    """Start a night on two ranks."""
    run = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "nightfit")
    return subprocess.Popen(
        [sys.executable, *run, *TRAIN, "--json"], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    """Give the night's rows, as CSV: what nobody can know of their labels is most of the loss, and equal for all."""
    random = np.random.default_rng(0)
    x = random.normal(size=(N_ROWS, 3)).round(3)
    bought = x[:, 0] - x[:, 1] * (x[:, 2] > 0) + random.logistic(size=N_ROWS) > 0
    lines = [f"{i},{a},{b},{c},{label}" for i, ((a, b, c), label) in enumerate(zip(x, bought, strict=True))]
    return "\n".join(["id,a,b,c,bought", *lines]) + "\n"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """Stand in an empty folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def record(nightfit: Command) -> dict[str, object]:
    """Give what the only version tells of its night."""
    night: dict[str, object] = json.loads(nightfit("show", "1", "--config", "shop.toml", "--json").out)["night"]
    return night


def loss(night: dict[str, object]) -> float:
    """Give the log loss on the held-out rows."""
    found: float = night["gate"]["scores"]["log_loss"]  # type: ignore[index]
    return found


def test_two_ranks_learn_what_one_process_learns(here: Path, text: str, nightfit: Command) -> None:
    """Two ranks commit one version, whose log loss is within 1 % of what one process comes to by the same config."""
    found = {}
    for name in ("two", "one"):
        os.chdir(prepared(here / name, text))
        if name == "two":
            run = torchrun(Path.cwd())
            out, err = run.communicate(timeout=DEADLINE_S)
            assert run.returncode == 0, err
            assert json.loads(out)["device"] == "cpu (as asked; 2 ranks)"
            assert not list(Path("tmp").glob("nightfit-*"))
        else:
            assert nightfit(*TRAIN).code == 0
        (version,) = json.loads(nightfit("log", "--config", "shop.toml", "--json").out)["models"]["deep"]
        assert (version["rows"]["read"], version["status"]) == (N_ROWS, "accepted")
        assert nightfit("verify", "--config", "shop.toml").code == 0
        found[name] = record(nightfit)
    assert loss(found["two"]) == pytest.approx(loss(found["one"]), rel=0.01)
    two, one = (found[name]["learning"] for name in ("two", "one"))
    assert two["rows"] == one["rows"]  # type: ignore[index]
    assert two["loss_after"] == pytest.approx(one["loss_after"], rel=0.01)  # type: ignore[index]
    assert found["two"]["drift"] == found["one"]["drift"]


def _process(of: int, rank: int) -> int:
    """Return the process id of one of torchrun's ranks."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == of and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:  # it has ended
            continue
    raise AssertionError(f"rank {rank} must run, however it does not")


@pytest.mark.skipif(sys.platform != "linux", reason="ranks are found in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_dead_rank_fails_the_night(rank: int, here: Path, text: str, nightfit: Command) -> None:
    """A rank that is killed while it learns ends the others soon; nothing is committed, and the next run is right."""
    os.chdir(prepared(here / "killed", text, n_epochs=1_000))
    run = torchrun(Path.cwd())
    until = time.monotonic() + DEADLINE_S
    while len(list(Path("tmp").glob("*/*/000000-y.npy"))) < 2:  # both have their shares
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    os.kill(_process(run.pid, rank), signal.SIGKILL)
    _, err = run.communicate(timeout=30)
    assert run.returncode != 0
    told = [line for line in err.splitlines() if line.startswith("nightfit: ")]
    assert any("all ranks must live until the night is over" in line or "terminated" in line for line in told)
    assert not json.loads(nightfit("log", "--config", "shop.toml", "--json").out)["models"]["deep"]
    Path("shop.toml").write_text(CONFIG.format(1))
    assert nightfit(*TRAIN).code == 0
    (version,) = json.loads(nightfit("log", "--config", "shop.toml", "--json").out)["models"]["deep"]
    assert (version["rows"]["read"], version["status"]) == (N_ROWS, "accepted")
