"""Put the program's own words into the docs: `--help` into docs/commands.md, what its lines print into README.md.

tests/test_docs.py holds the help and README's session to be what the program says. Usage: python scripts/update_docs.py
"""

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

from nightfit.cli import app

PROJECT = Path(__file__).resolve().parents[1]
README, COMMANDS = PROJECT / "README.md", PROJECT / "docs" / "commands.md"
SESSION = re.compile(r"(?<=```console session\n).*?(?=```\n)", re.DOTALL)
COMPARED = re.compile(r"(?<=```console compare\n).*?(?=```\n)", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


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
        block = f"```text help {command}\n{help_of(command)}```\n"
        before, found, rest = page.partition(f"```text help {command}\n")
        if found:
            page = before + block + rest.partition("```\n")[2]
        else:
            page = f"{page.rstrip()}\n\n## `nightfit {command}`\n\n{block}"
    return page


def with_output(session: str, folder: Path, work: Path | None = None) -> str:
    """Return a session, lines that begin with "$ ", with what each prints now.

    It is run in `work`, or in an empty folder; `folder` holds a home, in which ~/nightfit is the project.
    Raises `RuntimeError` for a line that does not end with 0.
    """
    home, programs, empty = folder / "home", folder / "programs", folder / "empty"
    for made in (home, programs, empty):
        made.mkdir()
    (home / "nightfit").symlink_to(PROJECT)
    program = programs / "nightfit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nightfit "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "110"}
    environment |= {"TERM": "xterm"}
    environment.pop("NIGHTFIT_CONFIG", None)
    typed = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {line}\n{on_a_terminal(line, work or empty, environment)}" for line in typed)


def on_a_terminal(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a line of bash with a terminal as its stdout; return what it prints there, without colours."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", line], stdout=theirs, stderr=subprocess.PIPE, cwd=folder, env=environment
    )
    os.close(theirs)
    printed = b""
    while piece := _read(ours):
        printed += piece
    os.close(ours)
    said = process.communicate()[1].decode()
    if process.returncode:
        raise RuntimeError(f"{line!r} ended with {process.returncode}: {said}")
    lines = [text.rstrip() for text in _COLOURS.sub("", printed.decode()).splitlines()]
    return "".join(f"{text}\n" for text in lines if text)


def _read(terminal: int) -> bytes:
    """Read a piece; a terminal that was closed on the other side is an error on Linux and an end elsewhere."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def main() -> None:
    """Rewrite both pages."""
    COMMANDS.write_text(with_help(COMMANDS.read_text(encoding="utf-8")), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    for block, work in ((SESSION, None), (COMPARED, PROJECT)):
        with tempfile.TemporaryDirectory(prefix="nightfit-") as folder:
            session = with_output(block.findall(readme)[0], Path(folder), work)
        readme = block.sub(lambda _, session=session: session, readme)  # type: ignore[misc]
    README.write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    main()
