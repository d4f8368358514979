"""From a url to the kind of source, and from a config to the source; only the libraries of its kind are imported.

A kind is known by the scheme of its urls. Other packages may bring kinds of their own as entry points of the group
`nightfit.sources`: the entry point's name is the scheme, what it names is a `SourceKind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from nightfit.errors import ConfigError
from nightfit.sources.base import Source, SourceConfig, Surroundings, from_environment
from nightfit.sources.configs import FileConfig, HttpConfig, KafkaConfig, NatsConfig, RedisConfig, SqlConfig

GROUP = "nightfit.sources"
"""The group of entry points under which other packages bring their kinds of source."""

_EXTRAS = {"kafka", "redis", "nats"}
"""Schemes whose library nightfit does not bring by itself; the extra of that name does."""

_DATABASES = {"sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql"}


@dataclass(frozen=True)
class SourceKind:
    """What a scheme stands for: the dataclass of its `[[sources]]` table, and what makes a source of one."""

    config: type[SourceConfig]
    make: Callable[[Any, Surroundings], Source]


def kind_of(url: str) -> SourceKind:
    """Return the kind of a url: by its scheme; a path has none.

    Raises `ConfigError` for a scheme that nobody knows, and for an entry point that names no `SourceKind`.
    """
    scheme = url.partition("://")[0].partition("+")[0] if "://" in url else ""
    if scheme in _KINDS:
        return _KINDS[scheme]
    found = () if scheme in _DATABASES else entry_points(group=GROUP, name=scheme)
    for point in found:
        kind = point.load()
        if not isinstance(kind, SourceKind):
            raise ConfigError(
                f"an entry point of {GROUP} must name a SourceKind, however {point.name!r} names {kind!r}; "
                "mend the package that brings it"
            )
        return kind
    if scheme not in _DATABASES:
        _check_dialect(scheme)
    return SourceKind(SqlConfig, _database)


def _check_dialect(scheme: str) -> None:
    """Raise `ConfigError` for a scheme that is neither ours nor one of a dialect that SQLAlchemy was given."""
    if scheme in {point.name.partition(".")[0] for point in entry_points(group="sqlalchemy.dialects")}:
        return
    known = sorted({*_KINDS, *_DATABASES} - {""})
    near = get_close_matches(scheme, known, 1)
    raise ConfigError(
        f"a source's url must begin with a scheme that is known ({', '.join(known)}), however it is {scheme}://; "
        + (f"did you mean {near[0]}://?" if near else "mend it, or install the package that brings it")
    )


def make_source(config: SourceConfig, surroundings: Surroundings) -> Source:
    """Return the source that a `[[sources]]` table describes; "${NAME}" in its url is taken from the environment.

    Raises `ConfigError` for a database source that nothing orders (neither a cursor nor a key), and for a library that
    the kind needs and that is not installed.
    """
    try:
        return kind_of(config.url).make(config, surroundings)
    except ModuleNotFoundError as error:
        extra = config.url.partition("://")[0].removesuffix("s")
        todo = f"pip install 'nightfit[{extra}]'" if extra in _EXTRAS else "install it"
        raise ConfigError(f"source {config.name!r} needs {error.name}, however it is not installed; {todo}") from None


def _url(config: SourceConfig) -> str:
    return from_environment(config.url, f"the url of source {config.name!r}")


def _file(config: FileConfig, around: Surroundings) -> Source:
    from nightfit.sources.files import FileSource

    return FileSource(
        name=config.name,
        path=config.url,
        root=around.root,
        optional=config.optional,
        rotated=config.rotated,
        on_gap=config.on_gap,
        dialect=config.dialect,
    )


def _database(config: SqlConfig, around: Surroundings) -> Source:
    from nightfit.sources.sql import SqlSource

    cursor = config.cursor_columns or around.key
    if not cursor:
        raise ConfigError(
            f"a database source needs a cursor column that grows, however {config.name} has none; set cursor (or key)"
        )
    return SqlSource(
        name=config.name,
        url=_url(config),
        table=config.table or None,
        query=config.query or None,
        cursor=cursor,
        key=around.key,
        target=around.target,
        root=around.root,
        optional=config.optional,
        on_gap=config.on_gap,
        overlap_rows=config.overlap_rows,
    )


def _http(config: HttpConfig, _: Surroundings) -> Source:
    from nightfit.sources.http import HttpSource

    return HttpSource(config, url=_url(config))


def _kafka(config: KafkaConfig, _: Surroundings) -> Source:
    from nightfit.sources.kafka import KafkaSource

    return KafkaSource(config, url=_url(config))


def _redis(config: RedisConfig, _: Surroundings) -> Source:
    from nightfit.sources.redis import RedisSource

    return RedisSource(config, url=_url(config))


def _nats(config: NatsConfig, around: Surroundings) -> Source:
    from nightfit.sources.nats import NatsSource

    return NatsSource(config, url=_url(config), is_look=around.is_look)


_KINDS = {
    "": SourceKind(FileConfig, _file),
    "http": SourceKind(HttpConfig, _http),
    "https": SourceKind(HttpConfig, _http),
    "kafka": SourceKind(KafkaConfig, _kafka),
    "redis": SourceKind(RedisConfig, _redis),
    "rediss": SourceKind(RedisConfig, _redis),
    "nats": SourceKind(NatsConfig, _nats),
    "tls": SourceKind(NatsConfig, _nats),
}
