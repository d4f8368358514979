"""Commands that learn, and hold models against each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nightfit.cli.options import DEFAULT_CONFIG, ConfigPath, DeviceName, Figures, Json


def init(
    data: Annotated[str, typer.Argument(help="A file (CSV, JSON lines, Parquet), a folder, or a database URL.")],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict; guessed if not given.")
    ] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, if DATA is a database URL with several.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="The pipeline's name; made from DATA if not given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a config that is there.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Look at the data and write a config.

    Guesses target, key, cursor, kinds and nights, and says why.
    """
    from nightfit import commands

    commands.init(data, target, table, name, config, force=force, as_json=as_json)


def train(
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    device: DeviceName = "auto",
    night_rows: Annotated[
        int | None, typer.Option(metavar="N", help="Learn a long history in nights of N rows of each source.")
    ] = None,
    night_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Cut a long history by this column of times.")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="1d", help="The length of a night, with --night-column: 12h, 1d, 1w."),
    ] = None,
    accept: Annotated[
        str | None, typer.Option(metavar="WHY", help="Accept tonight's candidate whatever the gate says.")
    ] = None,
    exclude: Annotated[
        int | None, typer.Option(metavar="V", help="Leave out the rows that version V was the first to read.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> int:
    """Learn what is new; commit it unless worse.

    Reads only the rows after the head's cursors, warm-starts from the head, and commits a new version
    unless the gate finds evidence that it is worse. Exit codes: 0 committed or nothing new, 3 refused,
    65 bad data, 75 try again later, 78 bad config.
    """
    from nightfit import commands

    cut = (night_rows, night_column, every)
    return commands.train(model or [], device, cut, accept, exclude, config, as_json=as_json)


def compare(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A file (CSV, JSON lines, Parquet), a folder, or a database URL; else the data of --config."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.")] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, if DATA is a database URL.")] = "",
    night_rows: Annotated[int | None, typer.Option(metavar="N", help="Rows of a night (of each source).")] = None,
    night_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Cut nights by this column of times.")
    ] = None,
    every: Annotated[str | None, typer.Option(metavar="1d", help="The length of a night, with --night-column.")] = None,
    models: Annotated[str, typer.Option(metavar="A,B", help="Which models.")] = "",
    task: Annotated[
        str, typer.Option(metavar="T", help="classification or regression; auto guesses from the target.")
    ] = "auto",
    key: Annotated[str, typer.Option(metavar="A,B", help="Columns that identify a row: no features.")] = "",
    categorical: Annotated[str, typer.Option(metavar="A,B", help="Columns that are categories.")] = "",
    drop: Annotated[str, typer.Option(metavar="A,B", help="Columns to leave out.")] = "",
    missing: Annotated[
        str, typer.Option(metavar="A,B", help="Texts that mean 'no value', besides the empty one.")
    ] = "",
    classes: Annotated[
        str, typer.Option(metavar="C", help="declared: all labels are known ahead; observed: they are not.")
    ] = "declared",
    device: DeviceName = "auto",
    nights_of_log: Annotated[
        bool, typer.Option("--nights-of-log", help="Cut nights as the log of the config's first model has them.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Replay the exact nights of `train`: held-out rows, gate, refusals.")
    ] = False,
    label_delay: Annotated[
        int, typer.Option(metavar="N", help="A night's labels come so many nights later: until then it is not learned.")
    ] = 0,
    warm_up: Annotated[int, typer.Option(metavar="N", help="Nights that are learned and not scored.")] = 1,
    seed: Annotated[
        str, typer.Option(metavar="S", help="Seed of everything random; of several (0,1,2) scores are averaged.")
    ] = "0",
    margin: Annotated[
        float, typer.Option(metavar="M", help="The share of a loss below which a difference is of no consequence.")
    ] = 0.01,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train each model anew on all rows at the end, to see what that costs.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Models side by side; as many as there are cores if not given.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep results there: what was done, or killed halfway, is not done again."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML page besides.")
    ] = None,
    figures: Figures = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Compare the models of a pipeline on its data."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Replay past data as nights, side by side.

    Every model predicts each night whole before it learns it; nothing is held out, no gate decides. The first model
    is the one that the others are held against.
    """
    from nightfit import commands
    from nightfit.comparing import Asked

    if config is None and data is None:  # with DATA no config is read unless it is typed
        config = Path(os.environ.get("NIGHTFIT_CONFIG") or DEFAULT_CONFIG)
    columns = {"key": key, "categorical": categorical, "drop": drop, "missing": missing}
    asked = Asked(
        classes, label_delay, warm_up, retrain, seed, margin, device, jobs, results, report, figures,
        nights_of_log, history,
    )  # fmt: skip
    return commands.compare(
        data, target, table, (night_rows, night_column, every), models, task, columns, asked, config, as_json=as_json
    )
