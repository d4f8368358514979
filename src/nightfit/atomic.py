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
def whole_file(output: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour that takes the name at the end, durably; a device is written as it is.

    Raises `DataError` where it cannot be written.
    """
    target = output.resolve()  # a link stays one
    is_device = target.exists() and not target.is_file() and not target.is_dir()
    part = target if is_device else target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with part.open("wb") as file:
            yield file
            file.flush()
            if not is_device:
                os.fsync(file.fileno())
                part.replace(target)
    except OSError as error:
        fact = error.strerror or str(error)
        raise DataError(f"the output must be writable, however {output}: {fact}; name another with -o") from None
    finally:
        if part != target:
            with suppress(OSError):
                part.unlink()
