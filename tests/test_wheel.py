"""The package as it is given out: a wheel is built, installed where no sources are, and used as a user would.

scripts/check_release has the same tests run in an environment that holds the wheel and what it asks for alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shop import CONFIG, ROW, Client, rows

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]
MOST_PACKAGES = 30
"""Beyond torch and what torch itself asks for."""

CONSUMER = """
import numpy as np
from nightfit import IncrementalMLPClassifier, IncrementalMLPRegressor, __version__
from nightfit.sources.base import Cursor
from nightfit.errors import NightfitError

classifier: IncrementalMLPClassifier = IncrementalMLPClassifier(d_hidden=8).partial_fit(np.zeros((2, 1)), [0, 1])
version: str = __version__
cursor: Cursor = {"at": 1}
code: int = NightfitError("x").exit_code
wrong: str = IncrementalMLPRegressor(d_hidden=8).d_hidden
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, or give the one that scripts/check_release has built."""
    if ready := os.environ.get("NIGHTFIT_WHEEL"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, PROJECT)
    subprocess.run(pip, check=True, capture_output=True)
    return next(folder.glob("nightfit-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside this environment's libraries, but not its nightfit; or give the release's Python."""
    if ready := os.environ.get("NIGHTFIT_PYTHON"):
        return Path(ready)
    home = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    site = next(home.glob("lib/*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # whose own .pth, to our sources, is not read
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
    subprocess.run(pip, check=True, capture_output=True)
    return python


def alone() -> dict[str, str]:
    """Return the environment without what leads to our sources."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "NIGHTFIT", "MYPY"))}


@pytest.fixture(scope="module")
def home(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which the installed nightfit has learned a night; do not write what others read."""
    home = tmp_path_factory.mktemp("home")
    (home / "nightfit.toml").write_text(CONFIG)
    (home / "data.csv").write_text(rows(200))
    told = json.loads(run(python, home, "nightfit", "train", "--config", "nightfit.toml", "--json"))
    assert {result["status"] for result in told["models"].values()} == {"accepted"}
    return home


def run(python: Path, home: Path, program: str, *arguments: str | Path) -> str:
    """Run a program of an environment; return what it prints."""
    command = [python.parent / program, *arguments]
    done = subprocess.run(command, cwd=home, env=alone(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package is there, types and pages among them, and the licence; nothing of tests or stores."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = PROJECT / "src" / "nightfit"
    sources = {f"nightfit/{path.relative_to(package)}" for path in package.rglob("*") if path.is_file()}
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == {name for name in sources if "__pycache__" not in name}
    assert {"nightfit/py.typed", "nightfit/serving/static/page.html", "nightfit/report/static/page.css"} <= ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {Path(name).suffix for name in ours} == {".py", ".typed", ".html", ".css", ".js"}


def test_a_session_without_the_sources(python: Path, home: Path) -> None:
    """Predict, verify and report work as installed, and nightfit is that of the environment."""
    place = run(python, home, "python", "-c", "import nightfit; print(nightfit.__file__)")
    assert Path(place.strip()).is_relative_to(python.parents[1])
    config = ("--config", "nightfit.toml")
    run(python, home, "nightfit", "predict", "data.csv", "-o", "out.csv", *config)
    assert len((home / "out.csv").read_text().splitlines()) == 201
    assert json.loads(run(python, home, "nightfit", "verify", *config, "--json"))["ok"]
    run(python, home, "nightfit", "report", "-o", "report.html", *config)
    assert "</html>" in (home / "report.html").read_text()


def test_a_server_without_the_sources(python: Path, home: Path, tmp_path: Path) -> None:
    """The installed server answers with its page and a prediction, and ends when it is asked to."""
    command: list[str | Path] = [python.parent / "nightfit", "serve", "--config", "nightfit.toml", "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=alone(), stderr=log)
    client = Client(process, tmp_path / "log")
    try:
        client.until(lambda: any(event["event"] == "serving" for event in client.events))
        assert client.ask("GET", "/").status == 200
        assert client.post("/predict/deep", {"features": ROW}).status == 200
    finally:
        code = client.stop()
    assert code == 0


def test_types_are_exported(python: Path, tmp_path: Path) -> None:
    """A user's strict mypy sees our types as installed: what is right passes, and the one mistake is found."""
    (tmp_path / "consumer.py").write_text(CONSUMER)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-torch.*]\nfollow_imports = skip\n")  # a minute
    mypy = (sys.executable, "-m", "mypy", "--python-executable", python, "--cache-dir", tmp_path / "cache")
    done = subprocess.run(
        [*mypy, "consumer.py"], cwd=tmp_path, env=alone(), capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout
    assert lines[0].startswith("consumer.py:11: error: Incompatible types in assignment")


def closure(name: str, found: set[str] | None = None) -> set[str]:
    """Return a package and all that it asks for, without extras."""
    found = set() if found is None else found
    if canonicalize_name(name) not in found:
        found.add(canonicalize_name(name))
        for requirement in map(Requirement, distribution(name).requires or ()):
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                closure(requirement.name, found)
    return found


def test_few_packages_come_along() -> None:
    """An install brings few packages beyond torch's own; no scheduler, tracker or web front end is among them."""
    beyond = closure("nightfit") - closure("torch") - {"nightfit"}
    assert len(beyond) <= MOST_PACKAGES, sorted(beyond)
    assert not beyond & {"apache-airflow", "mlflow", "mlflow-skinny", "fastapi", "flask", "streamlit", "dash", "gradio"}
