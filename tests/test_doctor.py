from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightfit import doctor
from nightfit.doctor import Check, examine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the devices out: the child process that looks at them takes seconds."""
    monkeypatch.setattr(doctor, "_devices", lambda: Check("devices", ok=True, found="cpu"))


def found(path: Path) -> dict[str, Check]:
    """Examine, by what was looked at."""
    return {check.what: check for check in examine(path)}


def test_all_is_well(home: Path, nightfit: Callable[..., Any]) -> None:
    """With everything in place it exits 0 and names versions, devices, config, source and what is served."""
    assert home
    done = nightfit("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["ok"] is True
    checks = {check["what"]: check["found"] for check in report["checks"]}
    assert {"python", "torch", "numpy", "devices", "config", "source data.csv"} <= set(checks)
    assert "cpu" in checks["devices"]
    assert checks["model deep"] == "serves version 1"


@pytest.mark.usefixtures("quick")
def test_people_get_a_table(home: Path, nightfit: Callable[..., Any]) -> None:
    """Every line says ok or PROBLEM."""
    (home / "data.csv").unlink()
    done = nightfit("doctor")
    assert done.code == 78
    assert "PROBLEM" in done.out
    assert "data.csv is not there; put it there, or mend the url" in " ".join(done.out.split())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("old", "new", "what", "said"),
    [
        ('name = "shop"', "name = [", "config", "must be TOML"),
        ('key = "id"', 'kei = "id"', "config", "did you mean 'key'"),
        ('"data.csv"', '"none.csv"', "source none.csv", "is not there"),
        ('"data.csv"', '"sqlite:///none.db"\ntable = "t"', "source sqlite:///none.db#t", "is not there"),
        ('root = ".."', 'root = "/none"', "source data.csv", "is not there"),
    ],
)
def test_what_is_broken_is_named(  # noqa: PLR0917
    home: Path, nightfit: Callable[..., Any], old: str, new: str, what: str, said: str
) -> None:
    """A broken config or a missing source exits 78 with the reason."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace(old, new))
    done = nightfit("doctor", "--json")
    assert done.code == 78
    (bad,) = [check for check in json.loads(done.out)["checks"] if not check["ok"]]
    assert bad["what"] == what
    assert said in bad["found"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("*.none", "not there now"),
        ('later.csv"\noptional = true\n#"', "not there now"),
        ('sqlite:///data.csv"\ntable = "t', "data.csv"),
        ('postgresql+psycopg://me:secret@db/x"\ntable = "t', "a server"),
    ],
)
def test_sources_that_may_be_absent_are_no_problem(home: Path, url: str, said: str) -> None:
    """A glob, an optional file, a database file and a server are fine as they are."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace('"data.csv"', f'"{url}"'))
    (check,) = [check for what, check in found(path).items() if what.startswith("source")]
    assert check.ok
    assert said in check.found
    assert "secret" not in check.what + check.found


@pytest.mark.usefixtures("quick")
def test_a_fresh_pipeline_and_a_broken_version(home: Path) -> None:
    """No version yet is fine; a version that was set aside is a problem that `verify` explains."""
    path = home / "configs" / "nightfit.toml"
    deep = home / "checkpoints" / "shop" / "deep"
    (deep / "000001").rename(deep / "000001.quarantined")
    checks = found(path)
    assert not checks["model deep"].ok
    assert "see verify" in checks["model deep"].found
    path.write_text(path.read_text().replace("shop", "fresh"))
    assert found(path)["model deep"] == Check("model deep", ok=True, found="has learned nothing yet")


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with -11"),
        ("print('no json')", "JSONDecodeError"),
        ("import sys; sys.stderr.write('  \\n'); sys.exit(3)", "ended with 3"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_a_finding(monkeypatch: pytest.MonkeyPatch, probe: str, said: str) -> None:
    """Devices are asked for in a child process: it may fail or crash, and doctor goes on with the reason."""
    monkeypatch.setattr(doctor, "_PROBE", probe)
    check = doctor._devices()
    assert not check.ok
    assert "torch cannot be imported" in check.found
    assert said in check.found


def test_without_torch_the_exit_code_is_78(home: Path) -> None:
    """A real process in which torch cannot be imported says so in one line of its table, and exits 78."""
    (home / "torch.py").write_text("raise ImportError('libcuda is broken')\n")
    done = subprocess.run(
        [sys.executable, "-m", "nightfit", "doctor", "--json"],
        capture_output=True, text=True, check=False, cwd=home,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (78, "")
    (bad,) = [check for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    assert "libcuda is broken" in bad["found"]


def test_a_missing_package_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is named, with what to do."""
    assert doctor._package("numpy").ok
    check = doctor._package("nothing-of-this-name")
    assert (check.ok, "install nightfit again" in check.found) == (False, True)
    monkeypatch.setattr(doctor, "PACKAGES", ())
    assert doctor._python().ok


@pytest.mark.usefixtures("quick")
def test_a_source_without_its_library_or_secret(
    nightfit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is not installed is named with the extra that brings it, an unset secret by its name (78)."""
    monkeypatch.delenv("NIGHTFIT_TEST_SECRET", raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for name in [name for name in sys.modules if name.startswith("nightfit.sources.kafka")]:
        monkeypatch.delitem(sys.modules, name)
    text = 'name = "p"\ntarget = "y"\n[[sources]]\nurl = "kafka://h:1/t"\n'
    text += '[[sources]]\nurl = "redis://:${NIGHTFIT_TEST_SECRET}@h"\nstream = "s"\n'
    (tmp_path / "n.toml").write_text(text)
    done = nightfit("doctor", "--config", tmp_path / "n.toml", "--json")
    assert done.code == 78
    said = " ".join(done.out.split())
    assert "confluent_kafka, however it is not installed; pip install 'nightfit[kafka]'" in said
    assert "needs ${NIGHTFIT_TEST_SECRET} from the environment" in said
