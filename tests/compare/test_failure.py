"""What a model fails of: its kind survives the way to the parent, and a bug shows where it comes from."""

from __future__ import annotations

import pytest

from nightfit.compare.failure import Failure, failure
from nightfit.errors import ConfigError, DataError, TryAgainError


@pytest.mark.parametrize("kind", [ConfigError, DataError, TryAgainError])
def test_an_error_of_ours_keeps_its_kind(kind: type[DataError]) -> None:
    """Its sentence and its exit code come back as the same error."""
    told = failure(kind("a rule,\n however a fact"))
    again = Failure(told["failed"], told["code"]).error()
    assert (type(again), str(again)) == (kind, "a rule, however a fact")


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), 75), (OSError(28, "full"), 75), (ValueError("odd"), 1)])
def test_another_error_is_named(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What the machine lacks may come back, a bug does not; both leave a traceback."""
    told = failure(error)
    assert told["code"] == code
    assert told["failed"].startswith(type(error).__name__)
    assert type(error).__name__ in capsys.readouterr().err
