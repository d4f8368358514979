"""The tables of keys in docs/config.md and docs/sources.md, made of the words beside the fields of the classes.

A table stands under a mark, `<!-- keys of CLASS -->`. Usage: python scripts/config_tables.py
"""

import re
from pathlib import Path

from nightfit.config import TABLES
from nightfit.described import Key, keys_of
from nightfit.explaining import KINDS_OF_SOURCES
from nightfit.learners.base import KINDS
from nightfit.sources.base import SourceConfig
from nightfit.tomltext import toml
from nightfit.toplevel import TopConfig

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "docs" / name for name in ("config.md", "sources.md")]
SOURCES = (SourceConfig, *KINDS_OF_SOURCES)
CLASSES = {cls.__name__: cls for cls in (TopConfig, *TABLES.values(), *KINDS.values(), *SOURCES)}
_MARKED = re.compile(r"(?<=<!-- keys of )(\w+) -->\n(?:\|.*\n)*")


def with_keys(page: str) -> str:
    """Return a page with every marked table as the code has it now."""
    return _MARKED.sub(lambda found: f"{found[1]} -->\n{_table(CLASSES[found[1]])}", page)


def _table(cls: type) -> str:
    shared = keys_of(SourceConfig) if cls in SOURCES and cls is not SourceConfig else {}
    rows = "".join(_row(key) for name, key in keys_of(cls).items() if name not in shared)
    return f"| key | default | means |\n|---|---|---|\n{rows}"


def _row(key: Key) -> str:
    default = "needed" if key.default is None else f"`{toml(key.default)}`"
    example = f" Example: `{toml(key.example)}`." if key.example != key.default else ""
    return f"| `{key.name}` | {default} | {key.text}{example} |\n"


def main() -> None:
    """Rewrite the tables of both pages."""
    for path in PAGES:
        path.write_text(with_keys(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
