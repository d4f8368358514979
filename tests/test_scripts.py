"""The scripts around the program: they parse, and the nightly one does the right thing for every exit code."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SHELL = [
    PROJECT / ".ci" / "run",
    *(
        PROJECT / "scripts" / name
        for name in (
            "test",
            "test_airflow",
            "test_mlflow",
            "check_release",
            "demo",
            "docs",
            "install",
            "nightly.sh",
            "lib.sh",
        )
    ),
]
PROGRAMS = [path for path in SHELL if path.name != "lib.sh"]

FAKE = """#!/bin/sh
echo "$@" >> "$CALLS"
code=$(head -n 1 "$CODES")
[ "$(wc -l < "$CODES")" -gt 1 ] && sed -i.bak 1d "$CODES"
[ "$code" -eq 0 ] || echo "nightfit: a rule, however: a fact" >&2
exit "$code"
"""


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_scripts_parse(path: Path) -> None:
    """Bash can read every script."""
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_programs_can_be_run(path: Path) -> None:
    """Every script that a person or CI calls is executable and says what runs it."""
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text().startswith("#!/usr/bin/env bash\n")


def test_pins_cover_the_dependencies() -> None:
    """Everything that the project asks for is pinned, and torch to a plain version that every index has."""
    project, pins = (PROJECT / "pyproject.toml").read_text(), (PROJECT / "scripts" / "constraints.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", pins.lower().replace("_", "-"), re.MULTILINE))
    for name in re.findall(r'"([a-z-]+)>=', project):
        assert name in pinned or name == "hatchling", name
    assert "+" not in pinned["torch"]


class Nightly:
    """A copy of nightly.sh in a project of its own, with a nightfit on PATH that ends as it is told."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.log, self.calls = self.project / "checkpoints" / "nightly.log", folder / "calls"
        (self.project / "scripts").mkdir(parents=True)
        shutil.copy(PROJECT / "scripts" / "nightly.sh", self.project / "scripts")
        self._codes, self._programs = folder / "codes", folder / "programs"
        self._programs.mkdir()
        (self._programs / "nightfit").write_text(FAKE)
        (self._programs / "nightfit").chmod(0o755)

    def run(self, *codes: int, options: tuple[str, ...] = (), tries: int = 3) -> subprocess.CompletedProcess[str]:
        """Run it; nightfit ends with the codes in their order, and with the last one from then on."""
        self._codes.write_text("".join(f"{code}\n" for code in codes))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTFIT")}
        environment |= {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "CODES": str(self._codes),
            "NIGHTFIT_TRIES": str(tries),
            "NIGHTFIT_WAIT_S": "0",
        }
        script = self.project / "scripts" / "nightly.sh"
        return subprocess.run([script, *options], env=environment, capture_output=True, text=True, check=False)

    @property
    def n_calls(self) -> int:
        """How often nightfit was called."""
        return len(self.calls.read_text().splitlines())


@pytest.fixture
def nightly(tmp_path: Path) -> Nightly:
    """Set up a nightly.sh that calls a fake nightfit."""
    return Nightly(tmp_path)


def test_a_good_night_is_silent(nightly: Nightly) -> None:
    """When all is well nothing is printed, so cron sends no mail, and the log tells of it with the time."""
    done = nightly.run(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ nightfit train ended with 0", nightly.log.read_text())


def test_what_is_typed_goes_to_train(nightly: Nightly) -> None:
    """Options of the crontab line are options of `nightfit train`, spaces and all."""
    nightly.run(0, options=("--config", "my config.toml"))
    assert nightly.calls.read_text() == "train --config my config.toml\n"


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (1, "a bug"),
        (2, "--help"),
        (3, "--accept"),
        (65, "Mend the source"),
        (75, "after 3 tries"),
        (78, "nightfit doctor"),
        (130, "Interrupted"),
        (143, "Interrupted"),
    ],
)
def test_a_bad_night_says_what_to_do(nightly: Nightly, code: int, advice: str) -> None:
    """Every exit code is passed on, with nightfit's own line and what to do, on stderr and in the log."""
    done = nightly.run(code)
    assert (done.returncode, done.stdout) == (code, "")
    assert "nightfit: a rule, however: a fact" in done.stderr
    assert advice in done.stderr
    assert advice in nightly.log.read_text()


def test_a_locked_night_tries_again(nightly: Nightly) -> None:
    """75 is tried again, and a later success is a good night: silent."""
    done = nightly.run(75, 75, 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert nightly.n_calls == 3


@pytest.mark.parametrize("code", [1, 2, 3, 65, 78])
def test_only_75_tries_again(nightly: Nightly, code: int) -> None:
    """What time does not mend is not tried again."""
    nightly.run(code, 0)
    assert nightly.n_calls == 1


def test_trying_ends(nightly: Nightly) -> None:
    """After NIGHTFIT_TRIES tries it gives up until the next night."""
    assert nightly.run(75, tries=2).returncode == 75
    assert nightly.n_calls == 2


def test_the_projects_environment_comes_first(nightly: Nightly) -> None:
    """A nightfit in the project's .venv is taken rather than the one on PATH."""
    own = nightly.project / ".venv" / "bin" / "nightfit"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\nexit 78\n")
    own.chmod(0o755)
    assert nightly.run(0).returncode == 78


@pytest.mark.parametrize("name", ["test", "demo", "install"])
def test_an_old_python_is_named(name: str, tmp_path: Path) -> None:
    """Without a Python that is new enough the scripts say so and what to do, before anything is made."""
    (tmp_path / "scripts").mkdir()
    for part in (name, "lib.sh", "constraints.txt"):
        shutil.copy(PROJECT / "scripts" / part, tmp_path / "scripts")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    environment = {**os.environ, "PYTHON": shutil.which("false") or "/bin/false"}
    script = tmp_path / "scripts" / name
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "Python 3.11 or newer is needed, however" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_demo_is_python_without_dependencies() -> None:
    """The demo can say what it does before anything is installed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROJECT / "scripts" / "demo_nights.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--nights" in done.stdout
