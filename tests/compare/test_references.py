from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightfit.learners.base import ReferenceConfig, reference


@pytest.fixture
def data(tmp_path: Path, make_rows: Callable[..., str]) -> Path:
    """Give a file of 900 rows."""
    path = tmp_path / "data.csv"
    path.write_text(make_rows(900))
    return path


@pytest.fixture
def run(nightfit: Callable[..., Any], data: Path) -> Callable[..., dict[str, Any]]:
    """Give what compares models over nights of 300 rows."""

    def compared(models: str, target: str = "bought") -> dict[str, Any]:
        import json

        options = ["--target", target, "--key", "id", "--night-rows", "300", "--models", models, "--jobs", "1"]
        done = nightfit("compare", data, *options, "--device", "cpu", "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)["models"]
        return found

    return compared


def outcomes(data: Path) -> np.ndarray[Any, Any]:
    """Return who bought, night by night."""
    with data.open(newline="") as file:
        return np.array([row["bought"] == "yes" for row in csv.DictReader(file)]).reshape(3, 300)


def test_constants_are_the_shares_of_the_rows(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """`prior` answers the share of all rows before, `no_change` that of the night before."""
    found, nights = run("prior,no_change"), outcomes(data)

    def loss(shares: list[float]) -> float:
        pairs = zip(nights[1:], shares, strict=True)
        return float(np.mean([-np.log(np.where(night, share, 1 - share)) for night, share in pairs]))

    all_before = [nights[0].mean(), nights[:2].mean()]
    assert found["prior"]["log_loss"] == pytest.approx(loss(all_before), abs=2e-3)
    assert found["no_change"]["log_loss"] == pytest.approx(loss([nights[0].mean(), nights[1].mean()]), abs=2e-3)


@pytest.mark.parametrize("name", ["hgb", "hgb:1", "lightgbm", "lightgbm:2", "deep_scratch"])
def test_what_is_trained_anew_learns(run: Callable[..., dict[str, Any]], name: str) -> None:
    """Every reference that is trained anew each night tells more than the prior, and keeps nothing on disk."""
    found = run(f"prior,{name}")
    assert found[name]["failed"] is None
    assert found[name]["log_loss"] < 0.9 * found["prior"]["log_loss"]
    assert found[name]["disk_bytes"] is None


def test_references_of_a_quantity(run: Callable[..., dict[str, Any]]) -> None:
    """A quantity has them, too: its mean, and trees."""
    found = run("prior,no_change,hgb,lightgbm", target="price")
    assert all(scores["failed"] is None for scores in found.values())
    assert found["prior"]["r2"] == pytest.approx(0, abs=0.05)


def test_names_of_references() -> None:
    """A window is a number of nights, and only of what is trained on nights."""
    assert reference("hgb") == ReferenceConfig("hgb")
    assert reference("lightgbm:30") == ReferenceConfig("lightgbm", 30)
    assert [reference(name) for name in ("hgb:0", "hgb:x", "hgb:", "prior:3", "forest")] == [None] * 5
