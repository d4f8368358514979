"""Commands that answer with what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightfit.cli.options import DEFAULT_CONFIG, ConfigPath, Json, ModelName, OnlyModel


def predict(
    data: Annotated[
        str, typer.Argument(metavar="INPUT", help="A file (CSV, JSON lines, Parquet), a folder, or a database URL.")
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file, CSV or .parquet, or a database URL; or stdout."),
    ] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, if INPUT is a database URL.")] = "",
    output_table: Annotated[
        str, typer.Option(metavar="NAME", help="The table, if OUT is a database URL; its rows are replaced.")
    ] = "",
    model: ModelName = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="A version; the head if not given.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="Score with torch there; numpy on the CPU if not given.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Score a file or a table.

    Keeps the input's columns and adds prediction, probability_<class> and model_version. The output is replaced
    when all rows are scored; a run that was killed is gone on with by the same command.
    """
    from nightfit import scoring
    from nightfit.inputs import Typed

    scoring.predict(Typed(data, table), output, output_table, model, version, device, config, as_json=as_json)


def serve(
    host: Annotated[str, typer.Option(metavar="H", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="The port; 0: any that is free.")] = 8000,
    model: OnlyModel = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The SHA-256 of bearer tokens, one a line: see `token`.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which the server may be called; repeatable.")
    ] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log every request, not only events.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Serve the newest good version over HTTP.

    Follows the head of every lineage without a restart. Another address than loopback needs --tokens.
    """
    from nightfit import scoring

    scoring.serve(host, port, model, tokens, allow_host or [], config, log_requests=log_requests)


def token(as_json: Json = False) -> None:
    """Make a bearer token for `serve --tokens`.

    Prints the token, which clients send, and its SHA-256, which the server keeps.
    """
    from nightfit import scoring

    scoring.token(as_json=as_json)


def export(
    format_name: Annotated[str, typer.Option("--format", metavar="F", help="onnx.")] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A file; PIPELINE-MODEL-VERSION.onnx if not given."),
    ] = None,
    model: ModelName = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="A version; the head if not given.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write a version as one graph that other runtimes run.

    Raw columns in, labels and probabilities out. Nothing is written (65) if the graph, run by onnxruntime, does not
    answer as nightfit does to 1e-5.
    """
    from nightfit import scoring

    scoring.export(format_name, output, model, version, config, as_json=as_json)
