"""Drift: the column that moved is named first, once, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from nightfit.batch import Array, Batch, Rows
from nightfit.checkpoint import DRIFT, pack, unpack
from nightfit.drift import NEAR_NIGHTS, Drift, Move
from nightfit.schema import Schema
from pipe import Pipe, Row, make_rows

N = 600
WORDS = ["blue", "green", "red", "white"]
SCHEMA = (
    Schema()
    .with_columns({"x": "numeric", "y": "numeric", "c": "categorical", "d": "categorical"})
    .with_categories({"c": [*WORDS, "new"], "d": WORDS})
)
IDS = [np.array([column.categories[word] for word in WORDS]) for column in SCHEMA.categorical]
NEW, MISSING = SCHEMA.categorical[0].categories["new"], SCHEMA.categorical[0].missing_id


def night(seed: int, n: int = N) -> Batch:
    """Draw a night in which nothing moves: a number, a count that is mostly 0, two categories."""
    random = np.random.default_rng(seed)
    x_num = np.stack([random.normal(size=n), random.poisson(0.1, n)], 1)
    x_cat = np.stack([random.choice(ids, n, p=[0.05, 0.15, 0.3, 0.5]) for ids in IDS], 1).astype(np.int32)
    return Batch(random.integers(0, 2**63, n).astype(np.uint64), x_num, x_cat, np.zeros(n, np.int64))


def see(drift: Drift, rows: Batch) -> list[Move]:
    """Let a night pass, and return what is news."""
    return drift.observe(Rows([rows]), SCHEMA).news


def after(n_nights: int) -> Drift:
    """Return the drift of some nights in which nothing moved."""
    drift = Drift()
    for seed in range(n_nights):
        assert see(drift, night(seed)) == []
    return drift


def with_number(rows: Batch, place: int, values: Array) -> Batch:
    """Return the rows with other numbers in a column."""
    x_num = rows.x_num.copy()
    x_num[:, place] = values
    return Batch(rows.key_hash, x_num, rows.x_cat, rows.y)


def with_category(rows: Batch, of: int, to: int) -> Batch:
    """Return the rows with a category of the first column in place of another."""
    x_cat = rows.x_cat.copy()
    x_cat[x_cat[:, 0] == of, 0] = to
    return Batch(rows.key_hash, rows.x_num, x_cat, rows.y)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("place", "name"), [(0, "x"), (1, "y")])
def test_a_shift_of_one_deviation_is_found_tonight(place: int, name: str, sign: int) -> None:
    """A number that moves by its standard deviation is named, alone, whatever its distribution."""
    rows = night(99)
    (move,) = see(after(5), with_number(rows, place, rows.x_num[:, place] + sign * rows.x_num[:, place].std()))
    assert (move.column, move.what) == (name, "values")
    assert str(move).startswith(f"{name} (PSI ")


@pytest.mark.parametrize("word", range(4))
def test_a_renamed_category_is_found_tonight(word: int) -> None:
    """A category that comes under another name is named, be it that of half of the rows or of a twentieth."""
    (move,) = see(after(5), with_category(night(99), IDS[0][word], NEW))
    assert move.column == "c"


def test_a_rare_category_that_is_renamed_is_one_never_seen_before() -> None:
    """What moves no PSI still stands out as a category that was never seen."""
    few = night(99)
    few.x_cat[:12, 0] = NEW
    (move,) = see(after(5), few)
    assert str(move) == "c (2.0% categories never seen before)"


def test_values_that_go_missing_are_found_tonight() -> None:
    """Numbers and categories that are missing at once are named, with the share before and now."""
    rows = night(99)
    (move,) = see(after(3), with_number(rows, 0, np.where(np.arange(N) % 3, rows.x_num[:, 0], np.nan)))
    assert str(move) == f"x (missing 0.0% -> 33.3% against {'all rows learned before'})"
    (move,) = see(after(3), with_category(rows, IDS[0][2], MISSING))
    assert (move.column, move.what) == ("c", "missing")


def test_the_farther_column_comes_first() -> None:
    """Columns are named by how far they moved."""
    rows = with_number(night(99), 0, night(99).x_num[:, 0] + 0.7)
    assert [move.column for move in see(after(5), with_category(rows, IDS[0][3], NEW))] == ["c", "x"]


def test_a_shift_that_lasts_is_told_once() -> None:
    """The nights after a shift alarm no more, until the column moves twice as far."""
    drift, told = after(5), []
    for seed in range(100, 120):
        told += see(drift, moved_by(seed, 1))
    assert [move.column for move in told] == ["x"]
    assert see(drift, moved_by(120, 4))


def moved_by(seed: int, by: float) -> Batch:
    """Draw a night whose first number lies higher."""
    return with_number(night(seed), 0, night(seed).x_num[:, 0] + by)


@pytest.mark.parametrize(("n_nights", "is_told"), [(NEAR_NIGHTS - 1, False), (NEAR_NIGHTS, True)])
def test_a_second_incident_is_told_once_the_first_is_over(n_nights: int, is_told: bool) -> None:  # noqa: FBT001
    """The same shift again is news after ten usual nights, and not before."""
    drift = after(5)
    assert see(drift, moved_by(50, 1.5))
    assert [see(drift, night(seed)) for seed in range(100, 100 + n_nights)] == [[]] * n_nights
    assert bool(see(drift, moved_by(60, 1.5))) == is_told


def test_the_return_from_a_long_incident_is_told() -> None:
    """A column that is back after it was elsewhere for long has moved, against the night before."""
    drift = after(5)
    told = [see(drift, moved_by(seed, 1.5)) for seed in range(100, 101 + NEAR_NIGHTS)]
    assert [bool(news) for news in told] == [True] + NEAR_NIGHTS * [False]
    (move,) = see(drift, night(50))
    assert (move.column, move.reference) == ("x", "last")


def test_what_sways_with_the_weekday_is_told_once() -> None:
    """Of ten weeks with another level on Sundays the first one alarms, no other."""
    drift = after(5)
    told = [bool(see(drift, moved_by(seed, 1.5 * (seed % 7 == 6)))) for seed in range(70, 140)]
    assert any(told[:7])
    assert not any(told[7:])


@pytest.mark.parametrize(
    ("before", "now"), [(0, 0.02), (0, 0.03), (0.05, 0.15), (0.1, 0.25), (0.3, 0.5), (0.5, 0.7), (0.25, 0.1)]
)
def test_missing_shares_are_read_in_points(before: float, now: float) -> None:
    """Five points more or less are news, whatever PSI they come to, and so is a percent where none was missing."""

    def with_missing(seed: int, share: float) -> Batch:
        rows = night(seed, 2_000)
        return with_number(
            rows, 0, np.where(np.random.default_rng((seed, 1)).random(2_000) < share, np.nan, rows.x_num[:, 0])
        )

    drift = Drift()
    assert [see(drift, with_missing(seed, before)) for seed in range(5)] == [[]] * 5
    (move,) = see(drift, with_missing(77, now))
    assert (move.column, move.what) == ("x", "missing")


@pytest.mark.parametrize("outlier", [0.0, 1e5, 1e300])
def test_an_outlier_on_the_first_night_blinds_nobody(outlier: float) -> None:
    """Where most values are 0, a move of the others and the loss of the zeros are seen, whatever came at first."""

    def mostly_zero(seed: int, share: float = 0.2, by: float = 0) -> Batch:
        random = np.random.default_rng(seed)
        return with_number(night(seed), 1, np.where(random.random(N) < share, random.normal(100 + by, 20, N), 0))

    first, drift = mostly_zero(0), Drift()
    first.x_num[0, 1] = outlier
    assert [see(drift, rows) for rows in (first, *map(mostly_zero, range(1, 6)))] == [[]] * 6
    for rows in (mostly_zero(99, by=40), mostly_zero(99, share=1)):
        assert [move.column for move in see(deepcopy(drift), rows)] == ["y"]


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0), (1, 1e6), (0, 7)])
def test_after_a_change_of_unit_a_column_is_seen_as_before(scale: float, offset: float) -> None:
    """The change is told once; later a shift by a deviation of the new unit is found like any other."""
    drift = Drift()
    see(drift, with_number(night(0), 0, scale * night(0).x_num[:, 0] + offset))
    told = [[move.column for move in see(drift, night(seed))] for seed in range(1, 4 + NEAR_NIGHTS)]
    assert told == [["x"]] + [[]] * (len(told) - 1)
    (move,) = see(drift, moved_by(99, 1))
    assert move.column == "x"


def test_a_column_that_never_stays_is_told_once() -> None:
    """A number that grows from night to night, as one counted up does, outgrows its grid again and again in silence."""
    drift = Drift()
    told = [see(drift, with_number(night(seed), 0, 300 * night(seed).x_num[:, 0] + 1_000 * seed)) for seed in range(40)]
    assert [bool(news) for news in told] == [False, True] + [False] * 38


@pytest.mark.parametrize("n", [20, 100, N])
def test_nothing_moves_when_nothing_moves(n: int) -> None:
    """Of 200 nights from one distribution, however small, at most one in a hundred alarms."""
    drift = Drift()
    assert sum(bool(see(drift, night(seed, n))) for seed in range(200)) <= 2


def test_a_new_column_is_compared_from_its_second_night() -> None:
    """A column has its own first night: it does not alarm on it, and does when it moves after it."""
    drift, few = Drift(), Schema().with_columns({"x": "numeric"})
    one = night(0)
    drift.observe(Rows([Batch(one.key_hash, one.x_num[:, :1], one.x_cat[:, :0], one.y)]), few)
    assert see(drift, night(1)) == []
    (move,) = see(drift, with_number(night(2), 1, night(2).x_num[:, 1] + 5))
    assert move.column == "y"


def test_a_break_changes_nothing() -> None:
    """Saved and loaded after each night it says and keeps the same, to the bit."""
    whole, broken = Drift(), Drift()
    for seed in range(6):
        rows = with_number(night(seed), 0, night(seed).x_num[:, 0] + (seed > 3))
        answer = np.random.default_rng(seed).dirichlet([1, 1], N)
        assert see(whole, rows) == see(broken, rows)
        assert whole.watch(answer, rows) == broken.watch(answer, rows)
        state, arrays = broken.state()
        assert (state, pack(arrays)) == (whole.state()[0], pack(whole.state()[1]))
        broken = Drift.load(state, unpack(pack(arrays)))


@pytest.mark.parametrize("is_quantity", [False, True])
def test_an_error_that_rises_is_seen_and_one_that_falls_is_not(is_quantity: bool) -> None:  # noqa: FBT001
    """Answers that become worse are a cut, of classes and of a quantity; answers that become better are none."""
    random, drift, rows = np.random.default_rng(0), Drift(), night(0)
    y = random.normal(size=N) if is_quantity else random.integers(0, 2, N)
    rows = Batch(rows.key_hash, rows.x_num, rows.x_cat, y)

    def answers(error: float) -> Array:
        if is_quantity:
            return np.asarray(y + 2 * error * random.normal(size=N))
        return np.stack([np.where(y == k, 1 - error, error) for k in range(2)], 1)

    assert [drift.watch(answers(0.4), rows) for _ in range(2)] == [None, None]
    assert drift.watch(answers(0.1), rows) is None
    assert [drift.watch(answers(0.1), rows) for _ in range(2)] == [None, None]
    before, now = drift.watch(answers(0.5), rows) or (1.0, 0.0)
    assert before < now


def test_a_class_that_is_unknown_is_an_error() -> None:
    """Rows of a class that the champion does not know count as wrong."""
    rows = night(0)
    drift = Drift()
    drift.watch(np.tile([1.0, 0.0], (N, 1)), Batch(rows.key_hash, rows.x_num, rows.x_cat, np.full(N, -1)))
    assert drift.detector.mean == 1


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline that has learned four usual nights."""
    made = Pipe(tmp_path)
    for i in range(4):
        made.append(make_rows(N, start=i * N))
        assert made.night().alarms == []
    return made


