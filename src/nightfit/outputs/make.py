"""From what the command line says to the output; only the libraries of its kind are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from nightfit.errors import UsageError

if TYPE_CHECKING:
    from nightfit.jsontypes import Json
    from nightfit.outputs.base import Output


def output_to(
    name: str | None, table: str, what: Mapping[str, Json], note: Callable[[str], None], progress: Callable[[str], None]
) -> AbstractContextManager[Output]:
    """Return the output of this name: a file, a database's URL (with a table), or None for standard output.

    `what` says what is written; an earlier run that wrote the same and was cut off is gone on with. `note` takes
    sentences for a person, `progress` what is being done. Raises `UsageError` for a URL without a table.
    """
    is_url = name is not None and "://" in name
    if is_url != bool(table):
        raise UsageError(
            f"a database and --output-table go together, however {'only the table' if table else 'there is no table'} "
            "is named; name both or a file"
        )
    if name is not None and is_url:
        from nightfit.outputs.tables import to_table

        return to_table(name, table, what, note, lambda n: progress(f"writing to {table}: {n:,} rows"))
    from nightfit.outputs.files import to_file, to_stdout

    return to_stdout() if name is None else to_file(name, what, note)
