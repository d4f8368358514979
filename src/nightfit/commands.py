"""The commands that learn: init, train, compare. They take what was typed, and print what came of it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nightfit.comparing import Asked, rehearse, run, tell
from nightfit.config import Config, ModelConfig, load, parse, short_named
from nightfit.errors import REFUSED, ConfigError, LockedError, NightfitError, UsageError
from nightfit.history import lineages, pick, score_names
from nightfit.inputs import Typed, files_of
from nightfit.learners.base import ESTIMATORS, REFERENCES
from nightfit.lock import writer_lock
from nightfit.notify.tell import notify
from nightfit.notify.told import ModelTold, Told
from nightfit.ranks import join, place
from nightfit.render import print_json, show, status, table
from nightfit.schema import TASKS
from nightfit.sources.base import Dialect, from_environment
from nightfit.sources.configs import FileConfig, SqlConfig
from nightfit.sources.make import kind_of
from nightfit.tracking.track import track

if TYPE_CHECKING:
    from nightfit.init import Guess
    from nightfit.nightly import NightResult
    from nightfit.ranks import Together
    from nightfit.schema import Task
    from nightfit.sources.base import Source

CutOptions = tuple[int | None, str | None, str | None]
"""--night-rows, --night-column and --every, as typed."""


def _now() -> datetime:
    return datetime.now(UTC)


def init(data: str, target: str | None, table_name: str, name: str, path: Path, *, force: bool, as_json: bool) -> None:
    """Look at the data and write a config."""
    from nightfit.hiding import hide
    from nightfit.init import config_text, look

    if path.exists() and not force:
        raise ConfigError(
            f"init writes a new config, however {path} is there; name another with --config, or say --force"
        )
    _check_kind(data)
    table_name = table_name or _only_table(data)
    dialect, reasons = _dialect(data)
    hidden = hide(data, name or table_name)
    with closing(Typed(data, table_name, dialect).read(None, lambda _: None)) as chunks:
        guess = look(chunks, data=hidden.url, table=table_name, target=target, name=name)
    guess = replace(guess, dialect=dialect, reasons=guess.reasons | reasons, environment=tuple(hidden.secrets))
    text = config_text(guess, _root(path.parent))
    parse(tomllib.loads(text), path.parent)  # what we write must be legal
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the config must be writable, however {path}: {error.strerror}; name another file") from None
    if as_json:
        print_json({"config": str(path), **asdict(guess)})
    else:
        _print_guess(guess, path)


def _check_kind(data: str) -> None:
    """Raise `UsageError` for what is neither a file nor a database."""
    if not issubclass(kind_of(data).config, FileConfig | SqlConfig):
        raise UsageError(
            f"init looks at files and databases, however this is {data.partition('://')[0]}://; let it look at some "
            "rows in a file of JSON lines, then write [[sources]] as docs/sources.md has it"
        )


def _dialect(data: str) -> tuple[Dialect, dict[str, str]]:
    """Guess how the first file of DATA spells CSV, with the reasons."""
    if "://" in data:
        return Dialect(), {}
    from nightfit.dialects import dialect_of

    return dialect_of(files_of(data)[0])


def _only_table(data: str) -> str:
    """Return the one table of a database; "" for what is no database."""
    if "://" not in data:
        return ""
    from nightfit.sources.database import tables_at

    there = tables_at(from_environment(data, "the url"), Path.cwd())
    if len(there) != 1:
        names = ", ".join(there) or "none"
        raise UsageError(f"init reads one table, however the database has {names}; name one with --table")
    return there[0]


def _print_guess(guess: Guess, path: Path) -> None:
    """Show what was found, why, and what to do next."""
    rows = [[c, _role(c, guess), f"{guess.missing[c]:.1%}"] for c in guess.kinds]
    show(
        f"{guess.n_rows:,} rows of {guess.table or guess.data}",
        table(("column", "kind", "missing"), rows, left=("column", "kind")),
    )
    found = {"target": guess.target, "key": guess.key, "cursor": ", ".join(guess.cursor), "night": guess.night}
    found |= {name: repr(value) for name, value in asdict(guess.dialect).items()}
    reasons = [[what, found[what], why] for what, why in guess.reasons.items()]
    show(table(("guessed", "", "because"), reasons, left=("guessed", "", "because")))
    option = "" if path == Path("configs/nightfit.toml") else f" --config {path}"
    for variable in guess.environment:
        show(
            f"{path} has ${{{variable}}} where the url had a secret; set it before a night runs, to what was typed "
            f"there: export {variable}='...'"
        )
    show(f"wrote {path}; look it over, then run: nightfit train{option}")


def _role(column: str, guess: Guess) -> str:
    roles = {**dict.fromkeys(guess.cursor, "cursor"), guess.key: "key", guess.target: "target"}
    return roles.get(column, guess.kinds[column] or "no value yet")


def _root(folder: Path) -> str:
    """Return the way from the config's folder to the present one, which is what DATA was typed from."""
    here, there = Path.cwd(), folder.resolve()
    return "/".join([".."] * len(there.relative_to(here).parts)) or "." if there.is_relative_to(here) else str(here)


