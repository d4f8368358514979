from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.errors import ConfigError, UsageError
from nightfit.sources.base import BadRow, Chunk, Cursor, Surroundings
from nightfit.sources.configs import FileConfig, SqlConfig
from nightfit.sources.files import FileSource
from nightfit.sources.increment import Cut, Increment, read_increment
from nightfit.sources.make import make_source
from nightfit.sources.sql import SqlSource

BAD = "bad"


@dataclass
class Records:
    """A source of records in memory: their `at`, or `BAD`; `n_chunk` of them in a chunk."""

    name: str
    records: Sequence[str | None]
    n_chunk: int = 3
    n_reads: int = 0

    def read(self, after: Cursor | None, note: Callable[[str], None]) -> Iterator[Chunk]:  # noqa: ARG002 - no notes
        """Yield what lies after the cursor."""
        self.n_reads += 1
        start = int(str(after["n"])) if after else 0
        for first in range(start, len(self.records), self.n_chunk):
            stop = min(first + self.n_chunk, len(self.records))
            good = [i for i in range(first, stop) if self.records[i] != BAD]
            ends: list[int] = [*good, stop]
            yield Chunk(
                place=self.name,
                table=pa.table({"at": pa.array([self.records[i] for i in good], pa.string())}),
                rows=np.array(good, np.int64),
                generation=0,
                cursor_at=lambda i, ends=ends: {"n": ends[i]},  # type: ignore[misc]
                bad=tuple(BadRow(i, "bad", "") for i in range(first, stop) if i not in good),
            )


def read(sources: Sequence[Records], folder: Path, cut: Cut | None = None, **more: object) -> Increment:
    """Read from the start, unless `after` says otherwise."""
    after = more.pop("after", {})
    return read_increment(sources, after, folder, cut=cut, **more)  # type: ignore[arg-type]


def staged(increment: Increment) -> list[str | None]:
    """Return the staged values, in order."""
    return [value for part in increment.parts for value in part.table["at"].to_pylist()]


def nights(sources: Sequence[Records], folder: Path, cut: Cut, n_max: int = 50) -> list[Increment]:
    """Read night after night until nothing comes."""
    done: list[Increment] = []
    for i in range(n_max):
        done.append(read(sources, folder / f"{len(done)}-{i}", cut, after=done[-1].cursors if done else {}))
        if not done[-1].n_rows:
            return done[:-1]
    raise AssertionError("the nights did not end")


def day(n: int) -> str:
    """Return a time on the n-th day."""
    return f"2026-11-{n:02d}T03:00:00"


def test_everything_is_staged_and_counted(tmp_path: Path) -> None:
    """All sources are read to their ends; rows and unsplittable records count, and cursors stand at the ends."""
    told: list[int] = []
    sources = [Records("a", ["1", "2", BAD, "4"]), Records("b", ["5"])]
    increment = read(sources, tmp_path / "raw", progress=told.append, after={"gone": {"n": 9}})
    assert staged(increment) == ["1", "2", "4", "5"]
    assert (increment.n_read, increment.n_rows, sum(told)) == ({"a": 4, "b": 1}, 5, 4)
    assert increment.cursors == {"a": {"n": 4}, "b": {"n": 1}, "gone": {"n": 9}}, "a source that left may come back"
    assert [(part.source, part.rows.tolist()) for part in increment.parts][:2] == [("a", [0, 1]), ("a", [3])]


def test_nothing_new_is_nothing(tmp_path: Path) -> None:
    """At the end of a source there is no row, and the cursor stays."""
    increment = read([Records("a", ["1"])], tmp_path / "raw", after={"a": {"n": 1}})
    assert (increment.n_rows, increment.cursors, increment.parts) == (0, {"a": {"n": 1}}, [])


