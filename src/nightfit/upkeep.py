"""The commands that change a lineage without learning: rollback, promote, prune and forget.

Going back must be quick: only forgetting loads what learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit import acts
from nightfit.config import load
from nightfit.history import lineages, pick
from nightfit.lock import pipeline_lock
from nightfit.prune import finish_erasing
from nightfit.prune import prune as prune_lineage
from nightfit.render import print_json
from nightfit.render import show as display

if TYPE_CHECKING:
    from nightfit.checkpoint import Manifest


def promote(version: int | None, name: str | None, path: Path, *, skip_rows: bool, as_json: bool) -> None:
    """Put a version (None: the one that the head grew from) of a model into service again."""
    config = load(path)
    lineage = lineages(config, pick(config, name))[pick(config, name)]
    now = datetime.now(UTC)
    with pipeline_lock(config.store / config.name):
        finish_erasing(lineage, lineage.newest())
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


def _head_json(head: Manifest) -> dict[str, Any]:
    return {"model": head.model, "version": head.version, "parent": head.parent, "verdict": head.verdict}


def prune(keep: int | None, name: str | None, path: Path, *, as_json: bool) -> None:
    """Strip old versions of their tensors."""
    config = load(path)
    stripped = {}
    with pipeline_lock(config.store / config.name):
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
    """Delete the rows of keys from every memory of every version."""
    from nightfit.forget import forget as forget_rows

    config = load(path)
    told: dict[str, Any] = {}
    with pipeline_lock(config.store / config.name):
        for model, lineage in lineages(config, name).items():
            if (newest := lineage.newest()) is None:
                continue
            finish_erasing(lineage, newest)
            head, n_rows = forget_rows(config, lineage, keys, now=datetime.now(UTC))
            told[model] = {"version": head.version, "rows": n_rows, "erased": head.erased}
    if as_json:
        print_json({"models": told})
        return
    for model, what in told.items():
        display(
            f"{model}: version {what['version']} has none of these rows in a memory ({what['rows']:,} were kept); "
            f"the memories of {len(what['erased'])} older versions are deleted"
        )
    if not told:
        display("nothing is kept: there is no version yet")
