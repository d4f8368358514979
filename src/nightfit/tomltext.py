"""Values as TOML spells them, for the texts that we write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(value: Any) -> str:  # noqa: ANN401 - whatever a config may hold
    r"""Return a value as TOML: a text, a number, true or false, a list or a table on one line.

    >>> print(toml(("a", 'b"')), toml({"x": 1.0, "y z": True}))
    ["a", "b\""] { x = 1.0, "y z" = true }
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{k if _BARE.fullmatch(k) else _text(k)} = {toml(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return str(value).lower()


def _text(text: str) -> str:
    """Return a TOML basic string, which is a JSON string whose odd characters are all escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
