"""The command line; the one place where errors become exit codes and results become text.

Nothing heavy is imported at the top: `--help`, `log` and `doctor` must not wait for torch.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from nightfit.errors import NightfitError

INTERRUPTED, TERMINATED, NOBODY_READS = 130, 143, 141
TRY_AGAIN, BAD_CONFIG = 75, 78

_OF_THE_MACHINE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP), BAD_CONFIG),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM), TRY_AGAIN),
}
"""Errors of the system that are no bug, wherever they come from, and their exit codes."""

_Misuse: Any = typer.BadParameter.__bases__[0]  # click's UsageError, which typer carries under a private name


class _TerminatedError(BaseException):
    """SIGTERM came."""


AGAIN_S = 1.0
"""Seconds after which a stop is asked for again: Python swallows what is raised while a destructor happens to run."""


class _Group(TyperGroup):
    """Turns what escapes from a command into one line and an exit code."""

    _as_json = False

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> NoReturn:  # noqa: ANN401
        typed = sys.argv[1:] if args is None else list(args)
        self._as_json = "--json" in typed
        try:
            code = super().main(typed, *more, **{**options, "standalone_mode": False})
        except _Misuse as error:
            if not typed:
                print(error.format_message())
                raise SystemExit(2) from None
            help_ = f"{error.ctx.command_path} --help" if error.ctx else "nightfit --help"
            self._fail(f"{error.format_message()} See `{help_}`.", 2)
        raise SystemExit(code or 0)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's
        came: list[int] = []

        def stop(number: int, _frame: object) -> NoReturn:
            if number != signal.SIGALRM:
                came.append(number)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise KeyboardInterrupt if came[0] == signal.SIGINT else _TerminatedError

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BaseException as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if came:  # whatever a library made of it on the way
                self._stopped(came[0])
            self._explain(error)
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
        return code

    def _stopped(self, number: int) -> NoReturn:
        word, code = ("interrupted", INTERRUPTED) if number == signal.SIGINT else ("terminated", TERMINATED)
        self._fail(f"{word}; nothing was committed that is not whole", code)

    def _explain(self, error: BaseException) -> None:
        """Say what is no bug; a bug goes on to its traceback, and still makes one JSON object."""
        if isinstance(error, NightfitError):
            self._fail(str(error), error.exit_code)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(NOBODY_READS) from None
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            place = f"{error.filename}: " if error.filename else ""
            self._fail(
                f"files must be readable and writable, however {place}{error.strerror}; mend that and run again",
                _OF_THE_MACHINE[error.errno],
            )
        if isinstance(error, MemoryError):
            self._fail(
                f"a run must get the memory that it needs, however: {str(error) or 'there is none left'}; free some "
                "and run again, or learn a long history in nights (`--night-rows`)",
                TRY_AGAIN,
            )
        if isinstance(error, Exception) and self._as_json and not isinstance(error, _Misuse):
            _print_error(f"a bug: {type(error).__name__}: {error}", 1)

    def _fail(self, message: str, code: int) -> NoReturn:
        line = " ".join(message.split())
        print(f"nightfit: {line}", file=sys.stderr)
        if self._as_json:
            _print_error(line, code)
        raise SystemExit(code) from None


def _print_error(line: str, code: int) -> None:
    from nightfit.render import print_json

    print_json({"error": line, "exit_code": code})


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
OnlyModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Only this model; all of them if not given.")
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="A model; the config's first if not given.")
]
SkipRows = Annotated[
    bool, typer.Option("--skip-rows", help="Leave out the rows that came after it, instead of reading them again.")
]
DeviceName = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps.")]
Figures = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the page's figures there, as SVG and PNG.")
]
DEFAULT_CONFIG = Path("configs/nightfit.toml")


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A file (CSV, JSON lines, Parquet), a folder, or a database URL.")],
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
) -> int:
    """Learn what is new; commit it unless worse.

    Reads only the rows after the head's cursors, warm-starts from the head, and commits a new version
    unless the gate finds evidence that it is worse. Exit codes: 0 committed or nothing new, 3 refused,
    65 bad data, 75 try again later, 78 bad config.
    """
    from nightfit import commands

    cut = (night_rows, night_column, every)
    return commands.train(model or [], device, cut, accept, exclude, config, as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
def token(as_json: Json = False) -> None:
    """Make a bearer token for `serve --tokens`.

    Prints the token, which clients send, and its SHA-256, which the server keeps.
    """
    from nightfit import scoring

    scoring.token(as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
def log(
    model: OnlyModel = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """List the versions, one line a night."""
    from nightfit import history

    history.log(model, config, as_json=as_json)


@app.command()
def report(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; PIPELINE.html if not given.")
    ] = None,
    model: OnlyModel = None,
    figures: Figures = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write the models' lives as a page.

    One self-contained HTML file: what serves, scores over the nights, the gate's decisions, rows, columns that moved.
    """
    from nightfit import reporting

    reporting.report(output, model, figures, config, as_json=as_json)


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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def doctor(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> int:
    """Say what works here and what does not.

    Versions, devices, config, sources, store; what does not work exits 78.
    """
    from nightfit import history

    return history.doctor(config, as_json=as_json)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to fail
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="nightfit")
