"""The command line; the one place where errors become exit codes and results become text.

Nothing heavy is imported at the top: `--help`, `log` and `doctor` must not wait for torch.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from nightfit.errors import NightfitError

REFUSED, INTERRUPTED, TERMINATED = 3, 130, 143


class _Group(TyperGroup):
    """Turns what escapes from a command into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's
        signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except NightfitError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted; nothing was committed that is not whole", INTERRUPTED)


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _fail(message: str, code: int) -> NoReturn:
    from nightfit.render import print_json

    line = " ".join(message.split())
    print(f"nightfit: {line}", file=sys.stderr)
    if "--json" in sys.argv:
        print_json({"error": line, "exit_code": code})
    raise SystemExit(code)


app = typer.Typer(
    cls=_Group,
    help="Keep tabular models fresh: learn each night only the rows that are new, and nothing twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[
    Path, typer.Option("--config", metavar="FILE", envvar="NIGHTFIT_CONFIG", help="The pipeline's config.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="A model; the config's first if not given.")
]
DeviceName = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps.")]
DEFAULT_CONFIG = Path("configs/nightfit.toml")


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A CSV file, a folder of them, or a database URL.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to predict.")],
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, if DATA is a database URL.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="The pipeline's name; made from DATA if not given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a config that is there.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Look at the data and write a config."""
    from nightfit import commands

    commands.init(data, target, table, name, config, force=force, as_json=as_json)


@app.command()
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
) -> None:
    """Learn what is new; commit it unless worse.

    Reads only the rows after the head's cursors, warm-starts from the head, and commits a new version
    unless the gate finds evidence that it is worse. Exit codes: 0 committed or nothing new, 3 refused,
    65 bad data, 75 try again later, 78 bad config.
    """
    from nightfit import commands

    cut = (night_rows, night_column, every)
    raise SystemExit(commands.train(model or [], device, cut, accept, exclude, config, as_json=as_json))


@app.command()
def predict(
    data: Annotated[str, typer.Argument(metavar="INPUT", help="A CSV file, or a database URL.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A CSV file; stdout if not given.")
    ] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, if INPUT is a database URL.")] = "",
    model: ModelName = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="A version; the head if not given.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="D", help="Score with torch there; numpy on the CPU if not given.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Score a file or a table.

    Keeps the input's columns and adds prediction, probability_<class> and model_version.
    """
    from nightfit import commands

    commands.predict(data, output, table, model, version, device, config, as_json=as_json)


@app.command()
def compare(
    data: Annotated[str | None, typer.Argument(help="A CSV file; without it, the data of --config.")] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.")] = None,
    night_rows: Annotated[int | None, typer.Option(metavar="N", help="Rows of a night.")] = None,
    night_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Cut nights by this column of times.")
    ] = None,
    every: Annotated[str | None, typer.Option(metavar="1d", help="The length of a night, with --night-column.")] = None,
    models: Annotated[str, typer.Option(metavar="A,B", help="Which models.")] = "",
    task: Annotated[
        str, typer.Option(metavar="T", help="classification, which is also what is inferred.")
    ] = "classification",
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
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of everything random.")] = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML page besides.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Compare the models of a pipeline on its data."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay past data as nights, side by side.

    Every model predicts each night whole before it learns it; nothing is held out, no gate decides.
    """
    from nightfit import commands

    columns = {"key": key, "categorical": categorical, "drop": drop, "missing": missing}
    commands.compare(
        data, target, (night_rows, night_column, every), models, task, columns, classes, device, seed, report, config,
        as_json=as_json,
    )  # fmt: skip


@app.command()
def log(
    model: ModelName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List the versions, one line a night."""
    from nightfit import history

    history.log(model, config, as_json=as_json)


@app.command()
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


@app.command()
def verify(
    model: ModelName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Check every file against its hash.

    A wrong hash exits 65; leftovers and strangers in the store are warnings.
    """
    from nightfit import history

    raise SystemExit(history.verify(model, config, as_json=as_json))


@app.command()
def doctor(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say what works here and what does not.

    Versions, devices, config, sources, store; what does not work exits 78.
    """
    from nightfit import history

    raise SystemExit(history.doctor(config, as_json=as_json))


def main() -> None:
    """Run the command line."""
    app(prog_name="nightfit")
