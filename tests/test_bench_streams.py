"""The benchmark over streams: the command is run, and one page says what came of it."""

import gzip
import importlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
SAMPLE = SCRIPTS / "samples" / "hotel_bookings.csv.gz"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set up a catalog of the sample's first nights, and compare two models over it."""
    folder = tmp_path_factory.mktemp("bench")
    with gzip.open(SAMPLE, "rt") as sample:
        (folder / "hotel.csv").write_text("".join(islice(sample, 801)))
    stream = {
        "name": "hotel", "file": "hotel.csv", "task": "binary", "target": "is_canceled", "night_rows": 200, "nights": 4,
        "kinds": {"time": ["arrival_date"], "categorical": ["agent"]}, "origin": "Antonio 2019", "licence": "CC BY 4.0",
    }  # fmt: skip
    (folder / "catalog.json").write_text(json.dumps({"datasets": [stream, {**stream, "name": "later"}]}))
    (folder / "peers.json").write_text(json.dumps({"hotel": {"theirs": {"log_loss": 0.125, "complete": True}}}))
    run(folder, "--streams", "hotel", "--models", "deep,linear")
    return folder


def run(folder: Path, *options: str) -> str:
    """Run the script, and return its page."""
    script, catalog, page = SCRIPTS / "bench_streams.py", folder / "catalog.json", folder / "benchmark.md"
    also = ["--results", folder / "kept", "--peers", folder / "peers.json", "--write", page]
    subprocess.run([sys.executable, *map(str, (script, catalog, *also)), *options], check=True, capture_output=True)
    return page.read_text(encoding="utf-8")


def test_the_page_tells_what_was_measured(bench: Path) -> None:
    """The page has each model's own score, the peers', the licence, the command, and which streams are missing."""
    page = (bench / "benchmark.md").read_text(encoding="utf-8")
    models = json.loads((bench / "kept" / "hotel.json").read_text())["models"]
    assert all(f"{scores['log_loss']:.4f}" in page for scores in models.values())
    assert "theirs 0.1250" in page
    assert "Antonio 2019. Licence: CC BY 4.0" in page
    assert "nightfit compare DATA/hotel.csv --target is_canceled" in page
    assert "Not run yet: later" in page
    assert "<svg" in (bench / "benchmark-losses.svg").read_text(encoding="utf-8")


def test_models_are_those_that_the_task_has() -> None:
    """A quantity has no naive Bayes, and windows hold the same number of rows whatever the night."""
    script = load("bench_streams")
    classes, quantity = (script.models_of({"task": task, "night_rows": 500}) for task in ("binary", "regression"))
    assert set(classes) - set(quantity) == {"gnb", "multinomial_nb", "bernoulli_nb"}
    assert {"hgb:60", "lightgbm:60"} <= set(quantity)


def test_ranks_follow_demsar() -> None:
    """Nemenyi's critical difference of five models over ten streams is 1.929 ranks (Demšar 2006, q = 2.728)."""
    names = ["a", "b", "c", "d", "e:9"]
    result = {"score": "log_loss", "models": {name: {"log_loss": 1.0 + k} for k, name in enumerate(names)}}
    ranks = load("streams_page").Ranks({str(k): result for k in range(10)})
    assert ranks.critical == pytest.approx(2.728 * (5 * 6 / (6 * 10)) ** 0.5, abs=1e-3)
    assert list(ranks.ranks.values()) == [1, 2, 3, 4, 5]
    assert list(ranks.groups()) == [(1, 2), (2, 3), (3, 4), (4, 5)]
    assert ranks.p < 1e-6


def load(name: str) -> Any:  # noqa: ANN401 - a module
    """Load a script."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))
