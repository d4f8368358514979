"""Doctor: versions, devices, config and store, and for what does not work the reason and the remedy.

Devices are probed in a child process: importing torch is slow, and a broken driver may take its process down.
"""

from __future__ import annotations

import glob
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nightfit import __version__
from nightfit.config import Config, load
from nightfit.errors import NightfitError
from nightfit.sources.base import SourceConfig, Surroundings
from nightfit.sources.make import make_source
from nightfit.store import Store

PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "SQLAlchemy",
    "safetensors",
    "msgspec",
    "typer",
)

_PROBE = """
import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"cuda": names, "mps": torch.backends.mps.is_available()}))
"""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: what was looked at, whether it works, and what was found."""

    what: str
    ok: bool
    found: str


def examine(config_path: Path) -> list[Check]:
    """Look at everything that a night needs; nothing is changed."""
    return [_python(), *map(_package, PACKAGES), _devices(), *_config(config_path)]


def _python() -> Check:
    return Check("python", sys.version_info >= (3, 11), f"{platform.python_version()}, nightfit {__version__}")


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, "not installed; install nightfit again, with its constraints file")


def _devices() -> Check:
    try:
        probe = subprocess.run(  # noqa: S603 - our own interpreter, a constant text
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(probe.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Check("devices", False, f"torch cannot be imported: {_why(error)}; install nightfit again")
    names = [f"cuda:{i} ({name})" for i, name in enumerate(found["cuda"])] + ["mps"] * found["mps"]
    return Check("devices", True, ", ".join([*names, "cpu"]))


def _why(error: Exception) -> str:
    """Return the last line that the child said, or how it ended."""
    said = str(getattr(error, "stderr", None) or "").strip().splitlines()
    code = getattr(error, "returncode", None)
    return said[-1][:200] if said else f"its process ended with {code}" if code else type(error).__name__


def _config(path: Path) -> list[Check]:
    try:
        config = load(path)
    except NightfitError as error:
        return [Check("config", False, str(error))]
    models = ", ".join(f"{name} ({model.kind})" for name, model in config.models.items())
    return [
        Check("config", True, f"{path}: {config.name}, models {models}"),
        *_sources(config),
        *_store(config),
    ]


def _sources(config: Config) -> list[Check]:
    around = Surroundings(config.rules.key, config.rules.target, config.root)
    return [_source(source, around) for source in config.sources]


def _source(source: SourceConfig, around: Surroundings) -> Check:
    root = around.root
    what, is_sqlite = f"source {source.name}", source.url.startswith("sqlite:///")
    if "://" in source.url and not is_sqlite:
        try:
            make_source(source, around)
        except NightfitError as error:
            return Check(what, False, str(error))
        return Check(what, True, "a server; it is asked when a night reads it")
    path = root / source.url.removeprefix("sqlite:///").partition("?")[0] if is_sqlite else root / source.url
    try:
        is_there = path.exists()
    except OSError as error:
        return Check(what, False, f"{path} cannot be looked at: {error.strerror}; mend its permissions")
    if is_there or source.optional or glob.has_magic(source.url):
        return Check(what, True, f"{path}{'' if is_there else ', not there now'}")
    return Check(what, False, f"{path} is not there; put it there, or mend the url")


def _store(config: Config) -> list[Check]:
    checks = []
    for name in config.models:
        try:
            entries = Store(config.store).pipeline(config.name).lineage(name).entries()
        except NightfitError as error:
            checks.append(Check(f"model {name}", False, str(error)))
            continue
        accepted = [entry.version for entry in entries if entry.status == "accepted"]
        n_bad = sum(entry.status == "quarantined" for entry in entries)
        head = f"serves version {accepted[-1]}" if accepted else "has learned nothing yet"
        checks.append(Check(f"model {name}", not n_bad, f"{head}{f', {n_bad} set aside: see verify' if n_bad else ''}"))
    return checks
