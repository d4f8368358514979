"""What the tests of the command line share: a pipeline that has learned one night, and a way to type commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import settings
from typer.testing import CliRunner

pytest_plugins = ["browsing", "shop"]

settings.register_profile("quick", max_examples=60)
settings.register_profile("thorough", max_examples=300)
settings.load_profile("quick")

CONFIG = """
name = "shop"
target = "bought"
key = "id"
root = ".."
holdout = 0.4

[[sources]]
url = "data.csv"
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command: TypeAlias = Callable[..., Done]
Rows: TypeAlias = Callable[..., str]


@pytest.fixture(scope="session")
def make_rows() -> Rows:
    """Give a maker of CSV text: n rows from an id on, whose label follows from price and colour, or from neither."""

    def make(n: int, start: int = 0, *, seed: int = 0, swapped: bool = False, header: bool = True) -> str:
        rng = np.random.default_rng(seed + start)
        lines = ["id,price,colour,day,bought"] if header else []
        for i in range(start, start + n):
            price, colour = float(rng.normal()), ["red", "green", "blue"][int(rng.integers(3))]
            bought = price + (colour == "red") + 0.3 * rng.normal() > 0.3
            day = np.datetime64("2026-01-01") + i // 100
            lines.append(f"{i},{price:.4f},{colour},{day},{'yes' if bought != swapped else 'no'}")
        return "\n".join(lines) + "\n"

    return make


@pytest.fixture
def nightfit(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Give what types a command in this process; a traceback fails the test."""
    monkeypatch.delenv("NIGHTFIT_CONFIG", raising=False)

    def typed(*arguments: object, env: dict[str, str] | None = None) -> Done:
        from nightfit.cli import app

        result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="nightfit", env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return typed


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, make_rows: Rows) -> Path:
    """Give a folder with data.csv (600 rows), configs/nightfit.toml and one version of each model; do not touch it."""
    from nightfit.cli import app

    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    (folder / "configs").mkdir()
    (folder / "configs" / "nightfit.toml").write_text(CONFIG)
    (folder / "data.csv").write_text(make_rows(600))
    os.chdir(folder)
    try:
        result = CliRunner().invoke(app, ["train"])
    finally:
        os.chdir(before)
    assert (result.exit_code, result.output) == (0, ""), result.output
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """Stand in a copy of the trained pipeline's folder."""
    folder, before = tmp_path / "home", Path.cwd()
    shutil.copytree(trained, folder)
    os.chdir(folder)
    yield folder
    os.chdir(before)
