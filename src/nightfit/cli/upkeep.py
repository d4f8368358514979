"""Commands that change what serves and what is kept, without learning."""

from __future__ import annotations

from typing import Annotated

import typer

from nightfit.cli.options import DEFAULT_CONFIG, ConfigPath, Json, ModelName, OnlyModel, SkipRows


def rollback(
    version: Annotated[int | None, typer.Argument(metavar="N", help="A version; the one before if not given.")] = None,
    model: ModelName = None,
    skip_rows: SkipRows = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Put the version before into service again.

    Commits a new entry with its state and its cursors; `rollback N` is `promote N`.
    """
    from nightfit import upkeep

    upkeep.promote(version, model, config, skip_rows=skip_rows, as_json=as_json)


def promote(
    version: Annotated[int, typer.Argument(metavar="N", help="A version, accepted or refused.")],
    model: ModelName = None,
    skip_rows: SkipRows = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Put any version into service.

    Commits a new entry with its state and its cursors: the rows that came after it are read again.
    """
    from nightfit import upkeep

    upkeep.promote(version, model, config, skip_rows=skip_rows, as_json=as_json)


def prune(
    keep: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Versions to keep; the config's store.keep if not given.")
    ] = None,
    model: OnlyModel = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Delete the tensors of old versions.

    Manifests and rejects stay. Every night does so too, after its commit.
    """
    from nightfit import upkeep

    upkeep.prune(keep, model, config, as_json=as_json)


def forget(
    key: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of rows; parts of a key as in CSV: A,B.")],
    model: OnlyModel = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Delete rows from every memory, for good.

    Commits a version without them, then deletes the memories of all older versions, which can then be promoted with
    --skip-rows only. Weights are not unlearned. The keys are left out of every later night.
    """
    from nightfit import upkeep

    upkeep.forget(key, model, config, as_json=as_json)
