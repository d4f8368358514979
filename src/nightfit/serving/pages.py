"""The server's pages, from files beside this one: nothing on them comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def page(name: str) -> bytes:
    """Return a file of the package."""
    return (files("nightfit.serving") / "static" / name).read_bytes()
