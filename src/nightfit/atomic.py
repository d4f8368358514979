"""A file that a command was asked to write: it appears under its name when it is whole, or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nightfit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextmanager
def writing_to(output: Path) -> Iterator[Path]:
    """Give the path that an output's name leads to: a link stays one.

    Raises `DataError` where it is a folder, and for whatever the system refuses inside.
    """
    try:
        target = output.resolve()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield target
    except OSError as error:
        fact = error.strerror or str(error)
        raise DataError(f"the output must be writable, however {output}: {fact}; name another") from None


def is_device(target: Path) -> bool:
    """Say whether a pipe or a device has this name: it is written to, and not replaced."""
    return target.exists() and not target.is_file()


@contextmanager
def whole_file(output: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour that takes the name at the end, durably; a device is written as it is.

    Raises `DataError` where it cannot be written.
    """
    with writing_to(output) as target:
        part = target if is_device(target) else target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                if part != target:
                    os.fsync(file.fileno())
                    part.replace(target)
        finally:
            if part != target:
                with suppress(OSError):
                    part.unlink()
