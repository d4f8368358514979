"""The command compare: from what was typed to a bench, and from its result to a table and a verdict."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit.compare.protocol import Protocol
from nightfit.errors import UsageError
from nightfit.lock import writer_lock
from nightfit.metrics import SCORES
from nightfit.render import bar, print_json, show, status, table

if TYPE_CHECKING:
    from nightfit.compare.nights import Cutting
    from nightfit.config import Config
    from nightfit.device import Device
    from nightfit.sources.base import Source
    from nightfit.sources.increment import Cut

_SEEDS = 2**32


@dataclass(frozen=True)
class Asked(Protocol):
    """How to compare, as typed."""

    seed: str = "0"
    margin: float = 0.01
    device: str = "auto"
    jobs: int | None = None
    results: Path | None = None
    report: Path | None = None
    figures: Path | None = None
    nights_of_log: bool = False
    history: bool = False

    def check(self) -> None:
        """Raise `UsageError` for what makes no sense, before anything is loaded."""
        if self.classes not in {"declared", "observed"}:
            raise UsageError(f"--classes must be declared or observed, however it is '{self.classes}'")
        if not self.seeds or not all(0 <= seed < _SEEDS for seed in self.seeds):
            raise UsageError(
                f"--seed must lie between 0 and {_SEEDS - 1}, or be several such as 0,1,2, however it is {self.seed}"
            )
        least = {"label_delay": 0, "warm_up": 1, "jobs": 1}
        for name, value in ((name, getattr(self, name)) for name in least):
            if value is not None and value < least[name]:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least[name]}, however it is {value}")
        if not 0 <= self.margin < 1:
            raise UsageError(f"--margin must be a share from 0 to below 1, however it is {self.margin}")
        self._check_history()
        if self.report is not None and (self.report.is_dir() or not self.report.parent.is_dir()):
            raise UsageError(f"--report must name a file in a folder that is there, however it is {self.report}")
        if self.report is not None and not os.access(self.report.parent, os.W_OK):
            raise UsageError(f"--report must be in a folder that can be written, however {self.report.parent} cannot")
        if self.figures is not None:
            if self.figures.exists() and not self.figures.is_dir():
                raise UsageError(f"--figures must name a folder, however {self.figures} is none")
            from nightfit.report import check_figures

            check_figures()

    def _check_history(self) -> None:
        others = {"--label-delay": self.label_delay, "--retrain": self.retrain, "--nights-of-log": self.nights_of_log}
        others |= {"--warm-up": self.warm_up > 1, "several of --seed": len(self.seeds) > 1}
        others |= {"--jobs": self.jobs is not None, "--classes": self.classes != "declared"}
        also = next((name for name, typed in others.items() if typed), None)
        if self.history and also:
            raise UsageError(f"--history replays nights as they are, however {also} was given; leave one out")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each once; none if one is no number."""
        parts = [part.strip() for part in self.seed.split(",")]
        return tuple(dict.fromkeys(int(part) for part in parts)) if all(map(str.isdecimal, parts)) else ()


def run(
    config: Config,
    sources: Sequence[Source],
    cut: Cutting,
    asked: Asked,
    typed: Mapping[str, Sequence[str]],
    title: str,
) -> dict[str, Any]:
    """Compare, and return the result; the report is written if one is asked for."""
    from nightfit.compare.bench import Bench
    from nightfit.compare.replay import compare
    from nightfit.device import choose

    chosen = choose(asked.device)
    protocol = Protocol(**{field.name: getattr(asked, field.name) for field in fields(Protocol)})
    bench = Bench(config.models, config.rules, cut, protocol, chosen.name, asked.seeds, asked.margin, typed)
    jobs = _jobs(asked.jobs, len(bench.units), chosen.name)
    with bar("comparing") as progress, _folders(asked.results) as (folder, kept):
        result: dict[str, Any] = compare(bench, sources, folder, kept=kept, jobs=jobs, progress=progress)
    return _told(result, chosen, asked, title)


def rehearse(config: Config, cut: Cut, asked: Asked, identity: str) -> dict[str, Any]:
    """Replay the exact nights of `train`, and return the result."""
    from nightfit.compare.bench import Bench
    from nightfit.compare.rehearsal import rehearse as replay
    from nightfit.device import choose
    from nightfit.night import Request

    chosen = choose(asked.device)
    bench = Bench(config.models, config.rules, cut, device=chosen.name, seeds=asked.seeds, margin=asked.margin)
    with status() as progress, _folders(asked.results) as (folder, kept):
        request = Request(chosen, lambda: datetime.now(UTC), cut=cut)
        own = replace(config, seed=asked.seeds[0])
        result = replay(bench, own, request, (kept or folder).resolve(), identity, progress=progress)
    return _told(result, chosen, asked, config.name)


