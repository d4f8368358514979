from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.errors import DataError
from nightfit.sources import blocks as blocks_module
from nightfit.sources import filereading
from nightfit.sources.blocks import Block, Blocks
from nightfit.sources.files import FileSource, read_whole
from nightfit.sources.jsonlines import parse_lines
from nightfit.sources.records import parse_record, to_table
from nightfit.testing import check_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor


def source(root: Path, path: str = "x.jsonl") -> FileSource:
    """Make a source of one file, unless another path is given."""
    return FileSource(name="x", path=path, root=root)


def night(src: FileSource, after: Cursor | None = None) -> tuple[list[Any], Cursor | None, list[str]]:
    """Read once: the rows, the cursor reached, and the notes."""
    notes: list[str] = []
    chunks: list[Chunk] = list(src.read(after, notes.append))
    rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
    cursor = json.loads(json.dumps(chunks[-1].cursor_at(len(chunks[-1].table)))) if chunks else after
    return rows, cursor, notes


def grower(path: Path, opener: Callable[[Path, str], Any] = open) -> Callable[[int], None]:
    """Give what appends n records to a file that starts with some awkward ones."""
    n_written = 0
    with opener(path, "wb") as file:
        file.write(
            b'\xef\xbb\xbf{"id": 0, "text": "a\\nb"}\r\n\r\n\n[1]\nbad\n{"id": "\xff"}\n \r\n\r{"id": 0, "text": ""}\n'
        )

    def grow(n: int) -> None:
        nonlocal n_written
        with opener(path, "ab") as file:
            for _ in range(n):
                n_written += 1
                file.write(b'{"id": %d, "text": "%d"}\n' % (n_written, n_written))

    return grow


