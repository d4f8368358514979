"""The commands that only look: log, show, verify, doctor. None of them needs torch, scikit-learn or pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightfit.config import load
from nightfit.errors import ConfigError, DataError
from nightfit.render import print_json, table
from nightfit.render import show as display
from nightfit.store import Lineage, Store
from nightfit.verify import verify as verify_lineage

if TYPE_CHECKING:
    from rich.table import Table

    from nightfit.checkpoint import Manifest
    from nightfit.config import Config
    from nightfit.diff import Flips
    from nightfit.versions import Entry

N_MOVED = 10
"""Columns that `show` tells of; `show --json` has all that the record keeps."""


def pick(config: Config, name: str | None, option: str = "--model") -> str:
    """Return the model that is asked for, or the config's first.

    Raises `ConfigError` for one that the config does not have.
    """
    if name is not None and name not in config.models:
        raise ConfigError(f"{option} must name one of {', '.join(config.models)}, however it is '{name}'")
    return next(iter(config.models)) if name is None else name


def lineages(config: Config, name: str | None) -> dict[str, Lineage]:
    """Return the lineages that a command covers: all of them unless one is named."""
    pipeline = Store(config.store).pipeline(config.name)
    names = list(config.models) if name is None else [pick(config, name)]
    return {model: pipeline.lineage(model) for model in names}


def log(name: str | None, path: Path, *, as_json: bool) -> None:
    """List the versions of every model."""
    entries = {model: lineage.entries() for model, lineage in lineages(load(path), name).items()}
    if as_json:
        print_json({"models": {model: [_log_json(entry) for entry in listed] for model, listed in entries.items()}})
        return
    for model, listed in entries.items():
        is_quantity = any(_task(entry.manifest) == "regression" for entry in listed if entry.manifest)
        scored = score_names(is_quantity=is_quantity)
        waits = any(entry.manifest.rows.pending for entry in listed if entry.manifest)
        fates = {"learned": "learned", "held_out": "held out", "rejected": "rejected", "duplicate": "dupl."}
        fates |= {"pending": "pending"} if waits else {}
        columns = ("", "status", "read", *fates.values(), *scored.values(), "s", "why")
        rows = [_log_row(entry, list(fates), list(scored)) for entry in listed]
        display(*([model, table(columns, rows, left=("status", "why"))] if rows else [f"{model}: no version yet"]))


def _log_json(entry: Entry) -> dict[str, Any]:
    m = entry.manifest
    return {
        "version": entry.version,
        "parent": m.parent if m else None,
        "act": m.act if m else None,
        "status": entry.status,
        "rows": asdict(m.rows) if m else None,
        "prequential": m.prequential if m else {},
        "verdict": m.verdict if m else "does not verify, was set aside",
        "fresh": m.night.get("fresh") if m else None,
        "created_at": m.created_at if m else None,
        "seconds": m.night.get("seconds") if m else None,
    }


def score_names(*, is_quantity: bool) -> dict[str, str]:
    """Name the two scores that a table of nights shows, and their columns: those of a quantity, or of classes."""
    return {"rmse": "RMSE", "r2": "R²"} if is_quantity else {"log_loss": "log loss", "accuracy": "acc."}


def _task(manifest: Manifest) -> str:
    schema = manifest.state["schema"]
    return str(schema.get("task")) if isinstance(schema, dict) else ""


def _log_row(entry: Entry, fates: Sequence[str], scored: Sequence[str]) -> list[object]:
    m = entry.manifest
    if m is None:
        return [entry.version, entry.status, *[None] * (2 + len(fates) + len(scored)), "does not verify, was set aside"]
    return [
        entry.version, entry.status, m.rows.read, *(getattr(m.rows, fate) for fate in fates),
        *(m.prequential.get(name) for name in scored), f"{_seconds(m):.1f}", _why(m),
    ]  # fmt: skip


def _why(manifest: Manifest) -> str:
    """Return the verdict without what the status says already, and how it compares with a fresh model."""
    verdict = manifest.verdict
    for said in ("accepted: ", "refused: "):
        verdict = verdict.removeprefix(said)
    fresh: Any = manifest.night.get("fresh")
    return f"{verdict}; {fresh['verdict']}" if fresh and "difference" in fresh else verdict


def _seconds(manifest: Manifest) -> float:
    seconds = manifest.night.get("seconds", 0.0)
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def show(version: int, name: str | None, path: Path, *, as_json: bool) -> None:
    """Show one version of one model."""
    config = load(path)
    model = pick(config, name)
    manifest = Store(config.store).pipeline(config.name).lineage(model).manifest(version)
    if as_json:
        print_json(_show_json(manifest))
        return
    display(f"{config.name}/{model} version {manifest.version}: {manifest.verdict}")
    display(table(("what", "value"), _show_rows(manifest), left=("what", "value")))
    drift: Any = manifest.night.get("drift")
    if drift and drift["columns"]:
        display("how far columns moved, the farthest first", _drift_table(drift))


def _show_json(manifest: Manifest) -> dict[str, Any]:
    whole = asdict(manifest)
    schema = manifest.state["schema"]
    assert isinstance(schema, dict)
    whole["state"] = {**manifest.state, "schema": {**schema, "columns": _columns(manifest)}}
    return whole


def _columns(manifest: Manifest) -> list[dict[str, Any]]:
    """Name the columns with their kinds, and how many categories each has, instead of all of them."""
    schema: Any = manifest.state["schema"]
    return [
        {"name": c["name"], "kind": c["kind"]} | ({"n_categories": len(c["categories"])} if "categories" in c else {})
        for c in schema["columns"]
    ]


def _show_rows(m: Manifest) -> list[Sequence[object]]:
    state: Any = m.state
    counts = {"read": m.rows.read, "pending before": m.rows.pending_before, **asdict(m.rows)}
    rows = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in counts.items() if n or what == "read")
    return [
        *([["act", m.act]] if m.act != "night" else []),
        ["committed", m.created_at + _where(m)],
        ["parent", "none, the first" if m.parent is None else m.parent],
        ["rows", rows],
        *_night_rows(m),
        *([["left out", "the rows of versions " + ", ".join(map(str, m.excluded))]] if m.excluded else []),
        *([["erased", f"the memories of {len(m.erased)} older versions"]] if m.erased else []),
        ["target", _target(state)],
        *_kinds(m),
        ["read up to", "; ".join(_position(name, cursor) for name, cursor in m.cursors.items())],
        ["files", ", ".join(f"{name} ({file.size:,} bytes)" for name, file in m.files.items())],
    ]


def _where(m: Manifest) -> str:
    device: Any = m.night.get("device")
    return f", in {_seconds(m):.1f} s, on {device['name']} ({device['reason']})" if device else ""


def _night_rows(m: Manifest) -> list[Sequence[object]]:
    """Return what only a night has to tell: one that goes back or forgets learns nothing."""
    night: Any = m.night
    if m.act != "night":
        return []
    return [
        *([["rejected", night["why_rejected"]]] if night.get("why_rejected") else []),
        ["before learning", _scores(m.prequential)],
        ["learning", learning_sentence(night["learning"], m.parent)],
        *_gate_rows(night["gate"]),
        *([["fresh against warm", night["fresh"]["verdict"]]] if "fresh" in night else []),
        *([["notes", "; ".join(night["notes"])]] if night.get("notes") else []),
    ]


def _drift_table(drift: dict[str, Any]) -> Table:
    """Return the columns that moved farthest, with their PSI against each reference, and shares before and now."""
    references = {"learned": "PSI, all before", "last": "night before", "first": "first night"}
    rows = [
        [
            c["column"],
            "new" if c["column"] in drift["moved"] else "",
            *(c.get("psi", {}).get(name) for name in references),
            "{:.1%} -> {:.1%}".format(*c["missing"]) if any(c.get("missing", ())) else None,
            f"{c['unseen'][1]:.1%}" if "unseen" in c else None,
        ]
        for c in drift["columns"][:N_MOVED]
    ]
    columns = ("column", "alarm", *references.values(), "missing", "never seen before")
    return table(columns, rows, left=("column", "alarm"))


def _gate_rows(gate: dict[str, Any]) -> list[Sequence[object]]:
    """Return the figures under the verdict: what the two scored, rows that flipped, intervals by set and by slice."""
    intervals = {name: gate[name] for name in ("tonight", "memory", "pooled", "kept") if name in gate}
    rows = [("scores", "candidate"), ("champion_scores", "champion")]
    return [
        *([f"gate, {whose}", _named(gate[name])] for name, whose in rows if name in gate),
        *([f"gate, {name}", _interval(figures)] for name, figures in intervals.items()),
        *([f"gate, {name}", _interval(figures, " together")] for name, figures in gate.get("slices", {}).items()),
        *([["gate, flips", _flips(gate["flips"])]] if "flips" in gate else []),
    ]


def _flips(flips: dict[str, Any]) -> str:
    negative = flips["negative"]
    return (
        f"{negative['mean']:.1%} of {negative['n']:,} held-out rows were right and are wrong now, "
        f"{flips['positive']:.1%} the other way round"
    )


def _target(state: dict[str, Any]) -> str:
    """Say what is predicted."""
    name, classes = state["data"]["target"], state["schema"]["classes"]
    return f"{name}, one of {', '.join(classes)}" if classes else f"{name}, a quantity"


def _kinds(m: Manifest) -> list[Sequence[object]]:
    """Name the columns of each kind."""
    named: dict[str, list[str]] = {}
    for column in _columns(m):
        named.setdefault(column["kind"], []).append(column["name"])
    return [[f"{kind} columns", ", ".join(names)] for kind, names in named.items()]


def _position(name: str, cursor: Mapping[str, Any]) -> str:
    """Say how far a source was read, without the hashes that files are recognised by."""
    if "files" in cursor:
        at = {place: f", byte {f['offset']:,}" if "offset" in f else "" for place, f in cursor["files"].items()}
        return ", ".join(f"{place}: {f['rows']:,} rows{at[place]}" for place, f in cursor["files"].items())
    if "after" in cursor:
        return f"{name}: {cursor['rows']:,} rows, {', '.join(map(str, cursor['after'] or ['none']))}"
    return f"{name}: {cursor}"


def _scores(scores: dict[str, float]) -> str:
    """Say how the version before scored on all new rows."""
    if not scores:
        return "not scored"
    return f"{_named(scores)}, on {scores['rows']:,.0f} rows"


def _named(scores: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items() if name != "rows")


def _interval(figures: dict[str, Any], whose: str = "") -> str:
    low, high = ("-" if figures[end] is None else f"{figures[end]:+.4f}" for end in ("low", "high"))
    n = f"{figures['n']:,} rows"
    return f"candidate minus champion {figures['mean']:+.4f} on {n} (one-sided 95 % bounds{whose} {low} and {high})"


def learning_sentence(learning: dict[str, Any], parent: int | None) -> str:
    """Say where the loss on tonight's rows began and ended: a warm start begins at its parent's, not at chance."""
    if not learning.get("rows"):
        return "no rows to learn: cursors moved, weights stayed"
    before, after, constant = (
        "not a number" if learning[name] is None else f"{learning[name]:.4f}"
        for name in ("loss_before", "loss_after", "loss_of_constant")
    )
    chance = f"the best constant answer would have {constant}"
    if parent is None:
        return f"cold start; loss {after} after ({chance})"
    return f"warm start from version {parent}: loss {before} before, {after} after ({chance})"


def diff(before: int, after: int, name: str | None, path: Path, *, as_json: bool) -> None:
    """Show what differs between two versions of one model."""
    from nightfit.diff import diff as compare

    config = load(path)
    model = pick(config, name)
    found = compare(lineages(config, model)[model], before, after, config.models[model].learner)
    if as_json:
        print_json({"model": model, "before": before, "after": after, **asdict(found)})
        return
    display(f"{config.name}/{model}: from version {before} to version {after}")
    columns = ("", f"version {before}", f"version {after}")
    changes = [*found.config, *found.schema, *found.scores]
    display(table(columns, [[c.what, _cell(c.before), _cell(c.after)] for c in changes], left=columns))
    if found.weights:
        rows = [[w.name, *map(_norm, (w.before, w.after, w.difference))] for w in found.weights]
        display(table(("Euclidean norm of", *columns[1:], "of the difference"), rows, left=("Euclidean norm of",)))
    display(*found.notes, *([_flipped(found.flips)] if found.flips else []))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4f}"
    return "-" if value is None else str(value)


def _norm(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _flipped(flips: Flips) -> str:
    if flips.changed is None:
        return f"on the {flips.rows:,} rows kept for testing the answers differ by {flips.rms_change or 0:.4g} (RMS)"
    return (
        f"of the {flips.rows:,} rows kept for testing {flips.changed:,} are answered differently: "
        f"{flips.right_to_wrong:,} were right and are wrong, {flips.wrong_to_right:,} were wrong and are right"
    )


def verify(name: str | None, path: Path, *, as_json: bool) -> int:
    """Check every hash; return the exit code."""
    found = {model: verify_lineage(lineage) for model, lineage in lineages(load(path), name).items()}
    n_errors = sum(finding.level == "error" for findings in found.values() for finding in findings)
    if as_json:
        listed = {model: [asdict(finding) for finding in findings] for model, findings in found.items()}
        print_json({"ok": not n_errors, "models": listed})
    else:
        lines = [f"{model}: {f.level}: {f.message}" for model, findings in found.items() for f in findings]
        display(
            *lines,
            "every file of every version verifies" if not n_errors else f"{n_errors} error{'s' * (n_errors > 1)}",
        )
    return DataError.exit_code if n_errors else 0


def doctor(path: Path, *, as_json: bool) -> int:
    """Examine the machine, the config and the store; return the exit code."""
    from nightfit.doctor import examine

    checks = examine(path)
    ok = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        rows = [["ok" if check.ok else "PROBLEM", check.what, check.found] for check in checks]
        display(table(("", "what", "found"), rows, left=("", "what", "found")))
    return 0 if ok else ConfigError.exit_code
