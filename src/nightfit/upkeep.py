"""The commands that change a lineage without learning: rollback, promote, prune and forget.

Going back must be quick: only forgetting loads what learns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nightfit import acts
from nightfit.config import load
from nightfit.errors import NightfitError
from nightfit.history import lineages, pick
from nightfit.lock import writer_lock
from nightfit.names import NAME
from nightfit.prune import finish_erasing
from nightfit.prune import prune as prune_lineage
from nightfit.render import print_json
from nightfit.render import show as display
from nightfit.store import Store

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest
    from nightfit.config import Config
    from nightfit.store import Lineage


def promote(version: int | None, name: str | None, path: Path, *, skip_rows: bool, as_json: bool) -> None:
    """Put a version (None: the one that the head grew from) of a model into service again."""
    config = load(path)
    lineage = lineages(config, pick(config, name))[pick(config, name)]
    now = datetime.now(UTC)
    with writer_lock(config.store / config.name):
        finish_erasing(lineage, lineage.excluding(_set_aside))
        if version is None:
            head, is_new = acts.rollback(lineage, now=now, skip_rows=skip_rows)
        else:
            head, is_new = acts.promote(lineage, version, now=now, skip_rows=skip_rows)
        prune_lineage(lineage, config.keep)
    if as_json:
        print_json(_head_json(head) | {"committed": is_new})
    elif is_new:
        display(f"{config.name}/{head.model}: version {head.version} {head.verdict.removeprefix('accepted: ')}")
    else:
        display(f"{config.name}/{head.model}: version {head.version} serves, and has that state already")


def _set_aside(_version: int, why: str) -> None:
    print(f"nightfit: {why}; it is set aside", file=sys.stderr)


def _head_json(head: Manifest) -> dict[str, Any]:
    return {"model": head.model, "version": head.version, "parent": head.parent, "verdict": head.verdict}


def prune(keep: int | None, name: str | None, path: Path, *, as_json: bool) -> None:
    """Strip old versions of their tensors."""
    config = load(path)
    stripped = {}
    with writer_lock(config.store / config.name):
        for model, lineage in lineages(config, name).items():
            finish_erasing(lineage, lineage.newest())
            stripped[model] = prune_lineage(lineage, config.keep if keep is None else keep, thorough=True)
    if as_json:
        print_json({"pruned": stripped})
        return
    for model, versions in stripped.items():
        n = len(versions)
        told = f"{n} version{'s' * (n > 1)} pruned, {versions[0]} to {versions[-1]}" if n else "nothing to prune"
        display(f"{model}: {told}")


def forget(keys: Sequence[str], name: str | None, path: Path, *, as_json: bool) -> None:
    """Delete the rows of keys from every memory of every version.

    The first error is raised when all models have had their turn: one that cannot be gone on from keeps no other.
    """
    config = load(path)
    told: dict[str, Any] = {}
    errors: list[NightfitError] = []
    with writer_lock(config.store / config.name):
        for model, lineage in lineages(config, name).items():
            if lineage.newest() is None:
                continue
            try:
                told[model] = _forget(config, lineage, keys)
            except NightfitError as error:
                errors.append(error)
    for model in _strangers(config) if name is None else ():
        print(
            f"nightfit: forgetting covers the models of the config, however {config.name}/{model} is none of them and "
            "has versions, too; name it in the config and run again, or delete its folder",
            file=sys.stderr,
        )
    for model, what in told.items() if not as_json else ():
        display(
            f"{model}: version {what['version']} has none of these rows in a memory ({what['rows']:,} were kept); "
            f"the memories of {len(what['erased'])} older versions are deleted"
        )
    if errors:
        raise errors[0]
    if as_json:
        print_json({"models": told})
    elif not told:
        display("nothing is kept: there is no version yet")


def _forget(config: Config, lineage: Lineage, keys: Sequence[str]) -> dict[str, Any]:
    from nightfit.forget import forget as forget_rows

    finish_erasing(lineage, lineage.newest())
    head, n_rows = forget_rows(config, lineage, keys, now=datetime.now(UTC))
    for note in cast("list[str]", head.night["notes"]):
        print(f"nightfit: {head.model}: {note}", file=sys.stderr)
    return {"version": head.version, "rows": n_rows, "erased": head.erased}


def _strangers(config: Config) -> list[str]:
    """Name the models that the config no longer has, and that have versions still."""
    pipeline = Store(config.store).pipeline(config.name)
    there = sorted(path.name for path in pipeline.folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir())
    return [n for n in there if n not in config.models and any(i.version for i in pipeline.lineage(n).items())]
