"""A table or a query of a database, opened for reading only, through SQLAlchemy.

What goes wrong becomes one of our errors, in one line that never holds a password.
"""

from __future__ import annotations

import difflib
import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy import exc

from nightfit.errors import ConfigError, DataError, NightfitError, TryAgainError
from nightfit.sources.base import CHUNK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_SINGLE = {"postgresql": 700, "mysql": 4, "mariadb": 4}
"""What drivers call a float of 4 bytes, by the dialect: the oid in pg_type, the protocol's number of FLOAT."""


@dataclass(frozen=True)
class Rows:
    """Where rows are: a table or a query of a database; `label` is what messages call it."""

    label: str
    url: sa.URL
    table: str | None
    query: str | None

    def __post_init__(self) -> None:
        if (self.table is None) == (self.query is None):
            raise ConfigError(f"{self.label} must have a table or a query, however it has both or none; keep one")

    def missing(self) -> str | None:
        """Say that the SQLite file is not there, if so."""
        path = _sqlite_path(self.url)
        if path is None or path.exists():
            return None
        return f"the database of {self.label} must exist, however {path} is not there"

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Connect, to see each statement's own time; what goes wrong inside becomes one of our errors."""
        if missing := self.missing():
            raise DataError(f"{missing}; mend the path, or say optional = true")
        with connected(self.url, self.label, "readable") as connection:
            yield _for_reading(connection)

    def relation(self, connection: sa.Connection) -> tuple[sa.FromClause, list[str]]:
        """Find what to select from, and the names of its columns."""
        relation: sa.FromClause = (
            self._subquery(self.query) if self.query else self._named_table(connection, self.table or "")
        )
        names = list(connection.execute(select_all(relation).where(sa.false())).keys())
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise ConfigError(
                f"the columns of {self.label} must have different names, however {twice[0]!r} is met "
                "more than once; rename one of them in the query"
            )
        return relation, names

    def inexact(self, connection: sa.Connection, relation: sa.FromClause) -> set[str]:
        """Name the columns of 4-byte floats: none of their values equals the 8-byte one that the driver makes of it."""
        code = _SINGLE.get(connection.dialect.name)
        result = connection.execute(select_all(relation).where(sa.false()))
        return {column[0] for column in cast("Any", result.cursor).description if column[1] == code} if code else set()

    def primary_key(self, connection: sa.Connection) -> tuple[str, ...]:
        """Name the columns of the table's primary key, none where they cannot put all rows in order."""
        if self.table is None:
            return ()
        relation = self._named_table(connection, self.table)
        names = sa.inspect(connection).get_pk_constraint(relation.name, relation.schema)["constrained_columns"]
        lacks = [sa.column(name).is_(None) for name in names]  # SQLite lets a primary key be null
        n_lacking = sa.select(sa.func.count()).select_from(relation).where(sa.or_(sa.false(), *lacks))
        if set(names) & self.inexact(connection, relation) or connection.execute(n_lacking).scalar_one():
            return ()
        return tuple(names)

    def _subquery(self, query: str) -> sa.FromClause:
        bare = query.strip().rstrip(";")
        escaped = bare.replace(":", r"\:")  # a colon would start a bound parameter
        return sa.text(f"{escaped}\n").columns().subquery("nightfit_rows")

    def _named_table(self, connection: sa.Connection, name: str) -> sa.TableClause:
        if (found := find_table(connection, name)) is not None:
            return found
        inspector = sa.inspect(connection)
        names = sorted([*inspector.get_table_names(), *inspector.get_view_names()])
        raise ConfigError(
            f"the table of {self.label} must be one of its database ({listed(names)}), however {name!r} is "
            f"not{nearest(name, names)}"
        )


@contextmanager
def connected(url: sa.URL, label: str, must_be: Literal["readable", "writable"]) -> Iterator[sa.Connection]:
    """Connect; what goes wrong inside becomes one of our errors, which calls the place by its label."""
    try:
        engine = _engine(url)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (exc.SQLAlchemyError, sqlite3.Error, ImportError) as error:
        raise _translated(error, label, url, must_be) from None


def tables_at(url: str, root: Path) -> list[str]:
    """Name the tables and views of a database."""
    with Rows("the input", parse_url(url, root), None, "").connected() as connection:
        inspector = sa.inspect(connection)
        return sorted({*inspector.get_table_names(), *inspector.get_view_names()})


def find_table(connection: sa.Connection, name: str) -> sa.TableClause | None:
    """Find a table or a view by its name, or by its schema's and its own with a dot between."""
    schema, _, bare = name.partition(".")
    for schema_or_none, table in ((None, name), (schema, bare)):
        if table and sa.inspect(connection).has_table(table, schema=schema_or_none):
            return sa.table(table, schema=schema_or_none)
    return None


def select_all(relation: sa.FromClause) -> sa.Select[Any]:
    """Select every column, with the values that the driver gives."""
    return sa.select(sa.text("*")).select_from(relation)


def chunk_rows() -> int:
    """Return how many rows a part has, for readers that make their own parts."""
    return CHUNK_ROWS


