from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.errors import DataError, TryAgainError
from nightfit.sources import blocks as blocks_module
from nightfit.sources import filereading
from nightfit.sources.files import FileSource, read_whole
from nightfit.sources.unpack import opened
from nightfit.testing import check_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightfit.sources.base import Chunk, Cursor

HEADER = "ID,text\n"


def source(root: Path, path: str = "x.csv", *, optional: bool = False) -> FileSource:
    """Make a source of one file, unless another path is given."""
    return FileSource(name="x", path=path, root=root, optional=optional)


class Night:
    """One reading of a source: its rows, bad rows, notes, and the cursor reached."""

    def __init__(self, src: FileSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks: list[Chunk] = list(src.read(after, self.notes.append))
        self.ids = [row["ID"] for chunk in self.chunks for row in chunk.table.to_pylist()]
        self.bad = [row for chunk in self.chunks for row in chunk.bad]
        self.generations = {chunk.generation for chunk in self.chunks}
        last = self.chunks[-1] if self.chunks else None
        self.cursor = last.cursor_at(len(last.table)) if last else after


def lines(*ids: object) -> str:
    """Write records with these ids."""
    return "".join(f"{i},a\n" for i in ids)


def append(path: Path, text: str) -> None:
    """Append text as it is."""
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(text)


def grower(path: Path, opener: Callable[[Path, str], Any] = open) -> Callable[[int], None]:
    """Give what appends n records to a file that starts with some awkward ones."""
    n_written = 0
    with opener(path, "wb") as file:
        file.write(b'\xef\xbb\xbfID,text\r\n"a\nb","say ""x"""\r\n\r\nbad\r\n\xff,1\r\n5" pipe,\n')

    def grow(n: int) -> None:
        nonlocal n_written
        with opener(path, "ab") as file:
            for _ in range(n):
                n_written += 1
                file.write(f'{n_written},"line\n{n_written}"\n'.encode())

    return grow


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    def test_one_file(self, tmp_path: Path) -> None:
        """A growing file with quotes, blank lines and bad records keeps the contract of a source."""
        check_source(lambda: source(tmp_path), grower(tmp_path / "x.csv"))

    def test_small_blocks_and_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The contract holds across blocks and chunks, and beyond the stretches that are hashed."""
        monkeypatch.setattr(filereading, "CHUNK_ROWS", 2)
        monkeypatch.setattr(filereading, "HASHED_BYTES", 16)
        monkeypatch.setattr(filereading, "Blocks", _small_blocks)
        check_source(lambda: source(tmp_path), grower(tmp_path / "x.csv"))

    def test_gzip(self, tmp_path: Path) -> None:
        """A gzip to which members are appended keeps the contract."""
        check_source(lambda: source(tmp_path, "x.csv.gz"), grower(tmp_path / "x.csv.gz", gzip.open))

    @pytest.mark.parametrize("path", [".", "*.csv", "**/*.csv"])
    def test_several_files(self, tmp_path: Path, path: str) -> None:
        """A folder or glob whose first file grows keeps the contract."""
        (tmp_path / "y.csv").write_text("other\n1\n2\n")
        check_source(lambda: source(tmp_path, path), grower(tmp_path / "x.csv"))

    def test_folder_of_a_file_a_night(self, tmp_path: Path) -> None:
        """A folder that gets one more file every night keeps the contract."""
        n_files = 0

        def grow(n: int) -> None:
            nonlocal n_files
            n_files += 1
            (tmp_path / f"{n_files}.csv").write_text(HEADER + lines(*range(n)))

        check_source(lambda: source(tmp_path, "."), grow)


def _small_blocks(read: Callable[[int], bytes], **options: Any) -> blocks_module.Blocks:  # noqa: ANN401
    return blocks_module.Blocks(read, **{**options, "size": 13})


CELL = st.text(alphabet='",\n\r aé\0', max_size=6)


class TestCutPoints:
    """Files that are cut off anywhere."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(records=st.lists(st.tuples(CELL, CELL), max_size=12), data=st.data())
    def test_reading_night_by_night(self, tmp_path: Path, records: list[tuple[str, str]], data: st.DataObject) -> None:
        """A file that was cut off anywhere each night is read as Python's csv module reads it whole."""
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([("ID", "b"), *records])
        whole = text.getvalue().encode()
        cuts = sorted(data.draw(st.lists(st.integers(1, len(whole)), max_size=4)))
        read: list[tuple[str, ...]] = []
        cursor = None
        for cut in [*cuts, len(whole)]:
            (tmp_path / "x.csv").write_bytes(whole[:cut])
            night = Night(source(tmp_path), cursor)
            read += [tuple(row.values()) for chunk in night.chunks for row in chunk.table.to_pylist()]
            assert night.generations <= {0}
            cursor = night.cursor and json.loads(json.dumps(night.cursor))
        expected = csv.reader(io.StringIO(whole.decode(), newline=""))
        assert read == [tuple(record) for record in expected][1:]


class TestGrowth:
    """A file that grows."""

    def test_half_written_line_waits(self, tmp_path: Path) -> None:
        """A last line without a newline is noted with its bytes, and read once it is complete."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(1) + "2,hal")
        first = Night(source(tmp_path))
        assert first.ids == ["1"]
        (note,) = first.notes
        assert note.startswith("the last line of x.csv should end with a newline, however its 5 bytes have none")
        append(path, "f\n3,a\n")
        second = Night(source(tmp_path), first.cursor)
        assert second.ids == ["2", "3"]
        assert second.notes == []
        assert second.chunks[0].rows.tolist() == [1, 2]

    def test_half_written_header_waits(self, tmp_path: Path) -> None:
        """A header line without a newline waits as well."""
        (tmp_path / "x.csv").write_text("ID,te")
        night = Night(source(tmp_path))
        assert night.chunks == []
        assert "header line is not complete" in night.notes[0]

    def test_file_grows_while_it_is_read(self, tmp_path: Path) -> None:
        """What is appended during a reading is left for the next."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(1))
        with opened(path, "x.csv") as stream:
            append(path, lines(2))
            assert stream.read(1000).decode() == HEADER + lines(1)

    def test_nothing_new(self, tmp_path: Path) -> None:
        """A file without new records yields nothing and notes nothing."""
        (tmp_path / "x.csv").write_text(HEADER + lines(1))
        night = Night(source(tmp_path), Night(source(tmp_path)).cursor)
        assert (night.chunks, night.notes) == ([], [])

    def test_header_alone(self, tmp_path: Path) -> None:
        """A file with a header and no records yields nothing."""
        (tmp_path / "x.csv").write_text(HEADER)
        assert Night(source(tmp_path)).chunks == []


class TestOverwritten:
    """A file that is overwritten."""

    @pytest.mark.parametrize(
        "content",
        [HEADER + lines(7), HEADER + lines(7, 8), HEADER + lines(*range(7, 99)), "text,ID\na,7\nb,8\n"],
        ids=["shorter", "same size", "longer", "header changed"],
    )
    def test_new_generation(self, tmp_path: Path, content: str) -> None:
        """A file that was overwritten is read from its start, as a new generation, and a note says so."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(1, 2))
        first = Night(source(tmp_path))
        path.write_text(content)
        second = Night(source(tmp_path), first.cursor)
        assert len(second.ids) == content.count("\n") - 1
        assert second.generations == {1}
        assert second.chunks[0].rows[0] == 0
        assert "x.csv should only grow, however what was read of it has changed" in second.notes[0]
        assert Night(source(tmp_path), second.cursor).chunks == []

    def test_by_a_header_alone(self, tmp_path: Path) -> None:
        """A file overwritten by a header moves the cursor, so that this is said once."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(1, 2))
        first = Night(source(tmp_path))
        path.write_text(HEADER)
        second = Night(source(tmp_path), first.cursor)
        assert [len(chunk.table) for chunk in second.chunks] == [0]
        third = Night(source(tmp_path), second.cursor)
        assert (third.chunks, third.notes) == ([], [])

    def test_change_beyond_the_hashed_head(self, tmp_path: Path) -> None:
        """A change is found in the last 64 KiB before the offset, however long the file is."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(*range(100_000)))
        first = Night(source(tmp_path))
        content = bytearray(path.read_bytes())
        content[-60_000] ^= 1
        path.write_bytes(content)
        assert Night(source(tmp_path), first.cursor).generations == {1}

    def test_long_file_grows(self, tmp_path: Path) -> None:
        """A file of several chunks is continued where it was left."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + lines(*range(100_000)))
        first = Night(source(tmp_path))
        append(path, lines("new"))
        assert len(first.chunks) == 2
        assert Night(source(tmp_path), first.cursor).ids == ["new"]


class TestGzip:
    """Files that are packed."""

    def test_member_is_appended(self, tmp_path: Path) -> None:
        """A member that was appended, and padding between members, are read on from the cursor."""
        path = tmp_path / "x.csv.gz"
        path.write_bytes(gzip.compress((HEADER + lines(1)).encode()))
        first = Night(source(tmp_path, "x.csv.gz"))
        with path.open("ab") as file:
            file.write(bytes(8) + gzip.compress(lines(2).encode()))
        second = Night(source(tmp_path, "x.csv.gz"), first.cursor)
        assert (first.ids, second.ids) == (["1"], ["2"])

    @pytest.mark.parametrize("n_missing", [1, 8, 200, 5000])
    def test_cut_short(self, tmp_path: Path, n_missing: int) -> None:
        """Of a gzip without its end, what is complete is read, and the rest once it has arrived."""
        path = tmp_path / "x.csv.gz"
        ids = [os.urandom(8).hex() for _ in range(2000)]
        packed = gzip.compress((HEADER + lines(*ids)).encode())
        path.write_bytes(packed[:-n_missing])
        first = Night(source(tmp_path, "x.csv.gz"))
        assert "the end of its gzip is missing" in first.notes[0]
        path.write_bytes(packed)
        second = Night(source(tmp_path, "x.csv.gz"), first.cursor)
        assert first.ids + second.ids == ids
        assert second.generations <= {0}
        assert second.notes == []

    def test_being_written_again(self, tmp_path: Path) -> None:
        """A gzip that is still shorter than what was read of it waits, since it is being copied again."""
        path = tmp_path / "x.csv.gz"
        packed = gzip.compress((HEADER + lines(*range(2000))).encode())
        path.write_bytes(packed)
        first = Night(source(tmp_path, "x.csv.gz"))
        path.write_bytes(packed[:500])
        second = Night(source(tmp_path, "x.csv.gz"), first.cursor)
        assert second.chunks == []
        assert "shorter than what was read" in second.notes[0]

    @pytest.mark.parametrize("n_bytes", [1, 5, 15])
    def test_only_begun(self, tmp_path: Path, n_bytes: int) -> None:
        """A gzip of which nothing can be unpacked yet waits."""
        (tmp_path / "x.csv.gz").write_bytes(gzip.compress(HEADER.encode())[:n_bytes])
        night = Night(source(tmp_path, "x.csv.gz"))
        assert night.chunks == []
        assert len(night.notes) == 1

    def test_corrupt(self, tmp_path: Path) -> None:
        """A gzip that cannot be unpacked is an error in one line."""
        packed = bytearray(gzip.compress((HEADER + lines(*range(2000))).encode()))
        packed[len(packed) // 2] ^= 255
        (tmp_path / "x.csv.gz").write_bytes(packed)
        with pytest.raises(DataError, match=r"^x\.csv\.gz must be a sound gzip file, however: .*$"):
            Night(source(tmp_path, "x.csv.gz"))

    def test_memory_stays_flat(self, tmp_path: Path) -> None:
        """A gzip that unpacks to far more than its size is unpacked piece by piece."""
        (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a" * (64 << 20)))
        with opened(tmp_path / "x.csv.gz", "x") as stream:
            assert len(stream.read(10)) == 10
            assert len(stream._buffer) <= 1 << 20  # type: ignore[attr-defined]


class TestFolder:
    """Several files."""

    def test_late_file(self, tmp_path: Path) -> None:
        """A file that arrives late is read, though its name sorts before those already read."""
        (tmp_path / "2026-11-02.csv").write_text(HEADER + lines(2))
        first = Night(source(tmp_path, "."))
        (tmp_path / "2026-11-01.csv").write_text(HEADER + lines(1))
        append(tmp_path / "2026-11-02.csv", lines(3))
        second = Night(source(tmp_path, "."), first.cursor)
        assert second.ids == ["1", "3"]
        assert [chunk.place for chunk in second.chunks] == ["2026-11-01.csv", "2026-11-02.csv"]

    def test_what_is_passed_over(self, tmp_path: Path) -> None:
        """Hidden files, unfinished ones, folders and other kinds are no files of a folder."""
        for name in (".a.csv", "b.csv.tmp", "c.csv.part", "d.txt"):
            (tmp_path / name).write_text(HEADER + lines(1))
        (tmp_path / "e.csv").mkdir()
        (tmp_path / "f.CSV").write_text(HEADER + lines(2))
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress((HEADER + lines(3)).encode()))
        assert Night(source(tmp_path, ".")).ids == ["2", "3"]
        assert Night(source(tmp_path, "*.csv*")).ids == ["3"]

    def test_file_disappears(self, tmp_path: Path) -> None:
        """A file that has gone is not read again when it comes back."""
        (tmp_path / "a.csv").write_text(HEADER + lines(1))
        first = Night(source(tmp_path, "."))
        (tmp_path / "a.csv").rename(tmp_path / "kept")
        (tmp_path / "b.csv").write_text(HEADER + lines(2))
        second = Night(source(tmp_path, "."), first.cursor)
        (tmp_path / "kept").rename(tmp_path / "a.csv")
        assert second.ids == ["2"]
        assert Night(source(tmp_path, "."), second.cursor).chunks == []

    @pytest.mark.parametrize("path", [".", "*.csv", "nowhere/*.csv"])
    def test_no_file_yet(self, tmp_path: Path, path: str) -> None:
        """A folder or glob without files is noted and no error."""
        night = Night(source(tmp_path, path))
        assert night.chunks == []
        assert len(night.notes) == 1

    def test_root_that_looks_like_a_pattern(self, tmp_path: Path) -> None:
        """Brackets in the path of the root are no pattern."""
        root = tmp_path / "a[1]"
        root.mkdir()
        with pytest.raises(DataError, match="is not there"):
            Night(source(root))
        (root / "x.csv").write_text(HEADER + lines(1))
        assert Night(source(root, "*.csv")).ids == ["1"]

    def test_odd_names(self, tmp_path: Path) -> None:
        """A file may be called like a pattern, have spaces, or be linked to from elsewhere."""
        (tmp_path / "a [1].csv").write_text(HEADER + lines(1))
        (tmp_path / "link.csv").symlink_to(tmp_path / "a [1].csv")
        assert Night(source(tmp_path, "a [1].csv")).ids == ["1"]
        assert Night(source(tmp_path, "link.csv")).ids == ["1"]
        assert Night(source(tmp_path / "elsewhere", str(tmp_path / "a [1].csv"))).ids == ["1"]


class TestFaults:
    """What cannot be read."""

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is an error, or a note where it is optional."""
        with pytest.raises(DataError, match=r"source 'x' must exist, however .*x\.csv is not there"):
            Night(source(tmp_path))
        night = Night(source(tmp_path, optional=True))
        assert night.chunks == []
        assert "since it is optional" in night.notes[0]

    def test_empty(self, tmp_path: Path) -> None:
        """A file without even a header line is an error."""
        (tmp_path / "x.csv").touch()
        with pytest.raises(DataError, match=r"x\.csv must start with a header line, however it is empty"):
            Night(source(tmp_path))

    def test_not_a_file(self, tmp_path: Path) -> None:
        """A pipe is an error, and does not block."""
        os.mkfifo(tmp_path / "x.csv")
        with pytest.raises(DataError, match="must be a file"):
            Night(source(tmp_path))

    def test_not_permitted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that we may not read is an error in one line."""
        (tmp_path / "x.csv").write_text(HEADER)

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(DataError, match=r"^x\.csv must be readable, however: Permission denied; .*$"):
            Night(source(tmp_path))

    def test_folder_that_may_not_be_listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that we may not list is an error in one line."""

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(DataError, match=r"^the files of source 'x' must be readable, .* denied; .*$"):
            Night(source(tmp_path, "."))

    def test_name_that_cannot_be_printed(self, tmp_path: Path) -> None:
        """A file name that is no text, which a cursor could not hold, is an error."""
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).write_text(HEADER)
        with pytest.raises(DataError, match="file name must be printable"):
            Night(source(tmp_path, "."))

    def test_gone_while_reading(self, tmp_path: Path) -> None:
        """A file that went between being listed and being opened may be back later."""
        with pytest.raises(TryAgainError), opened(tmp_path / "x.csv", "x.csv"):
            pass


class TestReadWhole:
    """A file that is complete."""

    def test_last_line_without_newline(self, tmp_path: Path) -> None:
        """All records are read, the last one without a newline too, bad ones with their numbers."""
        (tmp_path / "x.csv").write_text(HEADER + "1,a\nbad\n2,b")
        notes: list[str] = []
        chunks = list(read_whole(tmp_path / "x.csv", note=notes.append))
        assert [row for chunk in chunks for row in chunk.table.to_pylist()] == [
            {"ID": "1", "text": "a"},
            {"ID": "2", "text": "b"},
        ]
        assert [row for chunk in chunks for row in chunk.rows] == [0, 2]
        assert [bad.row for chunk in chunks for bad in chunk.bad] == [1]
        assert notes == []

    def test_header_alone(self, tmp_path: Path) -> None:
        """A file without records gives its columns."""
        (tmp_path / "x.csv").write_text("ID,text")
        (chunk,) = read_whole(tmp_path / "x.csv", note=print)
        assert chunk.table.column_names == ["ID", "text"]

    @pytest.mark.parametrize(
        ("name", "content", "fact"),
        [
            ("x.csv", b"", "it is empty"),
            ("x.csv", b"\n\n", "it is blank"),
            ("x.csv.gz", gzip.compress(HEADER.encode(), mtime=0)[:-3], "its end is missing"),
            ("x.csv.gz", HEADER.encode(), "sound gzip"),
            ("x.csv", b'ID,text\n1,"a\n', "the end of the file comes first"),
        ],
    )
    def test_faults(self, tmp_path: Path, name: str, content: bytes, fact: str) -> None:
        """What is empty, cut short or unclosed is an error that names the file."""
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.csv.*{fact}|{fact}.*x\.csv"):
            list(read_whole(tmp_path / name, note=print))

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there, or a folder, is an error."""
        with pytest.raises(DataError, match="is not there"):
            list(read_whole(tmp_path / "x.csv", note=print))
        with pytest.raises(DataError, match="must be a file"):
            list(read_whole(tmp_path, note=print))
