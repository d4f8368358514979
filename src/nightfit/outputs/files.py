"""Predictions as a file that takes its name when it is whole, or as CSV on standard output and through pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from nightfit.atomic import is_device, writing_to
from nightfit.disk import sync_folder
from nightfit.jsontypes import Json
from nightfit.outputs.base import Output, Progress
from nightfit.outputs.formats import Csv, Format, Parquet, write_csv
from nightfit.outputs.pieces import pieces_in

Note = Callable[[str], None]


class Flowing:
    """CSV that flows away as it is written: nothing can be taken back, or gone on with."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - pyarrow's, or Python's
        self._file, self.progress = file, Progress()

    def restart(self) -> None:
        """See `Output`."""

    def write(self, table: Any, progress: Progress) -> None:  # noqa: ANN401
        """See `Output`."""
        write_csv(table, self._file, header=not self.progress.columns)
        self.progress = progress

    def finish(self) -> None:
        """See `Output`."""


@contextmanager
def to_stdout() -> Iterator[Output]:
    """Give standard output."""
    sys.stdout.flush()
    yield Flowing(pa.PythonFile(sys.stdout.buffer, mode="w"))
    sys.stdout.flush()


@contextmanager
def to_file(path: str, what: Mapping[str, Json], note: Note) -> Iterator[Output]:
    """Give a file; Parquet if its name ends so, else CSV. A pipe or a device is written to, and not replaced.

    Raises `DataError` for a name that cannot be written.
    """
    with writing_to(Path(path)) as target:
        if is_device(target):
            with target.open("wb") as file:
                yield Flowing(file)
            return
        kind = Parquet() if target.suffix.lower() in {".parquet", ".pq"} else Csv()
        folder = target.with_name(f".{target.name[:200]}.parts")
        with pieces_in(folder, kind, partial(_to_name, kind, target), what, note) as pieces:
            yield pieces


def _to_name(kind: Format, target: Path, pieces: list[Path]) -> None:
    whole = kind.join(pieces)
    with whole.open("rb") as file:
        os.fsync(file.fileno())
    whole.replace(target)
    sync_folder(target.parent)
