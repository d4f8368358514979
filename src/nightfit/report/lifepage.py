"""The page of a pipeline's models: what serves, how the nights went, what the gate decided, what moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from nightfit.report import bars
from nightfit.report.curves import draw
from nightfit.report.html import Cell, figure, folded, number, page, paragraph, section, table, tiles
from nightfit.report.life import FATES, Life, Version
from nightfit.report.result import Point, rolling, smoothing
from nightfit.report.svg import Figure
from nightfit.report.words import percent, score, seconds

N_ROWS = 500
"""Versions that a table has, the newest: `nightfit log` has all."""

LATELY = 7
"""Nights that "lately" means."""


def lives(pipeline: str, models: Sequence[Life]) -> str:
    """Return the page of a pipeline's models."""
    return page(f"nightfit report: {pipeline}", _parts(models))


def figures(models: Sequence[Life]) -> list[Figure]:
    """Return the figures of a page: those of all models, then each model's own."""
    own: list[Callable[[Life], Figure | None]] = [bars.gate, bars.rows, bars.drift]
    found = [_scores(models), *(make(model) for model in models for make in own), _seconds(models)]
    return [figure for figure in found if figure]


def _parts(models: Sequence[Life]) -> Iterator[str]:
    for model in models:
        yield section(model.name, paragraph(_sentence(model)), tiles(_tiles(model)), style="verdict")
    yield from (figure(drawn) for drawn in figures(models))
    for model in models:
        yield folded(f"{model.name}: every version", _versions(model))


def _sentence(model: Life) -> str:
    head, last = model.head, model.versions[-1] if model.versions else None
    if last is None:
        return "No version yet: nothing was learned."
    serves = f"Version {head.version} serves since {_when(head)}." if head else "No version serves."
    return f"{serves} Last entry, version {last.version}: {last.verdict}."


def _when(version: Version) -> str:
    return version.created_at[:16].replace("T", " ")


def _tiles(model: Life) -> Iterator[tuple[str, str, str]]:
    if not model.nights:
        return
    yield "In service", f"version {model.serving}" if model.serving else "none", f"of {len(model.versions)}"
    lately, before = _means(model)
    if lately is not None:
        said = f"mean of the last {LATELY} nights" + (f"; of all before {score(before)}" if before is not None else "")
        yield f"{model.label[0].upper()}{model.label[1:]}, lately", score(lately), said
    refused = model.refused
    why = f"the last: version {refused[-1].version}" if refused else "every night was accepted"
    yield "Refused by the gate", f"{len(refused)} of {len(model.nights)} nights", why
    spent = [version.seconds for version in model.nights[-LATELY:] if version.seconds is not None]
    rest = ", ".join(f"{model.total(fate):,} {fate.replace('_', ' ')}" for fate in FATES[1:] if model.total(fate))
    yield "Rows learned", f"{model.total('learned'):,}", "; ".join(filter(None, [rest, _spent(spent)]))


def _spent(spent: Sequence[float]) -> str:
    return f"a night takes {seconds(sorted(spent)[len(spent) // 2])}" if spent else ""


def _means(model: Life) -> tuple[float | None, float | None]:
    """Return the score of the last nights, and of all nights before them."""
    scores = model.scores()
    parts = [rolling(part, len(part), model.score) for part in (scores[-LATELY:], scores[:-LATELY])]
    lately, before = (part[-1][1] if part else None for part in parts)
    return lately, before


def _scores(models: Sequence[Life]) -> Figure | None:
    lines = {m.name: (i, points) for i, m in enumerate(models) if (points := m.curve())}
    if not lines:
        return None
    label, n = models[0].label, max(len(m.scores()) for m in models)
    marks = {version: ("drift", why) for model in models[:1] for version, why in model.alarms()}
    note = (
        f"Each night's rows were scored by the version before, and then learned. Means of {smoothing(n)} nights; lower "
        "is better." + (f" Dotted: the error of {models[0].name} rose." if marks else "")
    )
    alt = f"{label} by version: " + ", ".join(f"{name} ends at {score(p[-1][1])}" for name, (_, p) in lines.items())
    title = f"{label[0].upper()}{label[1:]} of new rows, before they were learned"
    return Figure("score", title, alt, note, partial(draw, lines, alt=alt, x_title="version", marks=marks))


def _seconds(models: Sequence[Life]) -> Figure | None:
    lines: dict[str, tuple[int, list[Point]]] = {}
    for i, model in enumerate(models):
        points = [(float(version.version), version.seconds) for version in model.nights if version.seconds is not None]
        if points:
            lines[model.name] = (i, points)
    if not lines:
        return None
    alt = "Seconds of each night: " + ", ".join(f"{name} {seconds(p[-1][1])} last" for name, (_, p) in lines.items())
    note = "From reading the staged rows to the commit; the reading itself is shared by the models."
    return Figure(
        "seconds", "Seconds of a night", alt, note, partial(draw, lines, alt=alt, x_title="version", ratios=True)
    )


def _versions(model: Life) -> str:
    head = [
        "version",
        "status",
        "at",
        "read",
        "learned",
        "held out",
        "rejected",
        model.label,
        "time",
        "gate",
        "verdict",
    ]
    newest = list(reversed(model.versions))[:N_ROWS]
    which = f"The newest {N_ROWS} of {len(model.versions)} versions" if len(model.versions) > N_ROWS else "All versions"
    caption = f"{which}, the newest first; {model.label} is that of the version before on the night's rows"
    return table(caption, head, [_row(model, version) for version in newest], words=(1, 2, 9, 10), tall=True)


def _row(model: Life, v: Version) -> list[Cell]:
    status = v.status if v.act == "night" else v.act
    value = v.prequential.get(model.score)
    told = "; ".join(filter(None, [v.verdict, v.fresh, ", ".join(v.moved) and f"moved: {', '.join(v.moved)}"]))
    change = percent(v.gate["mean"], sign=True) if "mean" in v.gate else ""
    return [
        Cell(str(v.version), v.version), Cell(status, style="bad" if status == "refused" else ""), Cell(_when(v)),
        *(number(v.rows[fate], f"{v.rows[fate]:,}") for fate in ("read", "learned", "held_out", "rejected")),
        number(value, score(value)), number(v.seconds, seconds(v.seconds)),
        Cell(f"{v.gate.get('reason') or ''} {change}".strip()), Cell(told, style="long"),
    ]  # fmt: skip