def train(
    names: Sequence[str],
    device: str,
    cut: CutOptions,
    accept: str | None,
    exclude: int | None,
    path: Path,
    *,
    as_json: bool,
) -> int:
    """Run one night, or with night options a long history; return the exit code.

    Of several ranks the first does; the others only help it.
    """
    if place()[0]:
        _follow(device)
        return 0
    config = load(path)
    models = [pick(config, name) for name in dict.fromkeys(names)] or list(config.models)
    if accept is not None and not accept.strip():
        raise UsageError("--accept needs a reason, however it is empty; say why")
    if exclude is not None and len(models) > 1:
        raise UsageError(
            f"--exclude names a version of one model, however {len(models)} would run: {', '.join(models)}; add --model"
        )
    try:
        rounds, where = _nights(config, models, device, cut, accept, exclude)
    except (LockedError, UsageError):  # another run will tell, and what was typed concerns nobody else
        raise
    except NightfitError as error:
        _tell(config, Told(config.name, error.exit_code, _now(), error=str(error)))
        raise
    _print_nights(rounds, where, as_json=as_json)
    code = REFUSED if any(result.status == "refused" for result in rounds[-1]) else 0
    _tell(config, Told(config.name, code, _now(), [*map(ModelTold.of, rounds[-1])]))
    for warning in track(config, rounds):
        print(f"nightfit: {warning}", file=sys.stderr)
    return code


def _nights(
    config: Config, models: Sequence[str], device: str, cut: CutOptions, accept: str | None, exclude: int | None
) -> tuple[list[list[NightResult]], str]:
    """Run one night, or several; return what came of each, and where it was learned, in words."""
    with writer_lock(config.store / config.name), status() as progress:
        progress("starting")
        from nightfit.device import choose
        from nightfit.night import Request
        from nightfit.nightly import backfill
        from nightfit.nightly import run as run_night
        from nightfit.sources.increment import Cut

        parsed, chosen = Cut.parse(*cut), choose(device, number=place()[1])
        with join(chosen.name) as ranks:
            if ranks.size > 1:
                chosen = replace(chosen, reason=f"{chosen.reason}; {ranks.size} ranks")
            request = Request(chosen, _now, accept, exclude, parsed, progress)
            rounds = [run_night(config, models, request)] if parsed is None else list(backfill(config, models, request))
    return rounds, f"{chosen.name} ({chosen.reason})"


def _tell(config: Config, told: Told) -> None:
    """Tell those whom the config names; who could not be told is a warning."""
    for warning in notify(config, told):
        print(f"nightfit: {warning}", file=sys.stderr)


def _follow(device: str) -> None:
    from nightfit.device import choose
    from nightfit.following import follow

    chosen = choose(device, number=place()[1])
    with join(chosen.name) as ranks:
        follow(cast("Together", ranks), chosen.name)


def _print_nights(rounds: list[list[NightResult]], device: str, *, as_json: bool) -> None:
    """Print what the nights came to; without a terminal only refusals and alarms, on stderr.

    A cron that mails what is printed thus mails when a person is needed.
    """
    for results in rounds:
        alarms = dict.fromkeys(alarm for result in results for alarm in result.alarms)
        for alarm in alarms:
            models = ", ".join(result.model for result in results if alarm in result.alarms)
            print(f"nightfit: {models}: {alarm}", file=sys.stderr)
    for result in rounds[-1]:
        if result.status == "refused":
            print(f"nightfit: {result.model}: {result.verdict}", file=sys.stderr)
    if as_json:
        listed = [{result.model: asdict(result) for result in results} for results in rounds]
        print_json({"device": device, "nights": listed, "models": listed[-1]})
        return
    if not sys.stdout.isatty():
        return
    is_quantity = any(result.task == "regression" for results in rounds for result in results)
    score, label = next(iter(score_names(is_quantity=is_quantity).items()))
    waits = any(result.rows.pending for results in rounds for result in results)
    fates = ("learned", "held out", "rejected", *(["pending"] if waits else []))
    columns = ("model", "version", "read", *fates, label, "s", "verdict")
    rows = [_night_row(result, score, waits=waits) for results in rounds for result in results]
    show(f"learned on {device}", table(columns, rows, left=("model", "verdict")))
    show(*(f"{result.model}: {note}" for results in rounds for result in results for note in result.notes))


