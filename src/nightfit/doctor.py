"""Doctor: versions, devices, config, sources, store; for what does not work the reason and the remedy.

Devices are probed in a child process: importing torch is slow, and a broken driver may take its process down.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from nightfit import __version__
from nightfit.config import Config, load
from nightfit.errors import ConfigError, NightfitError
from nightfit.learners.base import PartialFitConfig
from nightfit.places import Check, notify_checks, source_check, store_checks
from nightfit.sources.base import from_environment
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


def examine(config_path: Path) -> list[Check]:
    """Look at everything that a night needs; nothing is changed."""
    return [_python(), *map(_package, PACKAGES), _devices(), *_config(config_path)]


def _python() -> Check:
    return Check("python", sys.version_info >= (3, 11), f"{platform.python_version()}, nightfit {__version__}")


def _package(name: str) -> Check:
    try:
        found, least = version(name), _least(name)
    except PackageNotFoundError:
        return Check(name, False, "not installed; install nightfit again, with its constraints file")
    if _numbers(found) < _numbers(least):
        return Check(name, False, f"{found} is older than {least}; pip install -U '{name}>={least}'")
    return Check(name, True, found)


def _least(name: str) -> str:
    """Return the oldest version of a package that nightfit works with, as its own metadata has it; "" if unknown."""
    try:
        needed = requires("nightfit") or []
    except PackageNotFoundError:
        return ""
    found = (re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,[^;]*)?", text) for text in needed)
    return next((match[2] for match in found if match and match[1].lower() == name.lower()), "")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])]


def _extras(config: Config) -> list[Check]:
    """Look for the library that keeps estimators of one's own; those of sources are looked for with them."""
    own = [
        name for name, m in config.models.items() if isinstance(m.learner, PartialFitConfig) and m.learner.is_imported
    ]
    if not own or find_spec("skops"):
        return []
    return [
        Check(f"model {own[0]}", False, "skops keeps it, however it is not installed; pip install 'nightfit[skops]'")
    ]


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
        *(source_check(source, config) for source in config.sources),
        *_extras(config),
        *notify_checks(config.notify, config.root),
        *_tracking(config),
        *store_checks(config),
        *_models(config),
    ]


def _tracking(config: Config) -> list[Check]:
    if not config.mlflow.uri:
        return []
    try:
        from_environment(config.mlflow.uri, "mlflow.uri")
    except ConfigError as error:
        return [Check("mlflow", False, str(error))]
    todo = "[mlflow] needs MLflow, however it is not installed; pip install 'nightfit[mlflow]'"
    there = find_spec("mlflow") is not None
    return [Check("mlflow", there, "is installed; whether it answers is not asked" if there else todo)]


def _models(config: Config) -> list[Check]:
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
