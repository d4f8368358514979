from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nightfit import doctor, places
from nightfit.config import load
from nightfit.doctor import examine
from nightfit.lock import holder, writer_lock
from nightfit.places import Check


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
        ("d*.csv", "columns"),
    ],
)
def test_sources_that_may_be_absent_are_no_problem(home: Path, url: str, said: str) -> None:
    """A glob and an optional file are fine as they are."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace('"data.csv"', f'"{url}"'))
    (check,) = [check for what, check in found(path).items() if what.startswith("source")]
    assert check.ok
    assert said in check.found


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


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("old", "new", "what", "said"),
    [
        ('"data.csv"', '"sqlite:///data.csv"\ntable = "t"', "source sqlite:///data.csv#t", "not a database"),
        (
            '"data.csv"',
            '"postgresql+psycopg://me:s3cret@127.0.0.1:1/x"\ntable = "t"',
            "source postgresql",
            "see that it is up, and that host, port",
        ),
        ('"data.csv"', '"mysql://me:s3cret@h/x"\ntable = "t"', "source mysql", "say mysql+pymysql://, and pip install"),
        ('"data.csv"', '"broken.jsonl"', "source broken.jsonl", "of the first 2 none is: "),
        ('"data.csv"', '"mssql+pyodbc://me:s3cret@h/x"\ntable = "t"', "source mssql", "install"),
        ('target = "bought"', 'target = "boght"', "source data.csv", "did you mean 'bought'?"),
        ('key = "id"', 'key = "di"', "source data.csv", "key must be a column, however 'di' is not there"),
        ('key = "id"', 'key = "colour"', "source data.csv", "rows have one that came before, and are rejected"),
        ('url = "data.csv"', 'url = "data.csv"\n[gate]\nslices = ["land"]', "source data.csv", "gate.slices must be"),
        ("[[sources]]", '[notify]\nwebhook = "ftp://me:s3cret@h/"\n[[sources]]', "notify.webhook", "a url of http"),
        ("[[sources]]", '[notify]\nwebhook = "https://${NO_NAME}/"\n[[sources]]', "notify.webhook", "export it"),
        ("[[sources]]", '[mlflow]\nuri = "https://${NO_NAME}/"\n[[sources]]', "mlflow", "export it"),
        ("[[sources]]", '[notify]\ntextfile = "none/a.prom"\n[[sources]]', "notify.textfile", "make it, or mend"),
        ("[[sources]]", '[store]\npath = "data.csv"\n[[sources]]', "store", "must be a folder"),
    ],
)
def test_what_will_not_work_is_said_with_what_to_do(  # noqa: PLR0917 - fixtures and parameters
    home: Path, nightfit: Callable[..., Any], old: str, new: str, what: str, said: str
) -> None:
    """Sources out of reach, missing columns, a key that repeats, who cannot be told, a store that is none."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace(old, new))
    (home / "broken.jsonl").write_text("[1]\n[2]\n")
    done = nightfit("doctor", "--json")
    bad = [check for check in json.loads(done.out)["checks"] if not check["ok"]]
    assert done.code == 78
    assert any(check["what"].startswith(what) and said in check["found"] for check in bad), bad
    assert "s3cret" not in done.out


@pytest.mark.usefixtures("quick")
def test_a_key_that_repeats_may_be_meant(home: Path) -> None:
    """With `on_update = "learn"` a key comes again whenever its row has changed."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text().replace('key = "id"', 'key = "colour"\non_update = "learn"'))
    assert found(path)["source data.csv"].ok


@pytest.mark.usefixtures("quick")
def test_a_key_with_gaps_is_named(home: Path) -> None:
    """A row without a key cannot be told from others."""
    with (home / "data.csv").open("a") as file:
        file.write(",1.0,red,2026-01-01,yes\n")
    assert "id has gaps" in found(home / "configs" / "nightfit.toml")["source data.csv"].found


@pytest.mark.usefixtures("quick")
def test_it_writes_nothing(home: Path) -> None:
    """Neither into the store, which may not be there yet, nor where the night is told of."""
    path = home / "configs" / "nightfit.toml"
    (home / "told").mkdir()
    text = path.read_text().replace('name = "shop"', 'name = "fresh"\nstore = "new/store"')
    path.write_text(text + '[notify]\ntextfile = "told/a.prom"\n')
    before = sorted(home.rglob("*"))
    assert all(check.ok for check in found(path).values())
    assert sorted(home.rglob("*")) == before


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux lists the locks that are held")
def test_who_writes_now_is_named_and_not_disturbed(home: Path) -> None:
    """The lock of a running night is seen without being tried."""
    path, folder = home / "configs" / "nightfit.toml", home / "checkpoints" / "shop"
    assert holder(folder) is None
    with writer_lock(folder):
        assert holder(folder) == os.getpid()
        assert f"process {os.getpid()} is writing" in found(path)["store"].found
    assert "is writing" not in found(path)["store"].found


def test_a_full_disk_is_a_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without room for a night says so."""
    monkeypatch.setattr(places, "_LEAST_FREE", 1 << 62)
    (check,) = places.store_checks(load(home / "configs" / "nightfit.toml"))
    assert not check.ok
    assert "MiB are free" in check.found


def test_a_package_too_old_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version below the least that nightfit names is said with the command that mends it."""
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=99.1,<100", "torch>=2.10; extra == 'x'"])
    check = doctor._package("numpy")
    assert (check.ok, "pip install -U 'numpy>=99.1'" in check.found) == (False, True)
    assert doctor._package("torch").ok