def shifted(start: int) -> list[Row]:
    """Make a night whose x2 lies one deviation higher; the target does not mind."""
    return [row | {"x2": row["x2"] + 1} for row in make_rows(N, start=start)]


def kept(pipe: Pipe) -> Drift:
    """Return what the head remembers."""
    head = pipe.head()
    state = head.state["drift"]
    assert isinstance(state, dict)
    return Drift.load(state, unpack(pipe.lineage().load(head, [DRIFT])[DRIFT]))


def test_a_night_names_what_moved(pipe: Pipe) -> None:
    """The night of a shift says what moved, and that the error rose with it; its record has the figures.

    The next one is quiet.
    """
    pipe.append(shifted(4 * N))
    moved, rose = pipe.night(accept="on purpose").alarms
    assert moved.startswith("1 column moved: x2 (PSI ")
    assert rose.startswith("the error on rows before they are learned rose from 0.")
    drift = pipe.head().night["drift"]
    assert isinstance(drift, dict)
    assert drift["moved"] == ["x2"]
    columns = drift["columns"]
    assert isinstance(columns, list)
    assert isinstance(columns[0], dict)
    assert columns[0]["column"] == "x2"
    assert pipe.head().night["notes"] == [moved, rose]
    pipe.append(shifted(5 * N))
    assert pipe.night(accept="on purpose").alarms == []


