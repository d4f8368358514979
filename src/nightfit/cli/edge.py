"""The one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from nightfit.errors import NightfitError

INTERRUPTED, TERMINATED, NOBODY_READS = 130, 143, 141
TRY_AGAIN, BAD_CONFIG = 75, 78

_OF_THE_MACHINE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP), BAD_CONFIG),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM), TRY_AGAIN),
}
"""Errors of the system that are no bug, wherever they come from, and their exit codes."""

_Misuse: Any = typer.BadParameter.__bases__[0]  # click's UsageError, which typer carries under a private name


class _TerminatedError(BaseException):
    """SIGTERM came."""


AGAIN_S = 1.0
"""Seconds after which a stop is asked for again: Python swallows what is raised while a destructor happens to run."""


class Group(TyperGroup):
    """Turns what escapes from a command into one line and an exit code."""

    _as_json = False

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> NoReturn:  # noqa: ANN401
        """Run the command that was typed, and exit."""
        typed = sys.argv[1:] if args is None else list(args)
        self._as_json = "--json" in typed
        try:
            code = super().main(typed, *more, **{**options, "standalone_mode": False})
        except _Misuse as error:
            if not typed:
                print(error.format_message())
                raise SystemExit(2) from None
            help_ = f"{error.ctx.command_path} --help" if error.ctx else "nightfit --help"
            self._fail(f"{error.format_message()} See `{help_}`.", 2)
        raise SystemExit(code or 0)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's
        """Run a command; SIGINT and SIGTERM end it in order."""
        came: list[int] = []

        def stop(number: int, _frame: object) -> NoReturn:
            if number != signal.SIGALRM:
                came.append(number)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise KeyboardInterrupt if came[0] == signal.SIGINT else _TerminatedError

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BaseException as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if came:  # whatever a library made of it on the way
                self._stopped(came[0])
            self._explain(error)
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
        return code

    def _stopped(self, number: int) -> NoReturn:
        word, code = ("interrupted", INTERRUPTED) if number == signal.SIGINT else ("terminated", TERMINATED)
        self._fail(f"{word}; nothing was committed that is not whole", code)

    def _explain(self, error: BaseException) -> None:
        """Say what is no bug; a bug goes on to its traceback, and still makes one JSON object."""
        if isinstance(error, NightfitError):
            self._fail(str(error), error.exit_code)
        if isinstance(error, BrokenPipeError):
            _let_go_of_stdout()
            raise SystemExit(NOBODY_READS) from None
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            place = f"{error.filename}: " if error.filename else ""
            self._fail(
                f"files must be readable and writable, however {place}{error.strerror}; mend that and run again",
                _OF_THE_MACHINE[error.errno],
            )
        if isinstance(error, MemoryError):
            self._fail(
                f"a run must get the memory that it needs, however: {str(error) or 'there is none left'}; free some "
                "and run again, or learn a long history in nights (`--night-rows`)",
                TRY_AGAIN,
            )
        if isinstance(error, Exception) and self._as_json and not isinstance(error, _Misuse):
            _print_error(f"a bug: {type(error).__name__}: {error}", 1)

    def _fail(self, message: str, code: int) -> NoReturn:
        line = " ".join(message.split())
        print(f"nightfit: {line}", file=sys.stderr)
        try:
            if self._as_json:
                _print_error(line, code)
            sys.stdout.flush()
        except OSError:
            _let_go_of_stdout()
        raise SystemExit(code) from None


def _let_go_of_stdout() -> None:
    """Send what stdout could not take nowhere: Python would try again at its end, and exit with 120 for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(line: str, code: int) -> None:
    from nightfit.render import print_json

    print_json({"error": line, "exit_code": code})
