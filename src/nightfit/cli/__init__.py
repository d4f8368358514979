"""The command line: each command reads its options here and calls what does its work.

Nothing heavy is imported at the top: `--help`, `log` and `doctor` must not wait for torch.
"""

from __future__ import annotations

import sys

import typer

from nightfit.cli import answering, learning, looking, planning, upkeep
from nightfit.cli.edge import Group

app = typer.Typer(
    cls=Group,
    help="Keep tabular models fresh: learn each night only the rows that are new, and nothing twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    learning.init, learning.train, planning.schedule, answering.predict, answering.serve, answering.token,
    answering.export, learning.compare, looking.log, looking.report, looking.show, looking.diff, upkeep.rollback,
    upkeep.promote, upkeep.prune, upkeep.forget, looking.verify, looking.config, looking.doctor,
)  # fmt: skip
"""In the order of `--help`."""

for _command in COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to fail
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="nightfit")