def _told(result: dict[str, Any], chosen: Device, asked: Asked, title: str) -> dict[str, Any]:
    """Add where and how it was made; write the report, if one is asked for."""
    from nightfit.compare.replay import versions

    result |= {"device": f"{chosen.name} ({chosen.reason})", "command": _command(), "versions": versions()}
    if asked.report is not None:
        from nightfit.report import write

        write(result, asked.report, title=title)
    if asked.figures is not None:
        from nightfit.report import write_figures

        write_figures(result, asked.figures)
    return result


def _jobs(asked: int | None, n_units: int, device: str) -> int:
    """Return how many models to run side by side: as there are cores, and one on a device that they would share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(asked or (cores if device == "cpu" else 1), n_units)


@contextmanager
def _folders(results: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Give a folder for staging, and the one where results stay, which this run alone may use."""
    if results is None:
        with tempfile.TemporaryDirectory(prefix="nightfit-") as folder:
            yield Path(folder), None
        return
    with writer_lock(results), tempfile.TemporaryDirectory(prefix="nightfit-") as folder:
        yield Path(folder), results


def _command() -> str:
    """Return the command line as it was typed, without the password of a database."""
    return shlex.join(["nightfit", *(_without_password(word) for word in sys.argv[1:])])


def _without_password(word: str) -> str:
    kind, mark, rest = word.partition("://")
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{kind}{mark}{name}{colon and ':***'}{at}{place}" if mark and at else word


def tell(result: Mapping[str, Any], report: Path | None, *, as_json: bool) -> int:
    """Print the result; return the exit code: 1 if a model failed."""
    failed = {name: scores["failed"] for name, scores in result["models"].items() if scores["failed"]}
    for name, why in failed.items():
        print(f"nightfit: {name}: {why}", file=sys.stderr)
    if as_json:
        print_json(result)
    else:
        _show(result, report)
    return int(bool(failed))


def _show(result: Mapping[str, Any], report: Path | None) -> None:
    title = (
        f"{result['rows']:,} rows, {result['nights']} nights, predicted before they were learned, {result['device']}"
    )
    scored = SCORES[result["task"]]
    decides, *others = scored
    columns = ("model", scored[decides], "difference (95 % interval)", "verdict", *(scored[s] for s in others))
    costs = ("learning CPU s", "predicting CPU s")
    rows = [_row(result, name, decides, others) for name in result["models"]]
    show(title, table((*columns, *costs), rows, left=("model", "verdict")), result["verdict"])
    refused = {name: scores.get("refused") for name, scores in result["models"].items()}
    show(*(f"{name}: {n} night{'s' * (n > 1)} refused by the gate" for name, n in refused.items() if n))
    texts = [f"{name}: {cost['text']}" for name, cost in result["costs"].items() if cost["text"]]
    show(*texts)
    if result["left_out"]:
        show(f"left out: {result['left_out']:,} rows without a usable target, or that could not be split into columns")
    if report is not None:
        show(f"report: {report}")


def _row(result: Mapping[str, Any], name: str, decides: str, others: Sequence[str]) -> list[object]:
    scores, reference = result["models"][name], result["reference"]
    if scores["failed"]:
        return [name, None, None, "failed", *[None] * (len(others) + 2)]
    pair = next((p for p in result["pairs"] if (p["model"], p["against"]) == (name, reference)), None)
    return [
        name, _with_spread(scores, decides), *(["", "the reference"] if pair is None else _held_against(result, pair)),
        *(_with_spread(scores, s) for s in others), *map(_tenths, (scores["learn_cpu_s"], scores["predict_cpu_s"])),
    ]  # fmt: skip


def _tenths(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f}"


def _with_spread(scores: Mapping[str, Any], score: str) -> object:
    spread = scores["spread"]
    return scores.get(score) if not spread else f"{scores[score]:.4f} ± {spread[score]:.4f}"


def _held_against(result: Mapping[str, Any], pair: Mapping[str, Any]) -> list[str]:
    """Say a difference and its interval as shares of the reference's score, and the verdict."""
    from nightfit.compare.verdict import shares

    what = "errors " if pair["by"] == "errors" else ""
    mean, *ends = (f"{share:+.1%}" for share in shares(result, pair))
    return [f"{what}{mean} ({' to '.join(ends)})" if ends else f"{what}{mean}", pair["verdict"]]
