"""Which files a path, a folder or a glob names, and what the end of a file's name says about it."""

from __future__ import annotations

import glob
from pathlib import Path

CSV = (".csv", ".csv.gz")
JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
PARQUET = (".parquet",)
OF_A_FOLDER = (*CSV, *JSON_LINES, *PARQUET)
"""Ends of the names of a folder's files, of which capitals are the same."""
KINDS = "CSV (*.csv, *.csv.gz), JSON lines (*.jsonl, *.ndjson, also .gz) or Parquet (*.parquet)"
"""What files can be, for messages."""


def ends_with(path: Path, ends: tuple[str, ...]) -> bool:
    """Say whether a file's name ends like this, in capitals or not."""
    return path.name.lower().endswith(ends)


def find(pattern: str | Path, root: Path) -> list[Path] | None:
    """Return the files of a folder or a glob, in no order; None for the path of one file.

    Hidden files, and unfinished ones (`.tmp`, `.part`), are left out. Relative patterns start at `root`.
    Raises `OSError` for what cannot be listed.
    """
    path = root / pattern
    if path.is_dir():
        return [p for p in path.iterdir() if ends_with(p, OF_A_FOLDER) and _is_file(p)]
    if glob.has_magic(str(pattern)) and not path.exists():
        return matching(str(pattern), root)
    return None


def matching(pattern: str, root: Path) -> list[Path]:
    """Return the files that a glob matches, in no order, without hidden and unfinished ones."""
    # Path.glob takes no absolute pattern.
    found = [root / name for name in glob.glob(pattern, root_dir=root, recursive=True)]  # noqa: PTH207
    return [p for p in found if _is_file(p)]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not ends_with(path, (".tmp", ".part"))
