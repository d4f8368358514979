"""Every error that nightfit raises on purpose, in one tree.

The command line turns each into one line and an exit code; anything else that escapes is a bug (exit code 1).
A message says the rule, then the fact, then what to do: "rule, however: fact; then what to do".

    NightfitError
    ├── UsageError          2   the command line does not make sense
    ├── ConfigError        78   the config, or the device that it names, cannot work
    │   └── NotKeptError        a learner whose state has no form on disk that is safe to read
    ├── DataError          65   rows or files that cannot be used
    │   ├── CheckpointError     a version that does not verify or cannot be read
    │   └── GapError            a source has no longer what a cursor needs
    └── TryAgainError      75   nothing is wrong that time would not mend
        └── LockedError         another run holds the pipeline
"""

from __future__ import annotations

REFUSED = 3
"""The exit code of a night in which a model was refused by the gate: no error, but not what was hoped for."""


class NightfitError(Exception):
    """Base of all errors that nightfit raises on purpose; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(NightfitError):
    """The command line does not make sense (exit code 2)."""

    exit_code = 2


class ConfigError(NightfitError):
    """The config, or something that it names, cannot work (exit code 78, EX_CONFIG).

    `at` is the way to what is wrong in the config's document, as in ("sources", 0, "url"); empty: no key of it is.
    """

    exit_code = 78

    def __init__(self, message: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.at = at


class NotKeptError(ConfigError):
    """A learner whose state has no form on disk that is safe to read: it is for `compare` alone."""


class DataError(NightfitError):
    """Rows or files that cannot be used (exit code 65, EX_DATAERR)."""

    exit_code = 65


class CheckpointError(DataError):
    """A version that does not verify, does not exist, or was written by a newer nightfit."""


class GapError(DataError):
    """A source no longer holds what a cursor needs: rows were deleted before they were read."""


class TryAgainError(NightfitError):
    """Nothing is wrong that time would not mend (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75


class LockedError(TryAgainError):
    """Another run holds the pipeline's lock."""
