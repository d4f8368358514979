from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nightfit import scoring
from nightfit.lock import writer_lock

NIGHTFIT = [sys.executable, "-m", "nightfit"]
COMMANDS = ["init", "train", "predict", "compare", "log", "show", "verify", "doctor"]


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - subprocess's
    """Run a real one."""
    return subprocess.run([*NIGHTFIT, *arguments], capture_output=True, text=True, check=False, **options)


def append(home: Path, text: str) -> None:
    """Let new rows arrive."""
    with (home / "data.csv").open("a") as file:
        file.write(text)


@contextmanager
def slow_night(home: Path, make_rows: Callable[..., str]) -> Iterator[subprocess.Popen[str]]:
    """Run a real night with so many rows that there is time to interfere, until it holds the lock and has staged."""
    append(home, "".join(make_rows(1000, 10_000 + 1000 * i, header=False) for i in range(30)))
    running = subprocess.Popen([*NIGHTFIT, "train"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(home.glob("checkpoints/shop/.staging/*/deep")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def versions(home: Path) -> list[str]:
    """List the folders of the store's versions."""
    return sorted(f"{p.parent.name}/{p.name}" for p in home.glob("checkpoints/shop/*/0*"))


def test_a_night_under_cron_says_nothing(home: Path, make_rows: Callable[..., str]) -> None:
    """A real process without a terminal: new rows are committed, then nothing is new; both exit 0 and are silent."""
    append(home, make_rows(100, 600, header=False))
    done = process("train")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert versions(home) == ["deep/000001", "deep/000002", "linear/000001", "linear/000002"]
    done = process("train", "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {model["status"] for model in result["models"].values()} == {"nothing"}


def test_a_night_on_a_terminal_tells_what_happened(home: Path, make_rows: Callable[..., str]) -> None:
    """On a terminal there is a table with the verdict, and no traceback."""
    append(home, make_rows(100, 600, header=False))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*NIGHTFIT, "train", "--model", "linear"], stdout=theirs, stderr=theirs, stdin=theirs,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    ) as running:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
    os.close(ours)
    text = said.decode()
    assert running.returncode == 0
    assert "learned on cpu" in text or "learned on cuda" in text
    assert "verdict" in text
    assert "accepted" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_night_leaves_nothing_behind(
    home: Path, make_rows: Callable[..., str], number: signal.Signals, code: int
) -> None:
    """SIGINT exits 130 and SIGTERM 143, with one line, no partial version, and the lock released."""
    with slow_night(home, make_rows) as running:
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (code, "")
    assert err.count("\n") == 1
    assert "nothing was committed that is not whole" in err
    assert versions(home) == ["deep/000001", "linear/000001"]
    with writer_lock(home / "checkpoints" / "shop"):
        pass
    assert process("verify").returncode == 0


def test_a_stop_that_a_destructor_swallows_is_asked_for_again(tmp_path: Path) -> None:
    """What a signal raises while Python runs a destructor is lost; a second later it is raised again."""
    code = f"""
import os, signal, sys, time
from nightfit import cli, history

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

def log(*_, **__):
    Swallows()
    print("swallowed", flush=True)
    time.sleep(20)

history.log = log
sys.unraisablehook = lambda _: None
sys.argv = ["nightfit", "log", "--config", {str(tmp_path / "n.toml")!r}]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stdout) == (143, "swallowed\n")


def test_a_second_trainer_ends_at_once(home: Path, make_rows: Callable[..., str]) -> None:
    """While one night runs another exits 75, well before it could have imported torch, and names the first."""
    with slow_night(home, make_rows) as running:
        started = time.monotonic()
        done = process("train", "--json")
        took = time.monotonic() - started
        assert running.poll() is None
    assert done.returncode == 75
    assert json.loads(done.stdout)["exit_code"] == 75
    assert f"process {running.pid} does" in done.stderr
    assert took < 2.5  # one second and a half on an idle machine, next to a trainer


def test_a_refusal_exits_3_with_one_line(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """A model that learned swapped labels is refused: nothing on stdout, a line on stderr, and again the next night."""
    append(home, make_rows(1500, 600, swapped=True, header=False))
    for _ in range(2):
        done = nightfit("train", "--model", "deep")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("nightfit: deep: ")
        assert done.err.count("\n") == 1
    assert versions(home) == ["deep/000001", "deep/000002", "linear/000001"]
    done = nightfit("train", "--model", "deep", "--json")
    result = json.loads(done.out)
    assert (done.code, result["models"]["deep"]["status"]) == (3, "refused")
    done = nightfit("train", "--model", "deep", "--exclude", "2", "--json")
    assert (done.code, json.loads(done.out)["models"]["deep"]["rows"]["excluded"]) == (0, 1500)


def test_a_long_history_is_learned_night_by_night(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """Both ways to cut a history give nights of their own; only the models that are named take part."""
    append(home, make_rows(300, 600, header=False))
    done = nightfit("train", "--model", "linear", "--night-rows", "200", "--device", "cpu", "--json")
    result = json.loads(done.out)
    assert [night["linear"]["rows"]["read"] for night in result["nights"]] == [200, 100, 0]
    assert (done.code, result["device"]) == (0, "cpu (as asked)")
    assert versions(home) == ["deep/000001", "linear/000001", "linear/000002", "linear/000003"]
    done = nightfit("train", "--model", "deep", "--night-column", "day", "--every", "2d", "--json")
    assert [night["deep"]["rows"]["read"] for night in json.loads(done.out)["nights"]] == [200, 100, 0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bogus"], 2, "No such command"),
        (["log", "--bogus"], 2, "No such option"),
        (["show"], 2, "Missing argument"),
        (["show", "one"], 2, "valid int"),
        (["init"], 2, "Missing argument"),
        (["show", "7"], 65, "7 is not among those it has: 1"),
        (["train", "--model", "forest"], 78, "--model must name one of deep, linear"),
        (["train", "--device", "gpu"], 78, "a device must be auto"),
        (["train", "--device", "cuda:99"], 78, "--device cuda:99 needs CUDA device 99"),
        (["train", "--accept", " "], 2, "--accept needs a reason"),
        (["train", "--night-rows", "0"], 2, "--night-rows >= 1"),
        (["train", "--every", "1d"], 2, "--every needs --night-column"),
        (["train", "--night-column", "day", "--every", "soon"], 2, "--every must be a number"),
        (["train", "--config", "none.toml"], 78, "`nightfit init DATA --target COLUMN` writes one"),
        (["train", "--config", "configs"], 78, "must be a readable text file"),
        (["log", "--config", "data.csv"], 78, "must be TOML"),
        (["predict", "none.csv", "-o", "out.csv"], 65, "none.csv must exist"),
        (["predict", "configs", "-o", "out.csv"], 65, "configs must hold files of CSV (*.csv, *.csv.gz), JSON lines"),
        (["predict", "/dev/null", "-o", "out.csv"], 65, "must be a file"),
        (["predict", "", "-o", "out.csv"], 2, "its name is empty"),
        (["predict", "x" * 300, "-o", "out.csv"], 65, "must be readable, however: File name too long"),
        (["predict", "sqlite:///none.db", "-o", "out.csv"], 2, "a database needs --table"),
        (["predict", "sqlite:///none.db", "--table", "t", "-o", "out.csv"], 65, "none.db is not there"),
        (["predict", "data.csv", "-o", "out.csv", "--version", "0"], 65, "0 is not among"),
        (["predict", "data.csv", "-o", "out.csv", "--device", "mps2"], 78, "a device must be"),
        (["compare", "data.csv", "--night-rows", "9"], 2, "needs --target"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_one_object(
    home: Path, nightfit: Callable[..., Any], arguments: list[str], code: int, said: str
) -> None:
    """A rule, the fact and what to do, in a line on stderr; with --json one object on stdout says it too."""
    assert home
    done = nightfit(*arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    again = nightfit(*arguments, "--json")
    assert json.loads(again.out) == {"error": done.err.removeprefix("nightfit: ").rstrip("\n"), "exit_code": code}
    assert (again.code, again.err) == (code, done.err)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ["--exclude", "1"],
            2,
            "--exclude names a version of one model, however 2 would run: deep, linear; add --model",
        ),
        (["--model", "deep", "--exclude", "9"], 65, "9 is not among those it has"),
        (["--model", "deep", "--exclude", "1"], 2, "--exclude must name a version that was refused"),
        (["--night-column", "nope"], 78, "--night-column must name a column"),
    ],
)
def test_options_that_do_not_fit_the_rows(  # noqa: PLR0917 - fixtures and parameters
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str], options: list[str], code: int, said: str
) -> None:
    """What only shows when new rows are looked at is one line as well, and commits nothing."""
    append(home, make_rows(100, 600, header=False))
    done = nightfit("train", *options)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert versions(home) == ["deep/000001", "linear/000001"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("id,price,colour,day\n1,2,red,2026-01-01\n", 65, "'bought' must be a column"),
        ("", 65, "it is empty"),
        (b"\x80\x81\x82\n" * 100, 65, "must be UTF-8"),
        ("id,price,colour,day,bought\n1,x,red,2026-01-01,no\n", 65, "may be rejected"),
        ("id,price,id,bought\n", 65, "met more than once"),
        ("id,price,colour,day,bought\n", 0, ""),
        (None, 65, "is not there"),
    ],
)
def test_bad_data_stop_a_night(
    home: Path, nightfit: Callable[..., Any], text: str | bytes | None, code: int, said: str
) -> None:
    """What cannot be learned from exits 65 with one line, and commits nothing; a header alone is nothing new."""
    (home / "data.csv").unlink()
    if text is not None:
        (home / "data.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    done = nightfit("train", "--model", "linear")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == (code != 0)
    assert versions(home) == ["deep/000001", "linear/000001"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(nightfit: Callable[..., Any], command: str) -> None:
    """Each command explains itself, and takes --config and --json."""
    done = nightfit(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "--config FILE" in done.out
    assert "--json" in done.out
    assert command in nightfit("--help").out


def test_no_command_shows_the_help(nightfit: Callable[..., Any]) -> None:
    """Typing nothing is a usage error that shows what there is."""
    done = nightfit()
    assert done.code == 2
    assert all(command in done.out + done.err for command in COMMANDS)


def test_the_config_comes_from_the_environment(home: Path, nightfit: Callable[..., Any]) -> None:
    """NIGHTFIT_CONFIG stands in for --config, with every command; --config wins."""
    os.chdir(home.parent)
    env = {"NIGHTFIT_CONFIG": str(home / "configs" / "nightfit.toml")}
    assert nightfit("log", "--json").code == 78
    assert json.loads(nightfit("log", "--json", env=env).out)["models"]["deep"][0]["version"] == 1
    assert nightfit("compare", "--night-rows", "300", "--models", "linear", env=env).code == 0
    assert nightfit("log", "--config", "none.toml", env=env).code == 78


def test_a_bug_is_a_traceback_and_exit_code_1(
    home: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nobody foresaw is not dressed up; with --json stdout still holds one object."""
    assert home

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(scoring, "predict", broken)
    from nightfit.cli import app

    with pytest.raises(ZeroDivisionError):
        app(["predict", "data.csv", "--json"], prog_name="nightfit")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": "a bug: ZeroDivisionError: oops", "exit_code": 1}
    with pytest.raises(ZeroDivisionError):
        nightfit("predict", "data.csv")


def test_too_little_memory_is_no_bug(home: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that gets no memory says so in one line, and ends with 75: nothing was committed."""
    assert home
    monkeypatch.setattr(scoring, "predict", lambda *_, **__: bytearray(1 << 62))
    done = nightfit("predict", "data.csv")
    assert done.code == 75
    assert done.err.startswith("nightfit: a run must get the memory that it needs, however: there is none left")


def test_a_bug_in_a_real_process(home: Path) -> None:
    """The process exits 1 and shows where."""
    code = (
        "import sys; sys.argv = ['nightfit', 'log', '--json']\n"
        "from nightfit import cli, history\n"
        "history.log = lambda *_, **__: 1 / 0\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=home)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 1


def test_a_reader_who_leaves_and_a_full_disk_are_no_bugs(home: Path) -> None:
    """`nightfit predict | head` ends quietly; a full disk is one line and exit code 75."""
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(NIGHTFIT)} predict data.csv | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=True, cwd=home,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "141"}
    for typed in (["log"], ["log", "--json"]):
        with Path("/dev/full").open("w") as full:
            command = [*NIGHTFIT, *typed]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=home)
        assert done.returncode == 75
        assert "No space left on device" in done.stderr
        assert done.stderr.count("\n") == 1


def test_any_terminal_can_show_any_name(home: Path) -> None:
    """Where the terminal knows only ASCII, other letters are spelled out instead of failing."""
    config = home / "configs" / "nightfit.toml"
    config.write_text(config.read_text().replace('url = "data.csv"', 'url = "名.csv"'))
    done = process("train", env={**os.environ, "PYTHONIOENCODING": "ascii"}, cwd=home)
    assert done.returncode == 65
    assert "\\u540d.csv" in done.stderr
