"""The commands that learn: init, train, compare. They take what was typed, and print what came of it."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nightfit.config import Config, load, parse
from nightfit.errors import ConfigError, UsageError
from nightfit.history import pick, score_names
from nightfit.inputs import Typed
from nightfit.lock import writer_lock
from nightfit.metrics import SCORES
from nightfit.render import bar, print_json, show, status, table
from nightfit.schema import TASKS

if TYPE_CHECKING:
    from nightfit.nightly import NightResult
    from nightfit.schema import Task
    from nightfit.sources.base import Source

REFUSED = 3
_SEEDS = 2**32
CutOptions = tuple[int | None, str | None, str | None]
"""--night-rows, --night-column and --every, as typed."""


def _now() -> datetime:
    return datetime.now(UTC)


def init(data: str, target: str, table_name: str, name: str, path: Path, *, force: bool, as_json: bool) -> None:
    """Look at the data and write a config."""
    from nightfit.init import config_text, look

    if path.exists() and not force:
        raise ConfigError(
            f"init writes a new config, however {path} is there; name another with --config, or say --force"
        )
    with closing(Typed(data, table_name).read(None, lambda _: None)) as chunks:
        guess = look(chunks, data=data, table=table_name, target=target, name=name)
    text = config_text(guess, _root(path.parent))
    parse(tomllib.loads(text), path.parent)  # what we write must be legal
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the config must be writable, however {path}: {error.strerror}; name another file") from None
    if as_json:
        print_json({"config": str(path), **asdict(guess)})
        return
    rows = [[c, _role(c, guess.target, guess.key, kind), f"{guess.missing[c]:.1%}"] for c, kind in guess.kinds.items()]
    show(f"{guess.n_rows:,} rows of {data}", table(("column", "kind", "missing"), rows, left=("column", "kind")))
    show(
        f"wrote {path}; look it over, then run: nightfit train"
        + ("" if path == Path("configs/nightfit.toml") else f" --config {path}")
    )


def _role(column: str, target: str, key: str, kind: str | None) -> str:
    return {target: "target", key: "key"}.get(column, kind or "no value yet")


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
    """Run one night, or with night options a long history; return the exit code."""
    config = load(path)
    models = [pick(config, name) for name in dict.fromkeys(names)] or list(config.models)
    if accept is not None and not accept.strip():
        raise UsageError("--accept needs a reason, however it is empty; say why")
    if exclude is not None and len(models) > 1:
        raise UsageError(
            f"--exclude names a version of one model, however {len(models)} would run: {', '.join(models)}; add --model"
        )
    with writer_lock(config.store / config.name), status() as progress:
        progress("starting")
        from nightfit.device import choose
        from nightfit.night import Request
        from nightfit.nightly import backfill, run
        from nightfit.sources.increment import Cut

        chosen = choose(device)
        request = Request(chosen, _now, accept, exclude, Cut.parse(*cut), progress)
        rounds = [run(config, models, request)] if request.cut is None else list(backfill(config, models, request))
    _print_nights(rounds, f"{chosen.name} ({chosen.reason})", as_json=as_json)
    return REFUSED if any(result.status == "refused" for result in rounds[-1]) else 0


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
    columns: dict[str, str], classes: str, device: str, seed: int, report: Path | None, figures: Path | None,
    path: Path | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Replay past data as nights."""
    if task not in {"auto", *TASKS}:
        raise UsageError(f"--task must be auto, {' or '.join(TASKS)}, however it is '{task}'")
    if classes not in {"declared", "observed"}:
        raise UsageError(f"--classes must be declared or observed, however it is '{classes}'")
    if not 0 <= seed < _SEEDS:
        raise UsageError(f"--seed must lie between 0 and {_SEEDS - 1}, however it is {seed}")
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise UsageError(f"--report must name a file in a folder that is there, however it is {report}")
    if figures is not None:
        from nightfit.report import check_figures

        check_figures()
    config, typed = _compared(target, task, models, columns, path)
    from nightfit.compare import Bench
    from nightfit.compare import compare as replay
    from nightfit.device import choose
    from nightfit.sources.base import Surroundings
    from nightfit.sources.increment import Cut
    from nightfit.sources.make import make_source

    parsed = Cut.parse(*cut)
    if parsed is None:
        raise UsageError(
            "a comparison needs nights, however none are given; say --night-rows N, or --night-column and --every"
        )
    around = Surroundings(config.rules.key, config.rules.target, config.root)
    sources: list[Source] = [make_source(source, around) for source in config.sources]
    if data is not None:
        sources = [Typed(data, table_name)]
    chosen = choose(device)
    bench = Bench(config.models, config.rules, parsed, classes, chosen.name, seed, typed)
    with bar("comparing") as progress, tempfile.TemporaryDirectory(prefix="nightfit-") as folder:
        result = replay(bench, sources if data is None else [Typed(data, table_name)], Path(folder), progress=progress)
    result = {**result, "device": f"{chosen.name} ({chosen.reason})", "classes": classes, "seed": seed}
    if report is not None:
        from nightfit.report import write

        write(result, report, title=data or config.name)
    if figures is not None:
        from nightfit.report import write_figures

        write_figures(result, figures)
    _print_comparison(result, report, as_json=as_json)


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
    chosen = {name: config.models[pick(config, name, "--models")] for name in names}
    return replace(config, rules=rules, models=chosen), {n: lists[n] for n in ("key", "categorical", "drop")}


def _print_comparison(result: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    scored = SCORES[result["task"]]
    rows = [
        [name, *(s.get(score) for score in scored), f"{s['learn_cpu_s']:.1f}", f"{s['predict_cpu_s']:.1f}"]
        for name, s in result["models"].items()
    ]
    title = (
        f"{result['rows']:,} rows, {result['nights']} nights, predicted before they were learned, {result['device']}"
    )
    columns = ("model", *scored.values(), "learning CPU s", "predicting CPU s")
    show(title, table(columns, rows, left=("model",)))
    if result["left_out"]:
        show(f"left out: {result['left_out']:,} rows without a usable target, or that could not be split into columns")
    if report is not None:
        show(f"report: {report}")