def whole_block(data: bytes) -> Block:
    """Split data into one block of lines."""
    (block,) = Blocks(io.BytesIO(data).read, place="x.jsonl", quoted=False)
    return block


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.JSONL", "x.log"])
    def test_one_file(self, tmp_path: Path, name: str) -> None:
        """A growing file with blank lines, bad records and a byte order mark keeps the contract of a source."""
        check_source(lambda: source(tmp_path, name), grower(tmp_path / name))

    def test_small_blocks_and_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The contract holds across blocks and chunks, and beyond the stretches that are hashed."""
        monkeypatch.setattr(filereading, "CHUNK_ROWS", 2)
        monkeypatch.setattr(filereading, "HASHED_BYTES", 16)
        monkeypatch.setattr(filereading, "Blocks", lambda read, **options: Blocks(read, **{**options, "size": 13}))
        check_source(lambda: source(tmp_path), grower(tmp_path / "x.jsonl"))

    def test_gzip(self, tmp_path: Path) -> None:
        """A gzip to which members are appended keeps the contract."""
        check_source(lambda: source(tmp_path, "x.jsonl.gz"), grower(tmp_path / "x.jsonl.gz", gzip.open))


class TestLines:
    """What is a record, and what waits."""

    def test_half_written_line_waits(self, tmp_path: Path) -> None:
        """A last line without a newline is noted and waits for the next night, even where it is an object already."""
        path = tmp_path / "x.jsonl"
        path.write_text('{"id": 1}\n{"id": 2}')
        rows, cursor, notes = night(source(tmp_path))
        assert rows == [{"id": 1}]
        assert notes[0].startswith("the last line of x.jsonl should end with a newline")
        path.write_text('{"id": 1}\n{"id": 2}\n')
        assert night(source(tmp_path), cursor)[0] == [{"id": 2}]

    def test_empty_file(self, tmp_path: Path) -> None:
        """A file without lines has nothing new, and nothing to complain about."""
        (tmp_path / "x.jsonl").touch()
        assert night(source(tmp_path)) == ([], None, [])

    def test_overwritten(self, tmp_path: Path) -> None:
        """A file that was overwritten is read from its start; one with the same bytes again is not."""
        path = tmp_path / "x.jsonl"
        path.write_text('{"id": 1}\n')
        _, cursor, _ = night(source(tmp_path))
        path.write_text('{"id": 1}\n')
        assert night(source(tmp_path), cursor)[0] == []
        path.write_text('{"id": 2}\n')
        rows, _, notes = night(source(tmp_path), cursor)
        assert rows == [{"id": 2}]
        assert "it was overwritten" in notes[0]

    def test_bad_records(self) -> None:
        """What is no object, or no JSON, or not UTF-8 is a bad record with its number, its reason and its text."""
        records = parse_lines(whole_block(b'{"a":1}\n[1]\n{"a":\n\xff\n' + b"x" * 999 + b"\n"), 0, 5, columns=(), row=7)
        assert records.table.to_pylist() == [{"a": 1}]
        assert records.index.tolist() == [0]
        assert [(bad.row, bad.text[:5]) for bad in records.bad] == [(8, "[1]"), (9, '{"a":'), (10, "�"), (11, "xxxxx")]
        assert all(bad.reason.startswith("a record must be a JSON object, however") for bad in records.bad)
        assert len(records.bad[-1].text) == 200

    def test_quotes_mean_nothing(self) -> None:
        """A quote that is left open spoils its own line only."""
        assert len(whole_block(b'{"a": "x}\n{"b": 1}\n')) == 2

    def test_line_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line that does not end is an error before it fills the memory."""
        monkeypatch.setattr(blocks_module, "RECORD_BYTES", 1000)
        with pytest.raises(DataError, match=r"record 1 of x\.jsonl is not; is it a file of JSON lines"):
            list(Blocks(io.BytesIO(5000 * b"x").read, place="x.jsonl", size=300, quoted=False))

    def test_whole_file(self, tmp_path: Path) -> None:
        """Of a file that is complete, the last line counts without a newline too; every chunk has all columns."""
        (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"b": {"c": [1, "x"]}}')
        chunks = list(read_whole(tmp_path / "x.jsonl", note=print))
        rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
        assert rows == [{"a": 1, "b.c": None}, {"a": None, "b.c": '[1, "x"]'}]
        assert [chunk.table.column_names for chunk in chunks] == [["a", "b.c"]] * 2

    def test_format_of_other_names(self, tmp_path: Path) -> None:
        """A name that says nothing is of JSON lines if it starts with a brace, otherwise of CSV."""
        (tmp_path / "a.log").write_text('\n {"id": 1}\n')
        (tmp_path / "b.log").write_text("id\n1\n")
        assert night(source(tmp_path, "a.log"))[0] == [{"id": 1}]
        assert night(source(tmp_path, "b.log"))[0] == [{"id": "1"}]


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc."), inner, max_size=2),
    max_leaves=4,
)
RECORD = st.dictionaries(st.sampled_from(["a", "b", "a.b", "c", ""]), VALUE, max_size=4)


class TestValues:
    """Lines as columns."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(RECORD, min_size=1, max_size=8))
    def test_as_the_records_of_any_source(self, records: list[dict[str, Any]]) -> None:
        """A table of lines is that which every source makes of the same records, with its types."""
        lines = [json.dumps(record, ensure_ascii=True).encode() for record in records]
        parsed = [parse_record(line) for line in lines]
        good = [record for record in parsed if isinstance(record, dict)]
        block = whole_block(b"".join(line + b"\n" for line in lines))
        table = parse_lines(block, 0, len(block), columns=(), row=0).table
        expected = to_table(good)
        assert sorted(table.column_names) == sorted(expected.column_names)
        assert table.select(expected.column_names).equals(expected)

    def test_types(self) -> None:
        """Whole numbers, fractions and booleans have types; mixtures and dates are text."""
        data = b'{"i": 1, "f": 1.5, "b": true, "m": 1, "d": "2026-11-03"}\n{"i": 2, "f": 2, "b": false, "m": "x"}\n'
        table = parse_lines(whole_block(data), 0, 2, columns=(), row=0).table
        assert [str(field.type) for field in table.schema] == ["int64", "double", "bool", "string", "string"]
        assert np.array_equal(table["m"].to_pylist(), ["1", "x"])