def _night_row(result: NightResult, score: str, *, waits: bool) -> list[object]:
    rows = result.rows
    return [
        result.model, result.version, rows.read, rows.learned, rows.held_out, rows.rejected,
        *([rows.pending] if waits else []), result.prequential.get(score), f"{result.seconds:.1f}", result.verdict,
    ]  # fmt: skip


def compare(
    data: str | None, target: str | None, table_name: str, cut: CutOptions, models: str, task: str,
    columns: dict[str, str], asked: Asked, path: Path | None, *, as_json: bool,
) -> int:  # fmt: skip
    """Replay past data as nights; return the exit code."""
    if task not in {"auto", *TASKS}:
        raise UsageError(f"--task must be auto, {' or '.join(TASKS)}, however it is '{task}'")
    asked.check()
    config, typed = _compared(target, task, models, columns, path)
    from nightfit.sources.base import Surroundings
    from nightfit.sources.increment import Cut
    from nightfit.sources.make import make_source

    parsed = Cut.parse(*cut)
    if asked.nights_of_log:
        from nightfit.compare.logged import LogCut

        if data is not None or parsed is not None:
            raise UsageError("--nights-of-log cuts a pipeline's own data, however DATA or other nights were given")
        assert path
        by_log = LogCut.of(next(iter(lineages(load(path), None).values())))  # of the config, whatever is compared
    elif parsed is None:
        raise UsageError(
            "a comparison needs nights, however none are given; say --night-rows N, or --night-column and --every"
        )
    title = data or config.name
    if asked.history:
        assert parsed
        identity = Typed(data, table_name, config.dialect).identity() if data else str(config.root)
        result = rehearse(_as_trained(config, data, table_name, path), parsed, asked, identity)
        return tell(result, asked.report, as_json=as_json)
    around = Surroundings(config.rules.key, config.rules.target, config.root)
    sources: list[Source] = [make_source(source, around) for source in config.sources]
    if data is not None:
        sources = [Typed(data, table_name, config.dialect)]
    result = run(config, sources, parsed or by_log, asked, typed, title)
    return tell(result, asked.report, as_json=as_json)


def _as_trained(config: Config, data: str | None, table_name: str, path: Path | None) -> Config:
    """Return the config as `train` would have it: DATA as its source, and a column that is missing as it says."""
    on_missing = load(path).rules.schema.on_missing_column if path else "stop"
    rules = replace(config.rules, schema=replace(config.rules.schema, on_missing_column=on_missing))
    if data is None:
        return replace(config, rules=rules)
    source = {"url": data} | (asdict(config.dialect) if "://" not in data else {"table": table_name})
    document = {"name": config.name, "target": rules.target, "sources": [source]}
    return replace(config, rules=rules, sources=parse(document, Path.cwd()).sources, root=Path.cwd())


def _compared(
    target: str | None, task: str, models: str, columns: dict[str, str], path: Path | None
) -> tuple[Config, dict[str, tuple[str, ...]]]:
    """Return the config to compare by (typed, or made of the options), and the columns that options name."""
    lists = {name: tuple(part for part in text.split(",") if part) for name, text in columns.items()}
    if path is not None:
        config = load(path)
        rules = replace(config.rules, target=target or config.rules.target)
    elif target is None:
        raise UsageError("compare with DATA needs --target, however there is none; name the column to predict")
    else:
        config = parse({"name": "compare", "target": target, "sources": [{"url": "-"}]}, Path.cwd())
        rules = config.rules
    schema = replace(
        rules.schema,
        categorical=(*rules.schema.categorical, *lists["categorical"]),
        drop=(*rules.schema.drop, *lists["drop"]),
        missing=(*rules.schema.missing, *lists["missing"]),
        on_missing_column="missing",
    )
    rules = replace(rules, key=lists["key"] or rules.key, schema=schema)
    if task != "auto" or target:  # what the config says holds for its own target
        rules = replace(rules, task=None if task == "auto" else cast("Task", task))
    names = [name for name in models.split(",") if name] or list(config.models)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--models must name each model once, however '{twice}' is there {names.count(twice)} times")
    chosen = {name: _model(config, name) for name in names}
    return replace(config, rules=rules, models=chosen), {n: lists[n] for n in ("key", "categorical", "drop")}


def _model(config: Config, name: str) -> ModelConfig:
    """Return the config of a table's model, or of an estimator by its short name or import path."""
    if model := config.models.get(name) or short_named(name):
        return model
    raise ConfigError(
        f"--models must name {', '.join(config.models)}, a scikit-learn estimator ({', '.join(ESTIMATORS)}; feature "
        f"steps before it, as in pca+sgd), a reference ({', '.join(REFERENCES)}; of the last nights, as in hgb:30), or "
        f"an import path (package.module:Class), however it is '{name}'"
    )
