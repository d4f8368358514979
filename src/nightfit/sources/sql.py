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

from typing import TYPE_CHECKING, Literal

import numpy as np
import sqlalchemy as sa

from nightfit.errors import ConfigError, GapError
from nightfit.sources.base import Chunk
from nightfit.sources.database import Rows, in_one_snapshot, listed, nearest, parse_url, select_all, stream
from nightfit.sources.keyset import Keyset
from nightfit.sources.latecommits import Limit, find_limit, tables_to_watch
from nightfit.sources.lookup import look_up
from nightfit.sources.sqlblocks import Block, block_of
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


def read_table(
    url: str, *, table: str | None = None, query: str | None = None, root: Path, after: Cursor | None = None
) -> Iterator[Chunk]:
    """Yield the rows of a table or a query after a cursor, in the order of the table's primary key, if it has one.

    One without rows yields one empty chunk, which has its columns. Raises what `SqlSource.read` does, and `GapError`
    where the rows up to the cursor are not as many as were read: where some have come or gone since, or where nothing
    orders them.
    """
    rows = Rows("the input", parse_url(url, root), table, query)
    with rows.connected() as connection:
        in_one_snapshot(connection)
        relation, names = rows.relation(connection)
        keyset = Keyset(relation, rows.primary_key(connection), 1)
        mark = Mark.from_json(after)
        if mark.rows and not _is_there(connection, keyset, mark):
            raise GapError("the rows of the input must stay while they are read, however some have changed; read anew")
        statement = keyset.rows(*([keyset.beyond(mark.after)] if mark.after else []))
        n_read = mark.rows
        for part in stream(connection, statement if keyset.order else select_all(relation)):
            yield _whole(block_of(names, keyset.order, part), names, n_read)
            n_read += len(part)
        if not n_read:
            yield _whole(block_of(names, keyset.order, []), names, 0)


def _is_there(connection: sa.Connection, keyset: Keyset, mark: Mark) -> bool:
    if mark.after is None or len(mark.after) != len(keyset.order):
        return False
    return bool(connection.execute(keyset.count(keyset.not_beyond(mark.after))).scalar_one() == mark.rows)


def _whole(block: Block, names: Sequence[str], n_before: int) -> Chunk:
    def cursor_at(i: int) -> Cursor:
        return Mark(block.position(i - 1) if block.order and i else None, n_before + i).to_json()

    return Chunk(
        place="the input",
        table=block.table.select(names),
        rows=np.arange(n_before, n_before + len(block)),
        generation=0,
        cursor_at=cursor_at,
    )


def _limit(connection: sa.Connection, keyset: Keyset, mark: Mark) -> Limit | None:
    """Find how far a table of PostgreSQL can be read; None where nothing tells."""
    if connection.dialect.name != "postgresql" or not isinstance(keyset.relation, sa.TableClause):
        return None
    tables = tables_to_watch(connection, keyset.relation)
    return find_limit(connection, keyset, tables, mark.fence) if tables else None
