from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightfit.errors import DataError
from nightfit.kinds import as_text, infer_kind, parse
from nightfit.sources import parquet as parquet_module
from nightfit.sources.files import FileSource, read_whole
from nightfit.testing import check_source

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor


def source(root: Path, path: str = "x.parquet") -> FileSource:
    """Make a source of one file, unless another path is given."""
    return FileSource(name="x", path=path, root=root)


def write(path: Path, *ids: int, **options: Any) -> None:  # noqa: ANN401
    """Write a file with these ids."""
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), path, **options)


class Night:
    """One reading of a source: its ids, notes, and the cursor reached."""

    def __init__(self, src: FileSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks: list[Chunk] = list(src.read(after, self.notes.append))
        self.ids = [row["id"] for chunk in self.chunks for row in chunk.table.to_pylist()]
        self.generations = {chunk.generation for chunk in self.chunks}
        last = self.chunks[-1] if self.chunks else None
        self.cursor = json.loads(json.dumps(last.cursor_at(len(last.table)))) if last else after


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("chunk_rows", [2, 65_536])
    def test_folder_of_a_file_a_night(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
        """A folder that gets one more file every night keeps the contract, across chunks and row groups."""
        monkeypatch.setattr(parquet_module, "CHUNK_ROWS", chunk_rows)
        n_files = 0

        def grow(n: int) -> None:
            nonlocal n_files
            n_files += 1
            write(tmp_path / f"{n_files}.parquet", *range(n), row_group_size=3)

        check_source(lambda: source(tmp_path, "."), grow)

    def test_folder_of_all_formats(self, tmp_path: Path) -> None:
        """A folder's files of all formats are read side by side, in the order of their names."""
        write(tmp_path / "b.PARQUET", 2)
        (tmp_path / "a.csv").write_text("id\n1\n")
        (tmp_path / "c.jsonl").write_text('{"id": 3}\n')
        (tmp_path / "d.ndjson").write_text('{"id": 4}\n')
        (tmp_path / "e.txt").write_text("id\n5\n")
        night = Night(source(tmp_path, "."))
        assert night.ids == ["1", 2, 3, 4]
        assert [chunk.place for chunk in night.chunks] == ["a.csv", "b.PARQUET", "c.jsonl", "d.ndjson"]
        assert Night(source(tmp_path, "."), night.cursor).chunks == []


class TestRows:
    """Which rows are read."""

    def test_row_groups_before_are_not_decoded(self, tmp_path: Path) -> None:
        """Reading on from a cursor does not touch the row groups before it."""
        path = tmp_path / "x.parquet"
        ids = np.random.default_rng(0).integers(0, 2**62, 30_000).tolist()
        write(path, *ids, row_group_size=10_000, compression="zstd", use_dictionary=False)
        (chunk,) = Night(source(tmp_path)).chunks
        data = bytearray(path.read_bytes())
        data[70_000:150_000] = bytes(80_000)
        path.write_bytes(data)
        with pytest.raises(DataError, match="sound Parquet file"):
            Night(source(tmp_path))
        assert Night(source(tmp_path), chunk.cursor_at(20_001)).ids == ids[20_001:]

    def test_half_written(self, tmp_path: Path) -> None:
        """A file without its footer waits for the next night, and is an error where it should be whole."""
        path = tmp_path / "x.parquet"
        write(path, 1, 2)
        whole = path.read_bytes()
        for n in (0, 1, 3, 4, 11, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:n])
            night = Night(source(tmp_path))
            assert night.chunks == []
            assert night.notes == [
                "x.parquet should be complete, however its footer is missing; it waits for the next night"
            ]
            with pytest.raises(DataError, match=r"its footer is missing|it is empty"):
                list(read_whole(path, note=print))
        path.write_bytes(whole)
        assert Night(source(tmp_path)).ids == [1, 2]

    def test_overwritten(self, tmp_path: Path) -> None:
        """A file that was overwritten is read from its start as a new generation; one with the same bytes is not."""
        path = tmp_path / "x.parquet"
        write(path, 1, 2)
        first = Night(source(tmp_path))
        path.write_bytes(path.read_bytes())
        assert Night(source(tmp_path), first.cursor).chunks == []
        write(path, 1, 3, write_statistics=False)
        second = Night(source(tmp_path), first.cursor)
        assert (second.ids, second.generations) == ([1, 3], {1})
        assert "it was overwritten" in second.notes[0]
        assert Night(source(tmp_path), second.cursor).chunks == []

    def test_overwritten_with_the_same_footer(self, tmp_path: Path) -> None:
        """Other values in a file of the same size and footer are found."""
        path = tmp_path / "x.parquet"
        plain = {"write_statistics": False, "compression": "none", "use_dictionary": False}
        write(path, 1, 2, **plain)
        first, n = Night(source(tmp_path)), path.stat().st_size
        write(path, 1, 3, **plain)
        assert path.stat().st_size == n
        assert Night(source(tmp_path), first.cursor).ids == [1, 3]

    def test_overwritten_by_no_rows(self, tmp_path: Path) -> None:
        """A file overwritten by one without rows moves the cursor, so that this is said once."""
        write(tmp_path / "x.parquet", 1)
        first = Night(source(tmp_path))
        write(tmp_path / "x.parquet")
        second = Night(source(tmp_path), first.cursor)
        assert [len(chunk.table) for chunk in second.chunks] == [0]
        third = Night(source(tmp_path), second.cursor)
        assert (third.chunks, third.notes) == ([], [])

    def test_whole_file(self, tmp_path: Path) -> None:
        """A whole file gives all its rows, one without rows its columns."""
        write(tmp_path / "x.parquet", *range(70_000))
        chunks = list(read_whole(tmp_path / "x.parquet", note=print))
        assert [len(chunk.table) for chunk in chunks] == [65_536, 70_000 - 65_536]
        assert np.array_equal(np.concatenate([chunk.rows for chunk in chunks]), np.arange(70_000))
        write(tmp_path / "x.parquet")
        (chunk,) = read_whole(tmp_path / "x.parquet", note=print)
        assert (chunk.table.column_names, len(chunk.table)) == (["id"], 0)


NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.UTC)
COLUMNS: list[tuple[pa.Array, list[Any]]] = [
    (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    (pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)), [1.5, None]),
    (pa.array([Decimal("1.5"), None], pa.decimal256(50, 3)), [1.5, None]),
    (pa.array([Decimal(12345678901234567890), None], pa.decimal128(20, 0)), ["12345678901234567890", None]),
    (pa.array([Decimal(7), None], pa.decimal128(9, 0)), [7.0, None]),
    (pa.array(["a", None], pa.large_string()), ["a", None]),
    (pa.array([b"\xc3\xa9", None], pa.binary()), ["é", None]),
    (pa.array([b"ab", None], pa.binary(2)), ["ab", None]),
    (pa.array([b"ab", None], pa.large_binary()), ["ab", None]),
    (pa.array([[1, None], None], pa.list_(pa.int64())), ["[1, null]", None]),
    (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), ['[["k", 1]]', None]),
    (pa.array([NOON, None], pa.timestamp("us", "Europe/Paris")), [NOON.replace(tzinfo=None), None]),
    (pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("ms")), [NOON.replace(tzinfo=None), None]),
    (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    (pa.array([dt.date(2026, 11, 3), None], pa.date32()), [dt.date(2026, 11, 3), None]),
    (pa.array([dt.time(12), None], pa.time64("us")), [dt.time(12), None]),
    (pa.array([dt.timedelta(minutes=1.5), None], pa.duration("ms")), [90.0, None]),
    (pa.array([np.float16(0.5), None], pa.float16()), [0.5, None]),
    (pa.array([None, None], pa.null()), [None, None]),
    (pa.array([True, None]), [True, None]),
    (pa.array([1, None], pa.int8()), [1, None]),
    (pa.array([0.5, None], pa.float32()), [0.5, None]),
]


