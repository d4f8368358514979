"""Files for cron and systemd: what they start, how they quote it, and what they make of exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from nightfit.errors import ConfigError
from nightfit.schedule import airflow, cron, kubernetes, systemd
from nightfit.schedule.plan import Plan, program

ODD = [
    "plain",
    "two words",
    "it's",
    'a "quote"',
    "50% off",
    "back\\slash",
    "\\%",
    "%\\%%",
    "$HOME `id` $(id)",
    "a;b&c|d",
    "ü",
]

FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
code=$(head -n 1 "$0.codes")
[ "$(wc -l < "$0.codes")" -gt 1 ] && sed -i.bak 1d "$0.codes"
[ "$code" -eq 0 ] || echo "nightfit: ended with $code" >&2
exit "$code"
"""


def undone(command: str) -> str:
    """Return what cron runs of a line's command field: do_command.c of Vixie's cron, whose rest would be stdin."""
    passed, escaped = "", False
    for letter in command:
        if letter == "%" and not escaped:
            break
        passed = passed[:-1] + letter if escaped and letter == "%" else passed + letter
        escaped = letter == "\\" and not escaped
    return passed


class Machine:
    """A folder with a fake nightfit in it, a sleep that only takes notes, and a plan that starts the former."""

    def __init__(self, folder: Path, config: str) -> None:
        self.nightfit = folder / "nightfit"
        self.folder, self.programs = folder, folder / "programs"
        self.programs.mkdir(parents=True)
        for path, text in (
            (self.nightfit, FAKE),
            (self.programs / "sleep", f'#!/bin/sh\necho $1 >> "{folder.parent}/slept"\n'),
        ):
            path.write_text(text)
            path.chmod(0o755)
        self.plan = Plan("shop", (str(self.nightfit), "train", "--config", config), 2, 30, ())

    def run_cron(self, *codes: int) -> subprocess.CompletedProcess[str]:
        """Run the line as cron would; nightfit ends with these codes in turn."""
        Path(f"{self.nightfit}.codes").write_text("".join(f"{code}\n" for code in codes))
        line = cron.files(self.plan)["nightfit-shop.cron"].splitlines()[-1]
        command = line.split(" ", 5)[5]
        environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": "/"}
        return subprocess.run(
            ["/bin/sh", "-c", undone(command)], env=environment, capture_output=True, text=True, check=False
        )

    @property
    def arguments(self) -> list[str]:
        """What nightfit was called with."""
        return Path(f"{self.nightfit}.arguments").read_text().splitlines()

    @property
    def slept(self) -> list[int]:
        """The seconds that were waited, one after the other."""
        notes = self.folder.parent / "slept"
        return [int(line) for line in notes.read_text().splitlines()] if notes.exists() else []


@pytest.mark.parametrize("odd", ODD)
def test_cron_calls_what_was_meant(odd: str, tmp_path: Path) -> None:
    """Whatever program and config are called, the shell that cron starts calls that program with that config."""
    machine = Machine(tmp_path / "x" / odd, f"/srv/{odd}.toml")
    done = machine.run_cron(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.arguments == ["train", "--config", f"/srv/{odd}.toml"]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 65, 78, 130])
def test_cron_tells_what_time_does_not_mend_once(code: int, tmp_path: Path) -> None:
    """A night that ends with anything but 75 is not tried again; cron mails what was said, of a good one nothing."""
    machine = Machine(tmp_path / "x", "c.toml")
    done = machine.run_cron(code, 0)
    assert done.returncode == code
    assert done.stdout == (f"nightfit: ended with {code}\n" if code else "")
    assert machine.slept == []


def test_cron_tries_again_what_time_may_mend(tmp_path: Path) -> None:
    """75 is tried again after a while; when that helps nobody is told."""
    machine = Machine(tmp_path / "x", "c.toml")
    done = machine.run_cron(75, 75, 0)
    assert (done.returncode, done.stdout, machine.slept) == (0, "", [60, 120])


def test_cron_gives_up(tmp_path: Path) -> None:
    """After five tries in a quarter of an hour the night ends with 75, said once, without a last wait."""
    machine = Machine(tmp_path / "x", "c.toml")
    done = machine.run_cron(75)
    assert (done.returncode, done.stdout, machine.slept) == (75, "nightfit: ended with 75\n", [60, 120, 240, 480])


