"""How far a PostgreSQL table can be read so that no open transaction can still commit a row that lies before.

Writers draw positions (from a sequence, from a clock) in one order and commit in another. Neither a snapshot nor the
rows' transaction ids tell what is still to come: a transaction draws from a sequence before it has an id, and one
with a smaller id may draw after one with a larger. What does tell is the lock: every INSERT, UPDATE, MERGE and COPY
takes RowExclusiveLock on its table before it draws anything, and the transaction holds it until it has become visible
or is gone; what a savepoint locks is let go earlier only where its rows are gone with it. Hence:

1. A statement finds the last position M that is visible now. If positions are drawn in rising order, whatever will
   ever lie at or before M was drawn by now, by a transaction that is visible or holds the lock.
2. After that, `pg_locks` lists the transactions that hold it (U).
3. When all of U have ended, a new snapshot shows everything that will ever lie at or before M: the rows up to there
   are read from it. Transactions that began to write after step 2 do not matter, so short ones never keep us waiting.
4. If some of U do not end in time, the rows up to the M of an earlier reading are complete by the same argument if
   none of those that held the lock then still does. The cursor keeps that M and that U: a fence.

A prepared transaction may go by another name than before, so that any that does counts as one of U.

Limits: positions must be drawn in rising order while the lock is held. They are not where an application calls
nextval() long before its INSERT, a sequence has CACHE > 1, a column is filled from now() (the start of the
transaction) or from an application's clock, or rows are replicated from elsewhere. For cursors that are no whole
numbers there is a window of `overlap_rows` besides (`nightfit.sources.overlap`). On a standby, where the locks of the
primary cannot be seen, there is nothing but that window.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nightfit.sources.sqlmarks import Fence

if TYPE_CHECKING:
    from nightfit.sources.keyset import Keyset, Position

PATIENCE_S = 10.0
"""How long a reading waits for the transactions that were writing when it began."""
PAUSE_S = 0.01

_FAMILY = sa.text("""
    WITH RECURSIVE
    below(oid) AS (SELECT CAST(to_regclass(:name) AS oid) UNION
                   SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = below.oid),
    above(oid) AS (SELECT CAST(to_regclass(:name) AS oid) UNION
                   SELECT inhparent FROM pg_inherits JOIN above ON inhrelid = above.oid)
    SELECT CAST(oid AS bigint), CAST(relkind AS text), pg_is_in_recovery() FROM pg_class
    WHERE oid IN (SELECT oid FROM below UNION SELECT oid FROM above)
""")
"""A table, its partitions, and the tables whose partition it is: an INSERT may lock any of them first."""

_WRITERS = sa.text("""
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND CAST(relation AS bigint) = ANY(CAST(:tables AS bigint[]))
""")

_PREPARED = "-1/"
"""How the virtual ids of prepared transactions begin."""


@dataclass(frozen=True)
class Limit:
    """The last position that may be read (None: nothing may), and the fence for the next reading."""

    upto: Position | None
    fence: Fence | None = None


def tables_to_watch(connection: sa.Connection, relation: sa.TableClause) -> list[int] | None:
    """List the tables (oids) whose writers matter; None where locks do not tell: views, foreign tables, a standby."""
    name = connection.dialect.identifier_preparer.format_table(relation)
    family = connection.execute(_FAMILY, {"name": name}).all()
    if not family or any(kind not in {"r", "p"} or is_standby for _, kind, is_standby in family):
        return None
    return [oid for oid, _, _ in family]


def find_limit(connection: sa.Connection, keyset: Keyset, tables: list[int], fence: Fence | None) -> Limit:
    """Find how far a snapshot that is taken after this can be read, on a connection that commits by itself."""
    last = keyset.largest(connection)
    if last is None:
        return Limit(None)
    writers = still = _writers(connection, tables)
    deadline = time.monotonic() + PATIENCE_S
    while still and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        still = _still(writers, _writers(connection, tables))
    if not still:
        return Limit(last)
    # A fence whose row is gone may be of a database that was restored since, and draws its positions again.
    is_whole = fence and not _still(fence.writers, still) and keyset.largest(connection, keyset.at(fence.at))
    return Limit(fence.at if fence and is_whole else None, Fence(last, tuple(sorted(writers))))


def _writers(connection: sa.Connection, tables: list[int]) -> frozenset[str]:
    return frozenset(connection.execute(_WRITERS, {"tables": tables}).scalars())


def _still(before: frozenset[str] | tuple[str, ...], now: frozenset[str]) -> frozenset[str]:
    """Return those that write now and may have written before."""
    return frozenset(name for name in now if name in before or name.startswith(_PREPARED))
