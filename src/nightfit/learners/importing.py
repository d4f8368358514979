"""Code of one's own, by its import path: `package.module:name`. Only what a config, or a person, names is imported."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb
from typing import Any

from nightfit.errors import ConfigError, NightfitError

EXTRAS = {"river": "river"}
"""Libraries whose classes are meant to be named, and the extra that brings each."""

OF_RIVER = "learn_one"
"""What River's models learn by."""


def imported(path: str) -> Any:  # noqa: ANN401 - anything can be imported
    """Return what an import path names.

    Modules of the present folder are found, after all that are installed. Raises `ConfigError` if it cannot be
    imported.
    """
    module, _, names = path.partition(":")
    _look_here()
    try:
        return reduce(getattr, names.split("."), import_module(module))
    except ModuleNotFoundError as error:
        raise ConfigError(f"'{path}' must be importable, however {_not_found(error, module)}") from None
    except Exception as error:
        raise ConfigError(f"'{path}' must be importable, however {_told(error)}") from error


def is_estimator_class(path: str) -> bool:
    """Say whether a path names a class that learns by `partial_fit`, or one of River's; else it makes a module.

    Raises `ConfigError` if it names neither.
    """
    found = imported(path)
    if any(hasattr(found, name) for name in ("partial_fit", OF_RIVER)):
        return True
    if not callable(found):
        raise ConfigError(
            f"a model must be a class with partial_fit, or a function that returns an nn.Module, however '{path}' is a "
            f"{type(found).__name__}; name another"
        )
    return False


def check_named(kept: object, path: str, where: str) -> None:
    """Raise `ConfigError` unless the config names the code that a checkpoint needs: no file may choose what runs."""
    if kept != path:
        wanted = f"names '{path}'" if path else "names no code"
        raise ConfigError(
            f"a lineage keeps the code that it learns by, however {where} needs '{kept}' and the config {wanted}; set "
            "it back, or give the new model another name"
        )


def digest(path: str) -> str:
    """Return the SHA-256 of the file that an import path leads to; empty where there is none, or no path."""
    _look_here()
    spec = None
    with suppress(ImportError):  # who imports it will say so
        spec = find_spec(path.partition(":")[0]) if path else None
    origin = Path(spec.origin) if spec and spec.origin else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin and origin.is_file() else ""


@contextmanager
def their_code(path: str) -> Iterator[None]:
    """Run code of theirs: what it raises is a `ConfigError` that names its place."""
    try:
        yield
    except (NightfitError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"'{path}' must work, however it raised {_told(error)}") from error


def _look_here() -> None:
    """Let modules of the present folder be found, last: none may take the place of one that is installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _not_found(error: ModuleNotFoundError, module: str) -> str:
    name = error.name or module
    if extra := EXTRAS.get(name.partition(".")[0]):
        return f"{extra} is not installed; pip install 'nightfit[{extra}]'"
    if module == name or module.startswith(f"{name}."):
        return (
            f"there is no module '{name}' in {Path.cwd()} or among what is installed; mend it, or run from its folder"
        )
    return f"it needs '{name}', which is not installed"


def _told(error: BaseException) -> str:
    """Return an error in words, with the innermost line that raised it."""
    places = extract_tb(error.__traceback__)
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {error}{where}"
