"""The commands that score: predict, export, serve, token. They take what was typed, and print what came of it."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nightfit import __version__
from nightfit.config import Config, load
from nightfit.errors import UsageError
from nightfit.history import lineages, pick
from nightfit.inputs import Typed
from nightfit.render import print_json, show, status

if TYPE_CHECKING:
    from nightfit.jsontypes import Json
    from nightfit.outputs.base import Progress
    from nightfit.version import Version


def predict(
    data: Typed, output: str | None, output_table: str, name: str | None, version: int | None, device: str | None,
    path: Path, *, as_json: bool,
) -> None:  # fmt: skip
    """Score a file or a table."""
    from nightfit.outputs.make import output_to
    from nightfit.predict import predict as score

    if as_json and output is None:
        raise UsageError(
            "--json prints one object on stdout, however the predictions would go there too; name a file with -o"
        )
    config = load(path)
    data = replace(data, dialect=config.dialect)
    chosen, rules = pick(config, name), config.rules.schema
    loaded, where = _version(config, chosen, version, device)
    what: dict[str, Json] = {
        "input": data.identity(), "version": f"{config.store}/{config.name}/{chosen}/{loaded.number}",
        "rules": repr(rules), "device": where, "nightfit": __version__,
    }  # fmt: skip
    with status() as progress, output_to(output, output_table, what, _note, progress) as opened:
        done = score(loaded, data, rules, opened, note=_note, progress=lambda n: progress(f"predicting: {n:,} rows"))
    _print_predicted(done, loaded, where, output_table or output, as_json=as_json)


def _note(sentence: str) -> None:
    print(f"nightfit: {sentence}", file=sys.stderr)


def _version(config: Config, name: str, number: int | None, device: str | None) -> tuple[Version, str]:
    """Load a version: the one that is asked for, or the newest accepted one that verifies."""
    from nightfit.checkpoint import WEIGHTS
    from nightfit.names import is_record
    from nightfit.version import Version, find_version, load_version, usable_schema

    lineage = lineages(config, name)[name]
    manifest, files = find_version(
        lineage, number, lambda file: file == WEIGHTS or bool(device and not is_record(file)), lambda _, why: _note(why)
    )
    if device is None:
        return load_version(manifest, files, config.models[name].learner), "cpu (numpy)"
    from nightfit.device import choose
    from nightfit.resume import load_model

    chosen = choose(device)
    model = load_model(manifest, files, config.models[name], device=chosen.name, seed=config.seed)
    return Version(manifest.version, usable_schema(manifest), model), f"{chosen.name} ({chosen.reason})"


def export(
    format_name: str, output: Path | None, name: str | None, version: int | None, path: Path, *, as_json: bool
) -> None:
    """Write a version as one graph."""
    from nightfit.export.run import FORMAT, export

    if format_name != FORMAT:
        raise UsageError(f"--format must be {FORMAT}, however it is '{format_name}'")
    config = load(path)
    model = pick(config, name)
    lineage = lineages(config, model)[model]
    with status() as progress:
        progress("exporting")
        done = export(lineage, version, config.rules.schema, output, lambda _, why: _note(why))
    if as_json:
        print_json({**asdict(done), "output": str(done.output)})
    elif sys.stdout.isatty():
        show(
            f"version {done.model_version} of {lineage.name} as {done.output} ({done.bytes:,} bytes); it answers as "
            f"nightfit does on {done.rows_checked:,} rows, to {done.max_difference:.1g}"
        )


def _print_predicted(done: Progress, version: Version, where: str, output: str | None, *, as_json: bool) -> None:
    if done.unreadable:
        _note(
            f"{done.unreadable} of {done.rows} rows hold values of another kind and got no prediction: {done.example}"
        )
    if as_json:
        print_json(
            {
                "rows": done.rows, "unreadable": done.unreadable, "output": output,
                "model_version": version.number, "device": where,
            }
        )  # fmt: skip
    elif output is not None and sys.stdout.isatty():
        show(f"{done.rows:,} rows scored by version {version.number} on {where}, in {output}")


def serve(
    host: str,
    port: int,
    model: str | None,
    tokens: Path | None,
    allow_hosts: list[str],
    path: Path,
    *,
    log_requests: bool,
) -> None:
    """Serve the heads of lineages over HTTP until a signal says stop."""
    from nightfit.serving.run import Options, serve
    from nightfit.serving.tokens import Tokens

    config = load(path)
    options = Options(
        host, port, Tokens.read(tokens) if tokens else Tokens(), tuple(allow_hosts), logs_requests=log_requests
    )
    learners = {name: wanted.learner for name, wanted in config.models.items()}
    serve(lineages(config, model), config.rules, options, learners)


def token(*, as_json: bool) -> None:
    """Print a new bearer token and its digest."""
    from nightfit.serving.tokens import new_token

    text, digest = new_token()
    if as_json:
        print_json({"token": text, "sha256": digest})
    else:
        show(f"token   {text}", f"sha256  {digest}")
