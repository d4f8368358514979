"""What every output promises: it takes tables in order, says where to go on, and is whole or not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nightfit.sources.base import Cursor


@dataclass(frozen=True)
class Progress:
    """How far a run has come: what was scored, and where the input goes on.

    `unreadable` rows hold a value of another kind and get no prediction; `example` shows the first. `columns` are
    the input's, once there were rows or a header.
    """

    rows: int = 0
    unreadable: int = 0
    example: str = ""
    columns: tuple[str, ...] = ()
    reached: Cursor | None = None


class Output(Protocol):
    """Something that predictions are written to.

    `progress` is how far an earlier run came whose rows are kept; a new one begins at `Progress()`.
    """

    progress: Progress

    def restart(self) -> None:
        """Throw away what an earlier run left."""
        ...

    def write(self, table: Any, progress: Progress) -> None:  # noqa: ANN401 - pyarrow ships no types
        """Take the rows that lead to this progress. The first table's columns are those of all."""
        ...

    def finish(self) -> None:
        """Show all that was written, at once, to whoever looks at the output."""
        ...