@settings(deadline=None)
@given(
    records=st.lists(st.sampled_from(["x", BAD]), max_size=20),
    n_chunk=st.integers(1, 5),
    n_rows=st.integers(1, 7),
)
def test_nights_of_rows_lose_none(
    records: list[str], n_chunk: int, n_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut into nights of N records, every record comes in exactly one night, bad ones included, and nights are full."""
    folder = tmp_path_factory.mktemp("raw")
    done = nights([Records("a", records, n_chunk)], folder, Cut(n_rows=n_rows))
    rows = [int(i) for night in done for part in night.parts for i in part.rows]
    bad = [record.row for night in done for part in night.parts for record in part.bad]
    assert sorted([*rows, *bad]) == list(range(len(records)))
    assert sum(night.n_rows for night in done) == len(records)
    assert all(night.n_rows >= n_rows for night in done[:-1]), "bad records after the last row may come on top"


@settings(deadline=None)
@given(records=st.lists(st.sampled_from(["x", BAD]), min_size=1, max_size=20), n_chunk=st.integers(1, 5))
def test_a_refused_night_joins_the_next(
    records: list[str], n_chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With records to skip, the night holds them and N more: the refused night and the next."""
    folder, cut = tmp_path_factory.mktemp("raw"), Cut(n_rows=3)
    source = Records("a", records, n_chunk)
    first = read([source], folder / "1", cut)
    both = read([source], folder / "2", cut, skip=first.n_read)
    after = read([source], folder / "3", cut, after=first.cursors)
    assert both.n_rows == first.n_rows + after.n_rows
    assert both.cursors["a"] == after.cursors.get("a", first.cursors["a"])


def test_periods_cut_nights(tmp_path: Path) -> None:
    """A night ends with its period; rows without a time, and late ones, belong to the night in which they come."""
    source = Records("a", [day(1), day(1), None, day(2), day(1), BAD, day(4), day(4)])
    done = nights([source], tmp_path, Cut(column="at"))
    assert [staged(night) for night in done] == [[day(1), day(1), None], [day(2), day(1)], [day(4), day(4)]]
    assert [night.n_rows for night in done] == [3, 3, 2]


def test_sources_are_aligned_by_time(tmp_path: Path) -> None:
    """Several sources go through the same periods together, also where one of them has nothing."""
    a, b = Records("a", [day(1), day(2), day(2), day(5)]), Records("b", [day(2), day(3), day(5)])
    done = nights([a, b], tmp_path, Cut(column="at"))
    assert [staged(night) for night in done] == [[day(1)], [day(2), day(2), day(2)], [day(3)], [day(5), day(5)]]


def test_a_refused_period_joins_the_next(tmp_path: Path) -> None:
    """With the refused period's records to skip, the night ends with the period after them."""
    source = Records("a", [day(1), BAD, day(1), day(2), day(2), day(3)], n_chunk=2)
    first = read([source], tmp_path / "1", Cut(column="at"))
    both = read([source], tmp_path / "2", Cut(column="at"), skip=first.n_read)
    assert staged(both) == [day(1), day(1), day(2), day(2)]


def test_other_lengths_of_a_night(tmp_path: Path) -> None:
    """`--every` sets the length of a period."""
    cut = Cut.parse(None, "at", "2d")
    assert cut is not None
    assert len(nights([Records("a", [day(n) for n in range(1, 9)])], tmp_path, cut)) == 4
    assert [Cut.parse(None, "at", every).every_s for every in ("90s", "5m", "1.5h", "1w")] == [90, 300, 5400, 604_800]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ((0, None, None), "--night-rows >= 1"),
        ((5, "at", None), "both or 0"),
        ((None, None, "1d"), "--every needs --night-column"),
        ((5, None, "1d"), "--every needs --night-column"),
        ((None, "at", "soon"), "it is 'soon'; try 1d"),
        ((None, "at", "0d"), "it is '0d'"),
    ],
)
def test_senseless_cuts_are_refused(typed: tuple[int | None, str | None, str | None], said: str) -> None:
    """What cannot cut a night is an error of use."""
    with pytest.raises(UsageError, match=said):
        Cut.parse(*typed)
    assert Cut.parse(None, None, None) is None


def test_the_night_column_must_hold_times(tmp_path: Path) -> None:
    """A column that is not there, or holds no times, is an error and not one endless night."""
    with pytest.raises(ConfigError, match="'when' is not among at"):
        read([Records("a", ["1"])], tmp_path / "1", Cut(column="when"))
    with pytest.raises(ConfigError, match="'at' holds '17'"):
        read([Records("a", ["17", "18"])], tmp_path / "2", Cut(column="at"))


def test_sources_are_made_of_their_tables(tmp_path: Path) -> None:
    """A path makes a file source and a database's URL an SQL source, in the order of its cursor or else the key."""
    assert isinstance(make_source(FileConfig("a.csv", "a"), Surroundings((), "y", tmp_path)), FileSource)
    config = SqlConfig("sqlite:///x.db", "db", table="t")
    source = make_source(config, Surroundings(("id",), "y", tmp_path))
    assert isinstance(source, SqlSource)
    assert source.order == ("id",)
    with pytest.raises(ConfigError, match="a cursor column that grows, however db has none"):
        make_source(config, Surroundings((), "y", tmp_path))
