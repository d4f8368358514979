"""Any table or query of a database as a source.

Rows come in keyset order: by the cursor columns, then by the key columns. The cursor is the position of the
last row read and how many rows were read at that position, so that rows which share one are neither lost nor
read twice. Values are taken as the driver gives them; names are quoted by SQLAlchemy and values are bound,
never put into the text.

A transaction that is still open may commit a smaller position later. On tables of PostgreSQL we do not read beyond
what can still come (`nightfit.sources.latecommits`), elsewhere a window before the cursor is read again
(`nightfit.sources.overlap`); SQLite's writers take turns, so there it cannot happen while values rise.

Texts that a collation takes for equal, such as 'a' and 'A', must not share a position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import sqlalchemy as sa

from nightfit.errors import ConfigError
from nightfit.sources.base import Chunk
from nightfit.sources.database import Rows, in_one_snapshot, listed, nearest, parse_url, select_all, stream
from nightfit.sources.keyset import Keyset
from nightfit.sources.latecommits import Limit, find_limit, tables_to_watch
from nightfit.sources.lookup import look_up
from nightfit.sources.sqlblocks import block_of
from nightfit.sources.sqlmarks import Mark
from nightfit.sources.sqlreading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from nightfit.sources.base import Cursor


class SqlSource:
    """A table, or a query, read in the order of `cursor`, then `key`.

    `url` is SQLAlchemy's; a relative SQLite path starts at `root`, and its file is opened read-only and never
    made. With `optional`, an SQLite file that is not there is noted instead of an error. `table` may say
    `schema.table`. Columns of exact decimals become float64, those of cursor and key text.

    >>> from pathlib import Path
    >>> source = SqlSource(name="new", url="sqlite:///x.db", table="t", cursor=("ID",), root=Path("/data"))
    >>> source.name
    'new'
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        table: str | None = None,
        query: str | None = None,
        cursor: tuple[str, ...],
        key: tuple[str, ...] = (),
        target: str = "",
        root: Path,
        optional: bool = False,
        on_gap: Literal["stop", "skip"] = "stop",
        overlap_rows: int = 1_000,
    ) -> None:
        if not cursor:
            raise ConfigError(f"source {name!r} must have a cursor column, however none is named; say cursor = ...")
        self.name = name
        self.cursor = cursor
        self.key = key
        self.target = target
        self.optional = optional
        self.on_gap = on_gap
        self.overlap_rows = overlap_rows
        self._rows = Rows(f"source {name!r}", parse_url(url, root), table, query)

    @property
    def order(self) -> tuple[str, ...]:
        """The columns that rows are ordered by."""
        return tuple(dict.fromkeys((*self.cursor, *self.key)))

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:
        """Yield what lies after the cursor; see `Source.read`.

        Raises what `Source.read` does, `GapError` where the table ends before the cursor, and `DataError` where two
        rows share a position and there is no key.
        """
        if self.optional and (missing := self._rows.missing()):
            note(f"{missing}; nothing was read, since it is optional")
            return
        with self._rows.connected() as connection:
            relation, names = self._rows.relation(connection)
            self._check_order(names)
            self._check_exact(self._rows.inexact(connection, relation))
            keyset, mark = Keyset(relation, self.order, len(self.cursor)), Mark.from_json(after)
            limit = _limit(connection, keyset, mark)
            in_one_snapshot(connection)
            reading = Reading(
                self.name,
                self._rows.label,
                connection,
                keyset,
                has_key=bool(self.key),
                names=names,
                limit=limit,
                on_gap=self.on_gap,
                overlap_rows=self.overlap_rows,
                note=note,
            )
            yield from reading.chunks(mark)

    def look_up(self, keys: Sequence[tuple[str, ...]]) -> Iterator[pa.Table]:
        """Yield the rows that have one of the keys and a target by now; see `LookingUp.look_up`.

        A table without the key's columns or the target has none.
        """
        if not self.key or not keys or (self.optional and self._rows.missing()):
            return
        with self._rows.connected() as connection:
            relation, names = self._rows.relation(connection)
            if {*self.key, self.target} <= set(names):
                in_one_snapshot(connection)
                yield from look_up(connection, relation, names, key=self.key, target=self.target, keys=keys)

    def _check_exact(self, inexact: set[str]) -> None:
        """Stop at a position that no row would be found at again, nor left out at."""
        for name in self.order:
            if name in inexact:
                raise ConfigError(
                    f"cursor and key of {self._rows.label} must be compared exactly, however {name!r} is a float of 4 "
                    "bytes; cast it to double precision in a query, or name another column"
                )

    def _check_order(self, names: list[str]) -> None:
        for role, wanted in (("cursor", self.cursor), ("key", self.key)):
            for name in wanted:
                if name not in names:
                    raise ConfigError(
                        f"the {role} of {self._rows.label} must be one of its columns ({listed(names)}), "
                        f"however {name!r} is not{nearest(name, names)}"
                    )


def read_table(url: str, *, table: str | None = None, query: str | None = None, root: Path) -> Iterator[Chunk]:
    """Yield all rows of a table or a query, in no particular order.

    One without rows yields one empty chunk, which has its columns. Raises what `SqlSource.read` does.
    """
    rows = Rows("the input", parse_url(url, root), table, query)
    with rows.connected() as connection:
        in_one_snapshot(connection)
        relation, names = rows.relation(connection)
        n_read = 0
        for part in stream(connection, select_all(relation)):
            yield _unordered(names, part, n_read)
            n_read += len(part)
        if not n_read:
            yield _unordered(names, [], 0)


def _unordered(names: list[str], rows: Sequence[sa.Row[Any]], n_before: int) -> Chunk:
    return Chunk(
        place="the input",
        table=block_of(names, names, rows).table,
        rows=np.arange(n_before, n_before + len(rows)),
        generation=0,
        cursor_at=lambda i: {"rows": n_before + i},
    )


def _limit(connection: sa.Connection, keyset: Keyset, mark: Mark) -> Limit | None:
    """Find how far a table of PostgreSQL can be read; None where nothing tells."""
    if connection.dialect.name != "postgresql" or not isinstance(keyset.relation, sa.TableClause):
        return None
    tables = tables_to_watch(connection, keyset.relation)
    return find_limit(connection, keyset, tables, mark.fence) if tables else None
