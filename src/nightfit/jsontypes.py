"""The type of a JSON value, for cursors, manifests and everything else that is written down."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
