"""Estimators on disk, by skops and never by pickle: equal ones give equal bytes, and only trusted types come back.

skops names objects by their addresses in memory and stamps the time; both are taken out, so that a version's hash
depends on what was learned alone. Imported where an import path is learned or scored: skops takes a second to load.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import numpy as np

from nightfit.batch import Array
from nightfit.errors import ConfigError, NotKeptError
from nightfit.jsontypes import Json

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def load_skops(path: str) -> None:
    """Load skops if it is there, which takes a second that is none of a night's work."""
    with suppress(NotKeptError):
        _skops(path)


def kept(model: object, path: str, trusted: Collection[str]) -> Array:
    """Return an estimator as bytes, uint8 [n].

    Raises `NotKeptError` if skops cannot write it, or if it would not be allowed to read it again.
    """
    skops = _skops(path)
    try:
        data = skops.dumps(model)
        untrusted = skops.get_untrusted_types(data=data)
    except Exception as error:
        raise NotKeptError(
            f"'{path}' must be of types that skops can write, however it says: {error}; `compare` can take it as it is"
        ) from error
    if unknown := sorted(set(untrusted) - {*trusted, _type_name(model)}):
        raise NotKeptError(
            f"types that '{path}' is made of must be trusted to be read again, however skops does not know "
            f"{', '.join(unknown)}; if you do, write trusted = {json.dumps(unknown)} into the model's table"
        )
    return np.frombuffer(_canonical(data), np.uint8)


def restored(data: Array, path: str, cls: type, trusted: Collection[str]) -> Any:  # noqa: ANN401 - of their class
    """Return the estimator again.

    Raises `ConfigError` for types that are not trusted, and for one that is not of the class that the config names.
    """
    skops = _skops(path)
    try:
        with warnings.catch_warnings():  # of another version of scikit-learn: versions are in the settings of a night
            warnings.simplefilter("ignore")
            model = skops.loads(data.tobytes(), trusted=[*trusted, f"{cls.__module__}.{cls.__qualname__}"])
    except Exception as error:
        raise ConfigError(
            f"a version of '{path}' must hold types that the config trusts, however skops says: {error}; see trusted"
        ) from error
    if type(model) is not cls:
        raise ConfigError(f"a version of '{path}' must hold one, however it holds a {_type_name(model)}")
    return model


def _skops(path: str) -> Any:  # noqa: ANN401 - it ships no types
    try:
        import skops.io
    except ImportError:
        raise NotKeptError(
            f"'{path}' is kept by skops, however that is not installed; pip install 'nightfit[skops]'"
        ) from None
    return skops.io


def _type_name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _canonical(data: bytes) -> bytes:
    """Return skops' archive with objects and files numbered in their order, and without times."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    ids: dict[Json, int] = {}
    names: dict[str, str] = {}
    schema = _renamed(json.loads(files.pop(_SCHEMA)), ids, names, files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for old, new in names.items():
            archive.writestr(zipfile.ZipInfo(new, _EPOCH), files[old])
        archive.writestr(zipfile.ZipInfo(_SCHEMA, _EPOCH), json.dumps(schema))
    return out.getvalue()


def _renamed(node: Any, ids: dict[Json, int], names: dict[str, str], files: Collection[str]) -> Any:  # noqa: ANN401
    """Return a node of skops' tree with its numbers and the names of its files replaced, and note them."""
    if isinstance(node, list):
        return [_renamed(each, ids, names, files) for each in node]
    if not isinstance(node, dict):
        return node
    new = dict(node)
    for key, value in node.items():
        if key == "__id__" and isinstance(value, int):
            new[key] = ids.setdefault(value, len(ids))
        elif key == "file" and isinstance(value, str) and value in files:
            new[key] = names.setdefault(value, f"{len(names)}.{value.rpartition('.')[2]}")
        else:
            new[key] = _renamed(value, ids, names, files)
    return new