def test_units_verify(tmp_path: Path) -> None:
    """Systemd itself finds nothing wrong with either unit, whatever the config is called."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd here")
    for i, odd in enumerate(ODD):
        plan = Plan(f"shop{i}", (sys.executable, "train", "--config", f"/srv/{odd}.toml"), 2, 30, ("SECRET",))
        for name, text in systemd.files(plan).items():
            (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.glob("*"))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_units_know_the_exit_codes() -> None:
    """The service tries again on 75 alone, and a refusal (3) is no failure."""
    text = systemd.files(Plan("shop", ("/bin/nightfit",), 2, 30, ()))["nightfit-shop.service"]
    assert {"Restart=no", "RestartForceExitStatus=75", "SuccessExitStatus=3", "StartLimitBurst=5"} <= {
        *text.splitlines()
    }


def test_units_quote() -> None:
    """Quotes, backslashes and % are escaped as systemd unescapes them, and $ is left alone."""
    plan = Plan("shop", ("/opt/50% off/nightfit", "--config", '/srv/"a"\\$HOME.toml'), 2, 30, ())
    line = re.findall(r"^ExecStart=(.*)$", systemd.files(plan)["nightfit-shop.service"], re.MULTILINE)[0]
    assert line == r':"/opt/50%% off/nightfit" "--config" "/srv/\"a\"\\$HOME.toml"'
    with pytest.raises(ConfigError, match="install nightfit elsewhere"):
        systemd.files(replace(plan, command=('/opt/"it"/nightfit',)))


def test_a_dag_is_python_that_holds_any_name() -> None:
    """The DAG compiles, and its command is the one that was meant (tests/test_airflow.py has Airflow run it)."""
    for odd in ODD:
        plan = Plan("shop", (f"/opt/{odd}/nightfit", "train", "--config", f"/srv/{odd}.toml"), 2, 30, ())
        text = airflow.files(plan)["nightfit_shop.py"]
        compile(text, "dag", "exec")
        assert f"COMMAND = {list(plan.command)!r}\n" in text
        assert not re.search(r"import (torch|nightfit)|from nightfit", text)


@pytest.mark.parametrize("code", [0, 3, 65, 75])
@pytest.mark.parametrize("odd", ODD)
def test_a_container_calls_what_was_meant(odd: str, code: int, tmp_path: Path) -> None:
    """Its command runs nightfit with that config, whatever it is called, and only a refusal ends otherwise."""
    machine = Machine(tmp_path / "x", f"/srv/{odd}/c.toml")
    Path(f"{machine.nightfit}.codes").write_text(f"{code}\n")
    (text,) = kubernetes.files(machine.plan).values()
    pod = yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = [word.replace("$$", "$") for word in container["command"]]
    environment = {"PATH": f"{machine.folder}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if code == 3 else code)
    assert machine.arguments == ["train", "--config", f"/srv/{odd}/c.toml"]
    assert container["volumeMounts"] == [{"name": "pipeline", "mountPath": f"/srv/{odd}"}]


@pytest.mark.parametrize("needs", [(), ("SECRET",)])
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_a_cronjob_is_what_kubernetes_takes(needs: tuple[str, ...], version: str) -> None:
    """Its own schema has nothing against it, nothing is in it that the schema lacks, and the name fits."""
    plan = Plan(f"shop_{'x' * 59}", ("/bin/nightfit", "train", "--config", "/srv/c.toml"), 2, 30, needs)
    ((file, text),) = kubernetes.files(plan).items()
    job = yaml.safe_load(text)
    kubernetes_validate.validate(job, version, strict=True)
    name = job["metadata"]["name"]
    assert (file, len(name)) == (f"{name}.yaml", 52)
    assert ("envFrom" in text, "a secret" in text) == (bool(needs), bool(needs))


CONFIG = """
name = "shop"
target = "y"
[[sources]]
url = "https://${SHOP_USER}:${SHOP_PASSWORD}@shop.example/orders"  # and ${NOTHING} of a comment
headers = { Authorization = "Bearer ${SHOP_TOKEN}" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a config that needs the environment."""
    path = tmp_path / "my shop.toml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("kind", ["cron", "systemd", "airflow", "kubernetes"])
def test_a_schedule_is_printed(kind: str, config: Path, nightfit: Callable[..., Any]) -> None:
    """Every kind names the absolute config, all codes, the time, and what the config needs of the environment."""
    done = nightfit("schedule", kind, "--at", "4:05", "--config", str(config))
    assert (done.code, done.err) == (0, "")
    assert str(config) in done.out
    assert re.search(r"04:05", done.out)
    for word in ("0: committed", "3: a model was refused", "75: locked", "65: data", "78: a config"):
        assert word in done.out
    assert all(name in done.out for name in ("SHOP_USER", "SHOP_PASSWORD", "SHOP_TOKEN"))
    assert "NOTHING" not in done.out


def test_a_schedule_is_written(config: Path, tmp_path: Path, nightfit: Callable[..., Any]) -> None:
    """With -o each file gets its name there; --json has the same texts."""
    told = json.loads(nightfit("schedule", "systemd", "-o", str(tmp_path), "--config", str(config), "--json").out)
    assert [*told["files"]] == ["nightfit-shop.service", "nightfit-shop.timer"]
    assert told["files"] == {name: (tmp_path / name).read_text() for name in told["files"]}
    said = nightfit("schedule", "cron", "-o", str(tmp_path), "--config", str(config)).out
    assert said == f"wrote {tmp_path}/nightfit-shop.cron\n"


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        (["anacron"], 2, "cron, systemd, airflow, kubernetes"),
        (["cron", "--at", "24:00"], 2, "time of day"),
        (["cron", "--config", "nowhere.toml"], 78, "a config is needed"),
        (["cron", "-o", "nowhere"], 65, "must be writable"),
    ],
)
def test_what_makes_no_sense_is_named(
    typed: list[str], code: int, words: str, config: Path, nightfit: Callable[..., Any]
) -> None:
    """An unknown scheduler, no time, no config and no folder are told by name."""
    done = nightfit("schedule", *typed, *([] if "--config" in typed else ["--config", str(config)]))
    assert done.code == code
    assert words in done.err


def test_a_path_that_no_line_can_hold(tmp_path: Path) -> None:
    """A config with a newline in its name is refused before it becomes two lines of a crontab."""
    path = tmp_path / "a\nb.toml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match="can be printed"):
        Plan.of(path, "02:30")


def test_the_program_is_the_one_that_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A night is started by the path of the nightfit that was typed, or by this Python where there is none."""
    own = tmp_path / "nightfit"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(own)])
    assert program() == (str(own),)
    monkeypatch.setattr(sys, "argv", ["/usr/lib/pytest"])
    assert program() == (sys.executable, "-m", "nightfit")