def test_only_learned_rows_are_sketched(pipe: Pipe) -> None:
    """The sketch of all nights counts the learned rows and no others, that of the last night the last ones."""
    sketches = kept(pipe).sketches
    counts = {name: int(sketch.column(0)[1].sum()) for name, sketch in sketches.items()}
    learned = [manifest.rows.learned for manifest in pipe.lineage().ancestry(pipe.head())]
    assert counts["learned"] == sum(learned) < 4 * N
    assert {counts["first"], counts["last"]} <= set(learned)


def test_a_refused_night_leaves_no_trace(pipe: Pipe) -> None:
    """What a refused night sketched is not the head's: its rows come again, and are compared again."""
    before = pipe.head().files[DRIFT]
    pipe.append([row | {"x2": row["x2"] + 1} for row in make_rows(3 * N, start=4 * N, flipped=True)])
    result = pipe.night()
    assert result.status == "refused"
    assert "x2" in result.alarms[0]
    assert pipe.head().files[DRIFT] == before
    pipe.append(make_rows(N, start=7 * N))
    assert any("x2" in alarm for alarm in pipe.night().alarms)


def test_an_error_that_rises_is_an_alarm(pipe: Pipe) -> None:
    """Where the labels turn round the night says that the error rose, from what to what, whatever the columns do."""
    pipe.append(make_rows(N, start=4 * N, flipped=True))
    (alarm,) = pipe.night().alarms
    assert alarm.startswith("the error on rows before they are learned rose from 0.")


def test_the_command_line_tells_of_it(pipe: Pipe) -> None:
    """`train` prints one line for all models, and `show` a table with the column that moved first."""
    pipe.append(shifted(4 * N))
    pipe.config += '[models.again]\nkind = "partial_fit"\n'
    pipe.load()

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nightfit", *words, "--config", "n.toml"]
        return subprocess.run(command, cwd=pipe.root, capture_output=True, text=True, check=False, env=os.environ)

    done = typed("train")
    (said,) = [line for line in done.stderr.splitlines() if "moved" in line]
    assert said.startswith("nightfit: linear: 1 column moved: x2 (PSI ")
    shown = typed("show", "5", "--model", "linear").stdout.partition("how far columns moved, the farthest first")[2]
    rows = [line.split() for line in shown.splitlines() if line.strip()]
    assert rows[0][:2] == ["column", "alarm"]
    assert rows[2][:2] == ["x2", "new"]
