from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from stress import syscalls
from stress.night import Night
from stress.strace import SYNCING, parse
from stress.table import names
from stress.zygote import zygote

SCRIPT = Path(__file__).parents[1] / "scripts" / "stress"

needs_strace = pytest.mark.skipif(
    not shutil.which("strace") and os.geteuid() != 0,
    reason="strace is not installed, and we are not root, who could install it",
)
needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems, for which one has to be root")
NEEDS = {"syscalls": needs_strace, "links": needs_strace, "full_disk": needs_mount}


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in names()])
def test_a_small_dose_meets_its_marks(name: str) -> None:
    """Every stress meets its marks in the dose that CI can take; the full ones are run by hand."""
    for result in import_module(f"stress.{name}").run(1, "small"):
        assert result.ok, result


def test_what_is_missed_is_told(tmp_path: Path) -> None:
    """The command prints a table and ends with 1 when a mark is missed, with 2 for what it does not know."""
    shutil.copytree(SCRIPT, tmp_path / "stress")
    (tmp_path / "stress" / "unmet.py").write_text(
        "from stress.table import Result\n\n\n"
        "def run(seed, dose):\n    return [Result('what', 'the mark', f'{seed} {dose}', ok=seed == 5)]\n"
    )
    command = [sys.executable, str(tmp_path / "stress"), "unmet", "--dose", "full", "--seed"]
    met, missed = (subprocess.run([*command, seed], capture_output=True, text=True, check=False) for seed in "56")
    assert (met.returncode, missed.returncode) == (0, 1)
    assert "the mark" in met.stdout
    assert "6 full" in missed.stdout
    unknown = subprocess.run([*command[:2], "no-such-one"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, "however 'no-such-one' is none" in unknown.stderr) == (2, True)


def test_the_plan_of_faults_is_automated() -> None:
    """Each fault is tried by tests and stresses that exist, or the page says why not; and each stress is named."""
    page = (SCRIPT.parents[1] / "docs" / "faults.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == [*range(1, 32)]
    tried = {number: re.findall(r"`(scripts/stress \w+|tests/[\w/]+\.py::\w+)`", by) for number, by in rows}
    assert all(found or by.startswith("not ") for found, (_, by) in zip(tried.values(), rows, strict=True))
    assert sum(map(bool, tried.values())) >= 27
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert f"def {name}(" in (SCRIPT.parents[1] / path).read_text(), (path, name)
    assert {*re.findall(r"`scripts/stress (\w+)`", page)} == {*names()}


@needs_strace
def test_a_commit_that_does_not_sync_is_noticed(tmp_path: Path) -> None:
    """The check of the order of calls finds each sync that is left out of a real night's trace."""
    night = Night(tmp_path, "[models.linear]\n", zygote())
    store = night.pipeline.folder
    assert syscalls.unsafe(night.calls, store) == []
    syncs = [i for i, call in enumerate(night.calls) if call.name in SYNCING]
    found = [bool(syscalls.unsafe(night.calls[:i] + night.calls[i + 1 :], store)) for i in syncs]
    assert sum(found) >= 9, "one or two syncs repeat what another one did"
    assert len(syncs) <= sum(found) + 2


def test_a_line_of_a_trace_is_read() -> None:
    """Calls are known by name and paths, data is no path, and what changes nothing is left out."""
    call = parse('17 renameat2(AT_FDCWD</x>, "/s/a", 5</s>, "/s/b", RENAME_NOREPLACE) = 0')
    assert call
    assert (call.name, call.paths) == ("renameat2", ("/s/a", "/s", "/s/b"))
    call = parse('17 write(5</s/a>, "\\"/etc/passwd\\"", 13) = 13')
    assert call
    assert call.paths == ("/s/a",)
    assert parse('17 openat(AT_FDCWD</x>, "/s/a", O_RDONLY) = 3</s/a>') is None
    assert parse('17    mkdir("/s", 0700) = 0'), "short ids of processes are padded"
    assert parse("17 <... write resumed>) = 6") is None
