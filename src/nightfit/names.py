"""What the things in a store are called, and what a name in a lineage's folder stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from nightfit.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What pipelines and models may be called: they are folder names, URL parts and labels of metrics."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

STAGING = ".staging"
SEGMENTS = "segments"

Mark: TypeAlias = Literal["pruned", "erased"]
MARKS: tuple[Mark, ...] = ("pruned", "erased")
"""Empty files that say that files of a version were deleted on purpose."""

_VERSION = re.compile(r"([0-9]{6,})(\.quarantined(?:-[0-9]+)?)?")


@dataclass(frozen=True)
class Item:
    """A name in a lineage's folder and what it is; only versions and quarantined ones have a number."""

    name: str
    kind: Literal["version", "quarantined", "segments", "foreign"]
    version: int = 0


def is_import_path(text: str) -> bool:
    """Say whether a text is spelled as what Python code is imported by.

    >>> is_import_path("package.module:Class"), is_import_path("hgb:30")
    (True, False)
    """
    return _IMPORT_PATH.fullmatch(text) is not None


def item_of(entry: os.DirEntry[str]) -> Item:
    """Say what an entry of a lineage's folder is."""
    folder, number = entry.is_dir(follow_symlinks=False), number_of(entry.name)
    if folder and number:
        return Item(entry.name, "version" if is_version(entry.name) else "quarantined", number)
    return Item(entry.name, "segments" if folder and entry.name == SEGMENTS else "foreign")


def number_of(name: str) -> int:
    """Return the number of a version, or of one that was set aside; 0 for what is named like neither."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match and match[1] == f"{int(match[1]):06d}" else 0


def is_version(name: str) -> bool:
    """Say whether a name is a version's that was not set aside."""
    return name.isdigit() and number_of(name) > 0


def legal(name: str, what: str) -> str:
    """Return a name that can be one; raises `ConfigError`. `what` is what messages call its bearer."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{what}'s name must be 1 to 64 of a-z, 0-9, '_', '-', no sign first, however it is {name!r}")
    return name


def is_record(name: str) -> bool:
    """Say whether a file tells of a night and is no part of the state."""
    return name.endswith(".jsonl")


def ranges(versions: Iterable[int]) -> str:
    """Spell ascending numbers shortly: 1 to 3, 5."""
    runs: list[list[int]] = []
    for version in versions:
        if runs and version == runs[-1][1] + 1:
            runs[-1][1] = version
        else:
            runs.append([version, version])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs) or "none"
