"""The command that says how a night is started by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightfit.cli.options import DEFAULT_CONFIG, ConfigPath, Json
from nightfit.errors import UsageError


def schedule(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="cron, systemd, airflow or kubernetes.")],
    at: Annotated[str, typer.Option(metavar="HH:MM", help="The time of day; for the last two in UTC.")] = "02:30",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write the file(s) there; stdout if not given."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Print what makes cron, systemd, Airflow or Kubernetes run the nights.

    A ready, commented file that only calls this program, tries again what time may mend (75), and stops at what it
    does not (65, 78).
    """
    from nightfit.atomic import whole_file
    from nightfit.render import print_json
    from nightfit.schedule import airflow, cron, kubernetes, systemd
    from nightfit.schedule.plan import Plan

    kinds = {"cron": cron.files, "systemd": systemd.files, "airflow": airflow.files, "kubernetes": kubernetes.files}
    if kind not in kinds:
        raise UsageError(f"a schedule must be for {', '.join(kinds)}, however it is for '{kind}'")
    files = kinds[kind](Plan.of(config, at))
    written = [output / name for name in files] if output else []
    for path, text in zip(written, files.values(), strict=False):
        with whole_file(path) as file:
            file.write(text.encode())
    if as_json:
        print_json({"files": files, "written": [*map(str, written)]})
    elif written:
        print(*(f"wrote {path}" for path in written), sep="\n")
    elif len(files) == 1:
        print(*files.values(), end="")
    else:
        print("\n".join(f"# ---- {name}\n{text}" for name, text in files.items()), end="")
