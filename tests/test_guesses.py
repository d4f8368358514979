from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nightfit.guesses import Looked, cursor_of, key_of, night_of, target_of
from nightfit.kinds import as_text, infer_kind
from nightfit.sources.increment import Cut

N = 3000
NUMBERS = [str(i) for i in range(N)]
HOURS = [str(np.datetime64("2026-01-01T00:00") + np.timedelta64(60 * i, "m")) for i in range(N)]
MINUTES = [str(np.datetime64("2026-01-01T00:00") + np.timedelta64(i, "m")) for i in range(N)]
CLASSES = ["a", "b", "c"] * (N // 3)
YES = ["0", "1"] * (N // 2)
PRICES = [f"{i / 7:.3f}" for i in range(N)]
CODES = [f"k{i}" for i in range(N)]


def looked(**columns: list[str]) -> Looked:
    """Look at columns of text."""
    texts = {name: as_text(pa.array(values)) for name, values in columns.items()}
    return Looked(texts, {name: infer_kind(text) for name, text in texts.items()}, N)


@pytest.mark.parametrize(
    ("columns", "target", "why"),
    [
        ({"label": CLASSES, "is_new": YES, "last": CLASSES}, "label", "is named like a target"),
        ({"x_target": PRICES, "last": CLASSES}, "x_target", "is named like a target"),
        ({"is_new": YES, "is_back": YES, "last": CLASSES}, "is_back", "two answers"),
        ({"is_new": CLASSES, "colour": CLASSES, "price": PRICES}, "colour", "the last column with 2 to 50"),
        ({"price": PRICES, "same": ["x"] * N}, "", "the last column with"),
        ({"label": [""] * N, "colour": CLASSES}, "colour", "the last column with"),
    ],
)
def test_the_target(columns: dict[str, list[str]], target: str, why: str) -> None:
    """By its name, then as a question with two answers, then the last that could be classes; none is none."""
    found, reason = target_of(looked(**columns))
    assert found == target
    assert why in reason


@pytest.mark.parametrize(
    ("columns", "cursor"),
    [
        ({"id": NUMBERS, "at": HOURS}, ("id",)),
        ({"uuid": CODES, "at": HOURS}, ("at", "uuid")),
        ({"uuid": CODES, "at": HOURS, "updated": HOURS}, ("updated", "uuid")),
        ({"at": HOURS, "y": CLASSES}, ("at",)),
        ({"n": NUMBERS, "y": CLASSES}, ()),
        ({"uuid": CODES, "at": ["", *HOURS[1:]], "y": CLASSES}, ()),
        ({"y": CLASSES}, ()),
    ],
)
def test_the_cursor(columns: dict[str, list[str]], cursor: tuple[str, ...]) -> None:
    """A key that is a number, else the time at which a row was last changed; a key of letters orders nothing."""
    here = looked(**columns)
    found, reason = cursor_of(here, key_of(here, "y")[0])
    assert found == cursor
    assert reason


@pytest.mark.parametrize(
    ("columns", "night"),
    [
        ({"at": MINUTES}, "--night-column at --every 1d"),
        ({"at": HOURS}, "--night-column at --every 4w"),
        ({"day's at": MINUTES}, "--night-column 'day'\"'\"'s at' --every 1d"),
        ({"at": HOURS[::-1]}, "--night-rows 500"),
        ({"x": NUMBERS}, "--night-rows 500"),
    ],
)
def test_the_night(columns: dict[str, list[str]], night: str) -> None:
    """The shortest of day, week and four weeks that has enough rows, of a time that grows; otherwise rows."""
    found, reason = night_of(looked(**columns))
    assert found == night
    assert reason


def test_a_short_history_is_one_night() -> None:
    """Few rows are not cut, whatever times they have."""
    few = looked(at=MINUTES[:400])
    assert night_of(Looked(few.texts, few.kinds, 400)) == ("", "400 rows are one night")


def test_a_guessed_length_is_one_that_train_reads() -> None:
    """What is proposed as `--every` means the length that was counted."""
    night, _ = night_of(looked(at=HOURS))
    cut = Cut.parse(None, "at", night.rpartition(" ")[2])
    assert cut
    assert cut.every_s == 28 * 86_400