def stream(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield a statement's rows in parts of `CHUNK_ROWS`, so that memory stays flat."""
    with connection.execute(statement, execution_options={"yield_per": CHUNK_ROWS}) as result:
        unread: Any = getattr(result.cursor, "_result", None)
        try:
            yield from result.partitions()
        except BaseException:
            if hasattr(unread, "unbuffered_active"):  # pymysql would fetch all other rows before it lets go
                unread.unbuffered_active = False
                connection.invalidate()
            raise


def in_one_snapshot(connection: sa.Connection) -> None:
    """Let every later statement see the same rows, where the database would not do so by itself."""
    connection.rollback()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    elif connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    elif connection.dialect.name in {"mysql", "mariadb"}:
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def parse_url(url: str, root: Path, *, writable: bool = False) -> sa.URL:
    """Parse a URL; an SQLite file becomes absolute, and read-only unless it is to be written, and made."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        rule = "the url of a database must look like dialect://user:password@host/database"
        raise ConfigError(f"{rule}, however it does not; mend it") from None
    if "@" in (parsed.host or ""):  # its part before the @ is the rest of a password, which no message may show
        raise ConfigError(
            "an @ within a url's user or password must be %40, however one is not; write @ : / ? as %40 %3A %2F %3F"
        )
    if parsed.get_backend_name() != "sqlite":
        return parsed
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("an SQLite database must be a file, however its url names none; say sqlite:///path")
    path = root.absolute() / unquote(str(parsed.database).removeprefix("file:"))
    return parsed.set(database=f"file:{quote(str(path))}").update_query_dict(
        {"mode": "rwc" if writable else "ro", "uri": "true"}
    )


def _sqlite_path(url: sa.URL) -> Path | None:
    """Give the file of an SQLite URL, as `_url` made it."""
    is_sqlite = url.get_backend_name() == "sqlite"
    return Path(unquote(str(url.database).removeprefix("file:"))) if is_sqlite else None


_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
_PATIENCE: dict[str, dict[str, int]] = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": {"connect_timeout": 10, "read_timeout": 600, "write_timeout": 60},
}
"""By driver, how long a server may be silent that has vanished; a long query is none, save for MySQL's."""


_NO_RIGHT, _NO_RIGHTS = "42501", (1044, 1142, 1143)
"""What PostgreSQL, and what MySQL calls a user without the right to read there."""

_OURS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql"), "mariadb": ("pymysql", "mysql")}
"""By database, the driver that an extra of nightfit brings, and the extra."""


def _engine(url: sa.URL) -> sa.Engine:
    patience = _PATIENCE.get(url.get_driver_name(), {})
    missing = {name: value for name, value in patience.items() if name not in url.query}
    if "read_timeout" not in missing:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=missing)
    # pymysql's connect_timeout ends with the TCP connection, and what answers there may be no MySQL that ever greets
    engine = sa.create_engine(
        url, poolclass=sa.NullPool, connect_args={**missing, "read_timeout": missing["connect_timeout"]}
    )
    sa.event.listen(engine, "connect", lambda made, _: setattr(made, "_read_timeout", missing["read_timeout"]))
    return engine


def _for_reading(connection: sa.Connection) -> sa.Connection:
    if connection.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=True)
    return connection


def _translated(error: Exception, label: str, url: sa.URL, must_be: str) -> NightfitError:
    """Turn what SQLAlchemy raised into one line that never holds a password."""
    cause = getattr(error, "orig", None) or error
    fact = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    for secret in filter(None, (url.password, *(value for name, value in url.query.items() if "pass" in name))):
        fact = fact.replace(str(secret), "***")
    where = _sqlite_path(url) or url.set(query={}).render_as_string(hide_password=True)
    kind, advice = _kind(error, cause, url)
    return kind(f"{label} must be {must_be} at {where}, however: {fact}; {advice}")


def _kind(error: Exception, cause: BaseException, url: sa.URL) -> tuple[type[NightfitError], str]:
    if isinstance(cause, sqlite3.Error):
        return _sqlite_kind(cause)
    if isinstance(error, ImportError):
        return ConfigError, _driver(url)
    if isinstance(error, exc.DBAPIError):
        return _server_kind(error, cause)
    return ConfigError, "mend the url, the table or the query"


def _server_kind(error: exc.DBAPIError, cause: BaseException) -> tuple[type[NightfitError], str]:
    if getattr(cause, "sqlstate", None) == _NO_RIGHT or next(iter(cause.args), None) in _NO_RIGHTS:
        return ConfigError, "let the url's user read it (GRANT SELECT)"
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return TryAgainError, "see that it is up, and that host, port, database, user and password are right in the url"
    if isinstance(error, exc.DatabaseError) and not isinstance(error, exc.ProgrammingError):
        return DataError, "mend the data"
    return ConfigError, "mend the url, the table or the query"


def _driver(url: sa.URL) -> str:
    """Say how to get a driver: ours, where there is one for the database."""
    backend = url.get_backend_name()
    if backend not in _OURS:
        return "install the driver that the url names"
    driver, extra = _OURS[backend]
    install = f"pip install 'nightfit[{extra}]'"
    return install if url.get_driver_name() == driver else f"say {backend}+{driver}://, and {install}"


def _sqlite_kind(cause: sqlite3.Error) -> tuple[type[NightfitError], str]:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TryAgainError, "wait for its writer to finish"
    if code == sqlite3.SQLITE_ERROR:
        return ConfigError, "mend the query"
    return DataError, "mend the database file, or its permissions"


def nearest(name: str, names: Sequence[str]) -> str:
    """End a message with the name that was probably meant."""
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else "; name one of them"


def listed(names: Sequence[Any]) -> str:
    """Put names or values into a message."""
    return ", ".join(map(repr, names)) or "there is none"
