"""Commands that look at lineages and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightfit.cli.options import DEFAULT_CONFIG, ConfigPath, Figures, Json, ModelName, OnlyModel

ORIGINS = {"COMMANDLINE": "--config", "ENVIRONMENT": "NIGHTFIT_CONFIG", "DEFAULT": "the default place"}
"""Why a config file is the one that is read, by the names that click gives."""


def log(
    model: OnlyModel = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List the versions, one line a night."""
    from nightfit import history

    history.log(model, config, as_json=as_json)


def report(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; PIPELINE.html if not given.")
    ] = None,
    model: OnlyModel = None,
    figures: Figures = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="DIR", help="Write events for TensorBoard there besides.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write the models' lives as a page.

    One self-contained HTML file: what serves, scores over the nights, the gate's decisions, rows, columns that moved.
    """
    from nightfit import reporting

    reporting.report(output, model, figures, tensorboard, config, as_json=as_json)


def show(
    version: Annotated[int, typer.Argument(metavar="N", help="The version.")],
    model: ModelName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show one version in full.

    Its rows, scores, gate, learning, columns and cursors.
    """
    from nightfit import history

    history.show(version, model, config, as_json=as_json)


def diff(
    before: Annotated[int, typer.Argument(metavar="N", help="A version.")],
    after: Annotated[int, typer.Argument(metavar="M", help="Another one, which grew from it.")],
    model: ModelName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show what differs between two versions.

    Settings, schema, scores, norms of the weights, and the rows kept for testing that both answer differently.
    """
    from nightfit import history

    history.diff(before, after, model, config, as_json=as_json)


def verify(
    model: OnlyModel = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> int:
    """Check every file against its hash.

    A wrong hash exits 65; leftovers and strangers in the store are warnings.
    """
    from nightfit import history

    return history.verify(model, config, as_json=as_json)


def doctor(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> int:
    """Say what works here and what does not.

    Versions, devices, config, the first rows of every source, who is told, the store; what does not work exits 78.
    Nothing is learned, sent or written.
    """
    from nightfit import history

    return history.doctor(config, as_json=as_json)


def config(
    context: typer.Context,
    explain: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Say all there is to know of one key, as gate.margin, or margin alone."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Show every key, its value, and where it is set.

    Defaults included; of secrets only the names in the environment are shown.
    """
    from nightfit import explaining

    if explain is not None:
        explaining.explain(explain, config, as_json=as_json)
        return
    source = context.get_parameter_source("config")
    explaining.tell(config, ORIGINS[source.name] if source else "", as_json=as_json)
