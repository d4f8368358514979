"""Put the program's own words into the docs: `--help` into docs/commands.md, what sessions print into their pages.

tests/test_docs.py and tests/test_sessions.py hold both to be what the program says.
Usage: python scripts/update_docs.py [PAGE...]; without a page it goes through all of them, which takes minutes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

import pages
from nightfit.cli import app

README, DOCS = pages.PROJECT / "README.md", pages.PROJECT / "docs"
COMMANDS = DOCS / "commands.md"


def commands() -> dict[str, set[str]]:
    """Return every command with its options, as the command line knows them."""
    group = typer.main.get_command(app)
    return {
        name: {opt for parameter in command.params for opt in parameter.opts if opt.startswith("-")}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def help_of(command: str) -> str:
    """Return what `nightfit COMMAND --help` prints on a terminal of 80 columns."""
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    environment.pop("NIGHTFIT_CONFIG", None)
    typed = [sys.executable, "-m", "nightfit", command, "--help"]
    return subprocess.run(typed, env=environment, capture_output=True, text=True, check=True).stdout


def with_help(page: str) -> str:
    """Return the page with every help block as it is now; a command without a section gets one at the end."""
    for command in commands():
        fence = f'```text title="nightfit {command} --help"\n'
        block = f"{fence}{help_of(command)}```\n"
        before, found, rest = page.partition(fence)
        if found:
            page = before + block + rest.partition("```\n")[2]
        else:
            page = f"{page.rstrip()}\n\n## `nightfit {command}`\n\n{block}"
    return page


def main(*names: str) -> None:
    """Rewrite the pages."""
    COMMANDS.write_text(with_help(COMMANDS.read_text(encoding="utf-8")), encoding="utf-8")
    for path in [Path(name) for name in names] or [README, *sorted(DOCS.glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        if pages.runs(page):
            with tempfile.TemporaryDirectory(prefix="nightfit-") as folder:
                path.write_text(pages.with_output(page, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
