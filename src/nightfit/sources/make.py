"""From a source's config to the source; only the libraries of its kind are imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit.errors import ConfigError
from nightfit.sources.base import Source

if TYPE_CHECKING:
    from nightfit.sources.base import SourceConfig


def make_source(config: SourceConfig, *, key: Sequence[str], root: Path) -> Source:
    """Return the source that a `[[sources]]` table describes.

    Raises `ConfigError` for a database source that nothing orders: neither a cursor nor a key.
    """
    if "://" not in config.url:
        from nightfit.sources.files import FileSource

        return FileSource(name=config.name, path=config.url, root=root, optional=config.optional)
    cursor = config.cursor_columns or tuple(key)
    if not cursor:
        raise ConfigError(
            f"a database source needs a cursor column that grows, however {config.name} has none; set cursor (or key)"
        )
    from nightfit.sources.sql import SqlSource

    return SqlSource(
        name=config.name,
        url=config.url,
        table=config.table or None,
        query=config.query or None,
        cursor=cursor,
        key=tuple(key),
        root=root,
        optional=config.optional,
    )
