"""What is to be started, when, and what its exit codes mean: what the files of all schedulers are made from."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from nightfit.config import load
from nightfit.errors import REFUSED, ConfigError, DataError, TryAgainError, UsageError

AGAIN, DATA, CONFIG = TryAgainError.exit_code, DataError.exit_code, ConfigError.exit_code

WAITS_S = (60, 120, 240, 480)
"""Seconds before each further try of a night that time may mend."""

MEANINGS = (
    "0: committed, or nothing new.",
    f"{REFUSED}: a model was refused; the version before it serves on, and its rows are read again the next night.",
    f"{AGAIN}: locked, a database down, a disk full: tried again for a quarter of an hour.",
    f"{DATA}: data that cannot be used, {CONFIG}: a config that cannot work: no further try mends that; a person does.",
)


@dataclass(frozen=True)
class Plan:
    """A night of the pipeline `name`: `command` at `hour`:`minute`.

    `needs`: what its config takes from the environment. The command's words are as a program gets them, paths absolute:
    quoting them is each scheduler's own art.
    """

    name: str
    command: tuple[str, ...]
    hour: int
    minute: int
    needs: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, at: str) -> Plan:
        """Plan the nights of a config.

        Raises `ConfigError` for a config that cannot work, or a path that no scheduler's file can hold, `UsageError`
        for a time that is none.
        """
        time = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
        if not time:
            raise UsageError(f"--at must be a time of day such as 02:30, however it is '{at}'")
        config, place = load(path), path.absolute()
        command = (*program(), "train", "--config", str(place))
        if not all(word.isprintable() for word in command):
            raise ConfigError(f"a schedule needs paths that can be printed, however one of {command} cannot; rename it")
        values = json.dumps(
            tomllib.loads(path.read_text(encoding="utf-8")), default=str
        )  # what a comment says is no need
        needs = sorted(set(re.findall(r"\$\{(\w+)\}", values)))
        return cls(config.name, command, int(time[1]), int(time[2]), tuple(needs))


def program() -> tuple[str, ...]:
    """Return how this nightfit is called from anywhere: by the path that it was called by, or by its Python."""
    called = shutil.which(sys.argv[0])
    if called and Path(called).name == "nightfit":
        return (str(Path(called).absolute()),)
    return (sys.executable, "-m", "nightfit")


def comment(*lines: str) -> str:
    """Return lines as comments, as all kinds of file have them."""
    return "".join(f"# {line}\n" for line in lines)
