"""The page that `bench_streams.py` writes: a table for each stream, what they come to in words, ranks, and two figures.

Every sentence with a figure is made of the results, so that none outlives them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nightfit.compare.verdict import shares
from nightfit.metrics import SCORES
from nightfit.report.axes import Axis, linear
from nightfit.report.svg import drawing, line, mark, standalone, text
from nightfit.report.words import percent, size

Stream: TypeAlias = Mapping[str, Any]
Result: TypeAlias = Mapping[str, Any]
Results: TypeAlias = Mapping[str, Result]

FIRST, LEVEL = "deep", 0.95
RELATIVE, RANKS = "benchmark-losses.svg", "benchmark-ranks.svg"
RETRAINED = ("hgb", "lightgbm")

HEAD = """# Benchmark

`nightfit compare` over public streams, with the models that it has by a short name. `scripts/bench_streams.py` runs the
command and writes this page, words and figures included; nothing is tuned for a stream. Every night is predicted whole
before any of its rows is learned; scores pool all predicted rows; classes are declared; one seed.

- **beside deep**: how much more a model loses than `deep` on the same rows, with its 95 % interval; below zero it is
  better. `pa` gives votes of classes, and is held against `deep` by errors.
- **verdict**: [as compare says it](compare.md#how-sure-it-is), of the model against `deep`.
- **CPU s**: of the processor, for learning and for predicting all nights, on one thread.
- `sgd` is not listed: it is `linear`. `hgb:N` and `lightgbm:N` are trained anew every night on the rows of the last N
  nights (30,000 rows); what they keep is not on disk. `no_change` and `prior` are constants.
- Peers are other libraries, scored under the same protocol by a script of their own. Their CPU is not compared here, as
  it was measured on another day ([quality.md](quality.md) runs one of them side by side). `seed` and `sgd` among them
  are scikit-learn's SGD at its defaults, `lgb_all`, `lgb_window` and `lgb_continue` LightGBM, `arf` River's forest.
"""


def page(
    streams: Sequence[Stream], results: Results, peers: Mapping[str, Any], missing: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """Return the page of at least one stream, and its figures by the names of their files.

    `streams` are the catalog's, with the `command` that was run; `missing` those without a result.
    """
    ranked = Ranks(results)
    parts = [HEAD, "\n## In short\n", *(f"- {words}" for words in in_short(results, missing)), ""]
    parts += [table(*overview(results, peers)), f"![Losses beside the best model's, stream by stream]({RELATIVE})\n"]
    figures = {RELATIVE: standalone(relative(results))}
    if ranked.known:
        parts += [
            "## Ranks over the streams\n",
            ranked.words(),
            f"![Mean ranks and the critical difference]({RANKS})\n",
        ]
        figures[RANKS] = standalone(ranked.draw())
    parts += [part for stream in streams for part in of_stream(stream, results[stream["name"]], peers)]
    return "\n".join([*parts, *environment(results)]), figures


def loss(result: Result, name: str) -> float | None:
    """Return the score that decides, lower is better; None of what failed or gives votes."""
    found: float | None = result["models"].get(name, {}).get(result["score"])
    return found


def losses(result: Result) -> dict[str, float]:
    """Return what every model lost, the best first."""
    found = {name: value for name in result["models"] if (value := loss(result, name)) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def in_short(results: Results, missing: Sequence[str]) -> Iterator[str]:
    """Yield what the results come to."""
    firsts = {name: next(iter(losses(result))) for name, result in results.items()}
    won = [name for name, first in firsts.items() if first == FIRST]
    yield f"`{FIRST}` has the best score on {len(won)} of {len(results)} streams{listed(won)}."
    for name, first in firsts.items():
        if first != FIRST:
            pair = against(results[name], first)
            yield f"On {name} `{first}` is ahead of it: {spoken(results[name], pair)}, {pair['verdict']}."
    for other in ("linear", *RETRAINED):
        verdicts = [pair["verdict"] for result in results.values() for pair in pairs_of(result, other)]
        if verdicts:
            said = {"worse": "worse", "same": "as good within 1 %", "unclear": "not told apart", "better": "better"}
            counts = ", ".join(f"{words} on {verdicts.count(each)}" for each, words in said.items() if each in verdicts)
            yield f"`{other}` beside `{FIRST}`: {counts} of {len(verdicts)} streams."
    yield f"What that costs: {costs(results)}."
    if bare := [name for name, result in results.items() if not any(called(result, each) for each in RETRAINED)]:
        yield f"Not yet held against models that are trained anew: {', '.join(bare)}."
    if missing:
        yield f"Not run yet: {', '.join(missing)}."


def listed(names: Sequence[str]) -> str:
    """Say which streams."""
    return f" ({', '.join(names)})" if names else ""


def costs(results: Results) -> str:
    """Say how many times the processor's time of others deep takes."""
    said = []
    for other in ("linear", "sk_mlp", *RETRAINED):
        pairs = [
            (cpu(r["models"][FIRST]), cpu(r["models"][name])) for r in results.values() for name in called(r, other)
        ]
        if pairs:
            ratios = [ours / theirs for ours, theirs in pairs]
            said.append(f"{np.median(ratios):.2g} times `{other}`'s ({min(ratios):.2g} to {max(ratios):.2g})")
    return f"the median of `{FIRST}`'s CPU seconds is " + ", ".join(said)


def cpu(model: Mapping[str, Any]) -> float:
    """Return the CPU seconds of learning and predicting."""
    return float(model["learn_cpu_s"] + model["predict_cpu_s"])


def called(result: Result, base: str) -> list[str]:
    """Return the models of a name, whatever their window, that did not fail."""
    return [name for name, model in result["models"].items() if name.split(":")[0] == base and not model["failed"]]


def pairs_of(result: Result, base: str) -> list[Mapping[str, Any]]:
    """Return the pairs of a model, whatever its window, with deep."""
    return [p for p in result["pairs"] if p["against"] == FIRST and p["model"].split(":")[0] == base]


def against(result: Result, name: str) -> Mapping[str, Any]:
    """Return a model's pair with deep."""
    return next(pair for pair in result["pairs"] if (pair["model"], pair["against"]) == (name, FIRST))


def spoken(result: Result, pair: Mapping[str, Any]) -> str:
    """Say a difference as a share, with its interval."""
    mean, *ends = (percent(share, sign=True) for share in shares(result, pair))
    return f"{mean} ({' to '.join(ends)})" if ends else mean


OVERVIEW = ("stream", "score", "deep", "linear", "best other that is incremental", "best retrained", "best peer")


def overview(results: Results, peers: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Return the table of all streams."""
    rows = []
    for name, result in results.items():
        found = losses(result)
        retrained = {m: v for m, v in found.items() if m.split(":")[0] in RETRAINED}
        others = {m: v for m, v in found.items() if m not in {FIRST, "linear", "prior", "no_change", *retrained}}
        best = [f"{v:.4f} ({m})" for each in (others, retrained) for m, v in list(each.items())[:1] or [("-", np.nan)]]
        ours = [f"{found[m]:.4f}" if m in found else "-" for m in (FIRST, "linear")]
        metric, of_peers = peer_scores(result, peers.get(name, {}))
        first = next((f"{v:.4f} ({m}{', R²' if metric == 'r2' else ''})" for m, v in of_peers.items()), "-")
        label = SCORES[result["task"]][result["score"]]
        rows.append([name, label, *ours, *(b.replace("nan (-)", "-") for b in best), first])
    return OVERVIEW, rows


def peer_scores(result: Result, peers: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the score that peers are held to (R² of a quantity, whose unit they changed), and theirs, best first."""
    metric = "r2" if result["score"] == "rmse" else "log_loss"
    found = {m: s[metric] for m, s in peers.items() if metric in s and s.get("complete", True) and m != "prior"}
    return metric, dict(sorted(found.items(), key=lambda item: item[1], reverse=metric == "r2"))


def of_stream(stream: Stream, result: Result, peers: Mapping[str, Any]) -> list[str]:
    """Return a stream's section."""
    label, other = (
        ("RMSE", "r2") if result["score"] == "rmse" else (SCORES[result["task"]][result["score"]], "accuracy")
    )
    order = [*losses(result), *(name for name in result["models"] if loss(result, name) is None)]
    head = ("model", label, "beside deep (95 % interval)", "verdict", "R²" if other == "r2" else other)
    rows = [model_row(result, name, other) for name in order]
    metric, found = peer_scores(result, peers.get(stream["name"], {}))
    said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    unfinished = [m for m, s in peers.get(stream["name"], {}).items() if not s.get("complete", True)]
    late = f" Not finished in 240 s: {', '.join(unfinished)}." if unfinished else ""
    return [
        f"## {stream['name']}\n",
        f"{result['rows']:,} rows scored in {result['nights']} nights of {stream['night_rows']:,}.\n",
        f"{result['verdict']}\n",
        table((*head, "CPU s, learn + predict", "on disk"), rows),
        *([f"Peers ({'R²' if metric == 'r2' else 'log loss'}): {said}.{late}\n"] if said else []),
        f"Data: {stream.get('origin', 'not known')}. Licence: {stream.get('licence', 'not known')}.\n",
        f"```sh\n{stream['command']}\n```\n",
    ]


def model_row(result: Result, name: str, other: str) -> list[str]:
    """Return a model's row."""
    model, value = result["models"][name], loss(result, name)
    if model["failed"]:
        return [name, "failed", model["failed"], *["-"] * 4]
    pair = None if name == FIRST else against(result, name)
    beside = ["-", "-"] if pair is None else [spoken(result, pair), pair["verdict"]]
    if pair is not None and pair["by"] == "errors":
        beside[0] = f"errors {beside[0]}"
    score = "-" if value is None else f"{value:.4f}"
    return [
        name, f"**{score}**" if name == result["best"] else score, *beside,
        f"{model[other]:.4f}" if model.get(other) is not None else "-",
        f"{model['learn_cpu_s']:.1f} + {model['predict_cpu_s']:.1f}", size(model["disk_bytes"]),
    ]  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def environment(results: Results) -> list[str]:
    """Return what the figures were measured on."""
    versions = {f"{name} {version}" for result in results.values() for name, version in result["versions"].items()}
    made = (
        f"{os.cpu_count()} cores, no GPU; {', '.join(sorted(versions))}. The machine was shared with other work: CPU "
        "seconds are higher than on an idle one (see [quality.md](quality.md)), so compare them within this page.\n"
    )
    command = "python scripts/bench_streams.py CATALOG.json --results DIR --peers peers.json --write docs/benchmark.md"
    return ["## Measured on\n", made, f"```sh\n{command}\n```\n"]


class Ranks:
    """Mean ranks over the streams, of the models that have a loss on all of them.

    Friedman's test asks whether any differ; Nemenyi's critical difference is what two mean ranks must differ by
    (Demšar, JMLR 2006). `known` where there are three streams and three models at least.
    """

    def __init__(self, results: Results) -> None:
        from scipy.stats import friedmanchisquare, rankdata, studentized_range

        by_base = [{name.split(":")[0]: value for name, value in losses(result).items()} for result in results.values()]
        self.names = [name for name in by_base[0] if all(name in each for each in by_base)]
        n, k = len(by_base), len(self.names)
        self.n, self.known = n, n >= 3 and k >= 3  # noqa: PLR2004 - what the test needs
        if not self.known:
            return
        scores = np.array([[each[name] for name in self.names] for each in by_base])
        self.ranks = dict(zip(self.names, rankdata(scores, axis=1).mean(0).tolist(), strict=True))
        self.ranks = dict(sorted(self.ranks.items(), key=lambda item: item[1]))
        self.p = float(friedmanchisquare(*scores.T).pvalue)
        self.critical = float(studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))

    def words(self) -> str:
        """Say what the ranks come to."""
        first, best = next(iter(self.ranks.items()))
        apart = [name for name, rank in self.ranks.items() if rank - best > self.critical]
        ranks = ", ".join(f"{name} {rank:.1f}" for name, rank in self.ranks.items())
        return (
            f"Mean ranks of the models that have a loss on all {self.n} streams: {ranks}.\n\n"
            f"Friedman's test: p = {self.p:.1g}. Nemenyi's critical difference at 5 % is {self.critical:.1f} ranks: "
            f"{first} is told apart from {', '.join(apart) or 'none'}. {self.n} streams are few: ranks tell less than "
            "the intervals below.\n"
        )

    def draw(self) -> str:
        """Return the diagram: mean ranks on an axis, bars joining those that are not told apart."""
        names, k = list(self.ranks), len(self.ranks)
        axis = Axis(1, k, tuple(range(1, k + 1)))
        half, left, width = (k + 1) // 2, 150, 720

        def x(rank: float) -> float:
            return left + (width - 2 * left) * axis.share(rank)

        parts = [line(x(1), 50, x(k), 50, "axis"), *(text(x(t), 42, f"{t:.0f}", anchor="middle") for t in axis.ticks)]
        parts += [line(x(t), 46, x(t), 50, "axis") for t in axis.ticks]
        parts += [
            line(x(1), 16, x(1 + self.critical), 16, "l0"),
            text(x(1 + self.critical) + 8, 20, "critical difference"),
        ]
        groups = list(self.groups())
        base = 66 + 9 * len(groups)
        for i, (low, high) in enumerate(groups):
            parts.append(line(x(low) - 4, 60 + 9 * i, x(high) + 4, 60 + 9 * i, "l1"))
        for i, name in enumerate(names):
            on_left = i < half
            y = base + 20 * (i if on_left else k - 1 - i) + 8
            at, end = x(self.ranks[name]), left - 12 if on_left else width - left + 12
            parts += [line(at, 50, at, y, "axis"), line(at, y, end, y, "axis")]
            words = f"{name} {self.ranks[name]:.1f}"
            parts.append(text(end + (-5 if on_left else 5), y + 4, words, anchor="end" if on_left else "", style="ink"))
        alt = "Mean ranks: " + ", ".join(f"{name} {rank:.1f}" for name, rank in self.ranks.items())
        return drawing(width, base + 20 * half + 8, parts, alt)

    def groups(self) -> Iterator[tuple[float, float]]:
        """Yield the longest runs of ranks of which no two differ by more than the critical difference."""
        ranks, reached = list(self.ranks.values()), -1
        for i, low in enumerate(ranks):
            last = max(j for j, high in enumerate(ranks) if high - low <= self.critical)
            if last > max(i, reached):
                yield low, ranks[last]
            reached = max(reached, last)


FAR = 2.0
"""A loss beyond twice the best one is drawn at the edge, with an arrow."""


def relative(results: Results) -> str:
    """Draw every model's loss as a ratio to the best one's, a panel for each stream."""
    names = list(dict.fromkeys(name.split(":")[0] for r in results.values() for name in losses(r)))
    axis, label, gap, across, row = linear(1, FAR, n=2), 112, 36, 4, 17
    width, height = 960, 46 + row * len(names) + 30
    panel, parts = (width - label) / across - gap, list[str]()
    for i, (stream, result) in enumerate(results.items()):
        left, top = label + (i % across) * (panel + gap), (i // across) * height
        found = {name.split(":")[0]: value for name, value in losses(result).items()}
        best, bottom = min(found.values()), top + 34 + row * len(names)
        parts.append(text(left, top + 20, f"{stream} ({SCORES[result['task']][result['score']]})", style="ink strong"))
        for tick in axis.ticks:
            x = left + panel * axis.share(tick)
            parts += [line(x, top + 30, x, bottom, "grid"), text(x, bottom + 15, axis.text(tick), anchor="middle")]
        for k, name in enumerate(names):
            y = top + 42 + row * k
            if not i % across:
                parts.append(text(label - 12, y + 4, name, anchor="end", style="ink" if name == FIRST else ""))
            if name in found:
                ratio = found[name] / best
                x = left + panel * axis.share(min(ratio, FAR))
                style = "f0" if name == FIRST else "f7"
                words = f"{name}: {ratio:.3f} times the best"
                parts.append(mark(0, x, y, words, style=style) if ratio < FAR else text(x - 4, y + 4, "→", style=style))
    rows = -(-len(results) // across)
    alt = "Losses as ratios to the best model's: " + "; ".join(
        f"{s}: {next(iter(losses(r)))} is best" for s, r in results.items()
    )
    parts.append(
        text(
            label, rows * height + 10, "loss, as a ratio to the best model's (left is better; an arrow: twice, or more)"
        )
    )
    return drawing(width, rows * height + 18, parts, alt)
