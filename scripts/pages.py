"""The code blocks of the docs: which there are, and what comes of them when a reader goes through a page.

A page is gone through from top to bottom in one empty folder, by one bash on a terminal. `console` blocks are sessions:
lines that begin with "$ ", each with what it prints. A block of another language whose first line is a comment with a
file's name is that file, and lies in the folder from there on; any other `python` block is run.
"""

import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

PROJECT = Path(__file__).resolve().parents[1]
PORT = "8080"
"""Where pages have a server listen; it runs at a free port instead, as this one may be taken."""

_BLOCK = re.compile(r"^( *)```(\w+)([^`\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_DONE = "\x1e"
"""What bash prints after each command, and nothing else does."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else its first line says, and its text."""

    language: str
    note: str
    text: str

    @property
    def file(self) -> str:
        """Name the file that the block is; empty if it is none."""
        found = _FILE.match(self.text) if self.language != "console" else None
        return found[1] if found else ""

    @property
    def typed(self) -> list[str]:
        """Return what is typed in a session, line by line."""
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, from top to bottom."""
    return [_block(found) for found in _BLOCK.finditer(page)]


def _block(found: re.Match[str]) -> Block:
    indent, language, note, text = found.groups()
    return Block(language, note.strip(), re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def runs(page: str) -> bool:
    """Say whether a page has anything to run."""
    return any(block.language in {"console", "python"} for block in blocks(page))


def with_output(page: str, folder: Path) -> str:
    """Return the page with what its sessions print now. Raises `RuntimeError` for a line that does not end with 0.

    `folder` is made to hold an empty one to work in, and a home in which ~/nightfit is the project.
    """
    port = _free_port()
    printed = _gone_through([*_commands(page)], folder, lambda text: text.replace(PORT, port))

    def replaced(found: re.Match[str]) -> str:
        block = _block(found)
        if block.language != "console":
            return found[0]
        session = "".join(f"$ {line}\n{next(printed).replace(port, PORT)}" for line in block.typed)
        return f"```console\n{session}```"

    return _BLOCK.sub(replaced, page)


def _commands(page: str) -> Iterator[tuple[str, bool]]:
    """Yield what bash is to run for a page, and whether the page shows what that prints."""
    for block in blocks(page):
        if block.language == "console":
            yield from ((line, True) for line in block.typed)
        elif block.file:
            yield f"mkdir -p $(dirname {block.file}); cat > {block.file} <<'END'\n{block.text}END", False
        elif block.language == "python":
            yield f"python - <<'END'\n{block.text}END", False


def _gone_through(commands: list[tuple[str, bool]], folder: Path, at_port: Callable[[str], str]) -> Iterator[str]:
    """Run commands one after another; yield what those print that are shown, without colours and empty lines."""
    lines = [f"{command}\ncode=$?; printf '\\036'; [ $code -eq 0 ] || exit $code\n" for command, _ in commands]
    printed, said, code = _on_a_terminal(at_port("".join(lines)), len(lines), folder)
    if code:
        failed = commands[min(printed.count(_DONE), len(commands)) - 1][0]
        raise RuntimeError(f"{failed!r} ended with {code}: {printed.rpartition(_DONE)[2]}{said}")
    for (_, is_shown), text in zip(commands, _COLOURS.sub("", printed).split(_DONE), strict=False):
        if is_shown:
            yield "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


def _on_a_terminal(script: str, n: int, folder: Path) -> tuple[str, str, int]:
    """Run n commands with a terminal as their stdout; return what they print there, their stderr and the exit code."""
    environment, work = _surroundings(folder)
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=stderr, cwd=work, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        printed = b""
        while printed.count(_DONE.encode()) < n and (piece := _read(ours)):
            printed += piece
        code = process.wait()
        with suppress(ProcessLookupError):  # what was left running in the background
            os.killpg(process.pid, SIGKILL)
        os.close(ours)
        stderr.seek(0)
        return printed.decode().replace("\r\n", "\n"), stderr.read(), code


def _surroundings(folder: Path) -> tuple[dict[str, str], Path]:
    """Make a home, programs to type and an empty folder; return the environment, and that folder."""
    home, programs, work = folder / "home", folder / "programs", folder / "empty"
    for made in (home, programs, work):
        made.mkdir()
    (home / "nightfit").symlink_to(PROJECT)
    for name, module in (("python", ""), ("nightfit", "-m nightfit")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    environment = {**os.environ, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "110"}
    environment.pop("NIGHTFIT_CONFIG", None)
    return environment | {"TERM": "xterm"}, work


def _read(terminal: int) -> bytes:
    """Read a piece; a terminal that was closed on the other side is an error on Linux and an end elsewhere."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def _free_port() -> str:
    """Return a port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])
