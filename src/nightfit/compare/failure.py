"""What a model failed of: said in its place in the result, while the others go on."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple

from nightfit.errors import ConfigError, DataError, NightfitError, TryAgainError


class Failure(NamedTuple):
    """A sentence, and the exit code of its kind."""

    said: str
    code: int

    def error(self) -> NightfitError:
        """Return it as what a command that has nothing else to tell raises."""
        kinds: dict[int, type[NightfitError]] = {
            kind.exit_code: kind for kind in (DataError, ConfigError, TryAgainError)
        }
        return kinds.get(self.code, DataError)(self.said)


def failure(error: Exception) -> dict[str, Any]:
    """Return what is to be told of an error; of one that is none of ours also where it comes from, on stderr."""
    text = " ".join(str(error).split())
    if isinstance(error, NightfitError):
        return {"failed": text, "code": error.exit_code}
    traceback.print_exception(error)
    is_of_machine = isinstance(error, (MemoryError, OSError))
    return {"failed": f"{type(error).__name__}: {text}", "code": 75 if is_of_machine else 1}