class TestTypes:
    """Columns of any type, as columns that a night takes."""

    @pytest.mark.parametrize(("column", "expected"), COLUMNS, ids=[str(column.type) for column, _ in COLUMNS])
    def test_values(self, tmp_path: Path, column: pa.Array, expected: list[Any]) -> None:
        """Every type comes as numbers, text, booleans or times, has text, and parses as the kind it is taken for."""
        pq.write_table(pa.table({"c": column}), tmp_path / "x.parquet")
        (chunk,) = read_whole(tmp_path / "x.parquet", note=print)
        read = chunk.table["c"].combine_chunks()
        assert read.to_pylist() == expected
        text = as_text(read)
        assert text.is_valid().to_pylist() == [value is not None for value in expected]
        kind = infer_kind(text) or "categorical"
        values, bad = parse(read, kind, ("",))
        assert not bad.any()
        assert values.null_count == expected.count(None)

    def test_times_are_utc(self, tmp_path: Path) -> None:
        """A time with a zone is the second that it is in UTC."""
        pq.write_table(pa.table({"c": COLUMNS[11][0]}), tmp_path / "x.parquet")
        (chunk,) = read_whole(tmp_path / "x.parquet", note=print)
        values, _ = parse(chunk.table["c"].combine_chunks(), "datetime", ("",))
        assert values[0].as_py() == NOON.timestamp()

    def test_structs(self, tmp_path: Path) -> None:
        """Structs become columns of their own, null where the struct is."""
        rows = [{"c": {"a": 1, "b": {"x": "y"}}}, {"c": None}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        (chunk,) = read_whole(tmp_path / "x.parquet", note=print)
        assert chunk.table.to_pylist() == [{"c.a": 1, "c.b.x": "y"}, {"c.a": None, "c.b.x": None}]

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        """A column of bytes that are no text is an error that says to drop it."""
        pq.write_table(pa.table({"image": [b"\xff\xd8"]}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=r"'image' of x\.parquet is not; drop it in the export"):
            Night(source(tmp_path))

    def test_names_that_become_one(self, tmp_path: Path) -> None:
        """A struct's column that is called as another one is an error."""
        pq.write_table(pa.Table.from_pylist([{"a": {"b": 1}, "a.b": 2}]), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=r"'a\.b' is met more than once"):
            Night(source(tmp_path))


class TestFaults:
    """What cannot be read."""

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        """A file that is called Parquet and is none is an error."""
        (tmp_path / "x.parquet").write_text("id\n1\n")
        with pytest.raises(DataError, match=r"x\.parquet must be a Parquet file, however it starts otherwise"):
            Night(source(tmp_path))

    def test_corrupt(self, tmp_path: Path) -> None:
        """A file that cannot be decoded is an error in one line."""
        write(tmp_path / "x.parquet", *range(1000))
        for n in (10, -40):
            data = bytearray((tmp_path / "x.parquet").read_bytes())
            data[n : n + 30] = b"\xff" * 30
            (tmp_path / "x.parquet").write_bytes(data)
            with pytest.raises(DataError, match=r"^x\.parquet must be a sound Parquet file, however: .*$"):
                Night(source(tmp_path))

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is an error."""
        with pytest.raises(DataError, match="is not there"):
            Night(source(tmp_path))
        with pytest.raises(DataError, match="is not there"):
            list(read_whole(tmp_path / "x.parquet", note=print))
