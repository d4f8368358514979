"""What each key of the config is, in the words beside its field: the one place that all that explains it reads.

A field's docstring says in its first sentence what the key is, then what else there is to know. It may begin with
"Needed:", where an empty default stands for none, and end with "Example: `...`."
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nightfit.tables import choices_of, default_of, fields_of, is_needed

_EXAMPLE = re.compile(r" Example: `(.*)`\.$")
_NEEDED = "Needed: "
_TYPES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts"}


@dataclass(frozen=True)
class Key:
    """A key of a table: its type in words, its default (None: it is needed), its legal words, and what it does."""

    name: str
    type: str
    default: Any
    legal: tuple[str, ...]
    text: str
    example: Any

    @property
    def brief(self) -> str:
        """What the key is, in few words."""
        return re.split(r"[.;](?: |$)", self.text)[0]

    @property
    def is_secret(self) -> bool:
        """Say whether its value may hold what nobody should read, and `${NAME}` of the environment for it."""
        return "${NAME}" in self.text or bool(re.search(r"password|secret|token|credential", self.name))


def keys_of(cls: type[Any]) -> Mapping[str, Key]:
    """Return the keys of a table's dataclass, by their names, in their order."""
    texts, words, hints = _texts(cls), choices_of(cls), get_type_hints(cls)
    found = {}
    for name, field in fields_of(cls).items():
        text = texts.get(name, "")
        example = _EXAMPLE.search(text)
        needed = is_needed(field) or text.startswith(_NEEDED)
        default = None if needed else _listed(default_of(field))
        plain = _EXAMPLE.sub("", text).removeprefix(_NEEDED)
        found[name] = Key(
            name,
            _type(hints[name]),
            default,
            words.get(name, ()),
            plain[:1].upper() + plain[1:] if text.startswith(_NEEDED) else plain,
            _value(example[1]) if example else default,
        )
    return found


def _texts(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings beside the fields of a class and of those that it is made of; none without its source."""
    bases = [base for base in reversed(cls.__mro__) if is_dataclass(base)]
    return {field: text for base in bases for field, text in _classes(base.__module__).get(base.__name__, {}).items()}


@cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings beside the fields of every class of a module."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    return {node.name: dict(_beside(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _beside(made: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield each field with the docstring under it."""
    for field, after in pairwise(made.body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            yield field.target.id, " ".join(str(after.value.value).split())  # type: ignore[attr-defined]


def _type(hint: Any) -> str:  # noqa: ANN401 - a type is any object
    if get_origin(hint) in {Union, UnionType}:
        return " or ".join(map(_type, get_args(hint)))
    plain = get_origin(hint) or hint
    return "one of a few words" if plain is Literal else _TYPES.get(plain, "a table")


def _listed(value: Any) -> Any:  # noqa: ANN401 - whatever a key may hold
    return list(value) if isinstance(value, tuple) else value


def _value(text: str) -> Any:  # noqa: ANN401 - what TOML holds
    return tomllib.loads(f"x = {text}")["x"]
