from __future__ import annotations

import gzip
import json
import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightfit.errors import ConfigError, DataError, GapError, TryAgainError
from nightfit.sources import filereading
from nightfit.sources import files as files_module
from nightfit.sources import rotation as rotation_module
from nightfit.sources.base import Surroundings
from nightfit.sources.configs import FileConfig
from nightfit.sources.files import FileSource
from nightfit.sources.make import make_source
from nightfit.testing import check_source

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Cursor


def source(root: Path, *, on_gap: str = "stop", path: str = "app.jsonl", rotated: str = "app.jsonl?*") -> FileSource:
    """Make a source of a log that rotates."""
    return FileSource(name="x", path=path, root=root, rotated=rotated, on_gap=on_gap)


class Log:
    """A log as a program and logrotate write it: numbered records, and files that are renamed, packed or copied."""

    def __init__(self, root: Path) -> None:
        self.live = root / "app.jsonl"
        self.written: list[int] = []
        self.clock = 1_000_000_000

    def write(self, n: int = 1, end: str = "\n") -> None:
        """Append n records."""
        with self.live.open("a", encoding="utf-8") as file:
            for _ in range(n):
                file.write(json.dumps({"id": len(self.written)}) + end)
                self.written.append(len(self.written))
        self._age(self.live)

    def write_late(self) -> None:
        """Append a record to the file that was just renamed, as a program does that has not noticed."""
        live, self.live = self.live, self.rotated()[0]
        times = self.live.stat()
        self.write()
        os.utime(self.live, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.live = live

    def rotated(self) -> list[Path]:
        """List the rotated files, newest first."""
        found = [p for p in self.live.parent.glob("app.jsonl.*") if p.suffix != ".tmp"]
        return sorted(found, key=lambda p: int(p.name.removesuffix(".gz").rpartition(".")[2]))

    def shift(self) -> None:
        """Rename app.jsonl.1 to app.jsonl.2, and so on."""
        for path in reversed(self.rotated()):
            number = path.name.removesuffix(".gz").rpartition(".")[2]
            path.rename(path.with_name(path.name.replace(number, str(int(number) + 1), 1)))

    def rename(self) -> None:
        """Rotate by renaming; until the next record there is no live file."""
        if self.live.exists():
            self.shift()
            self.live.rename(self.live.with_name("app.jsonl.1"))

    def copy(self) -> None:
        """Begin to rotate by copying."""
        if self.live.exists():
            self.shift()
            shutil.copyfile(self.live, self.live.with_name("app.jsonl.1"))
            self._age(self.live.with_name("app.jsonl.1"))

    def truncate(self) -> None:
        """End to rotate by copying."""
        os.truncate(self.live, 0)
        self._age(self.live)

    def pack(self, i: int, *, n_bytes: int | None = None, removing: bool = True) -> None:
        """Pack a rotated file, or some bytes of it, keeping its time."""
        plain = [p for p in self.rotated() if p.suffix != ".gz"]
        if plain:
            path = plain[i % len(plain)]
            packed = path.with_name(f"{path.name}.gz")
            packed.write_bytes(gzip.compress(path.read_bytes())[:n_bytes])
            os.utime(packed, ns=(path.stat().st_mtime_ns,) * 2)
            if removing:
                path.unlink()

    def touch(self) -> None:
        """Make an empty live file, as logrotate's "create" does."""
        if not self.live.exists():
            self.live.touch()
            self._age(self.live)

    def _age(self, path: Path) -> None:
        self.clock += 1
        os.utime(path, (self.clock, self.clock))


def holds_records(path: Path) -> bool:
    """Say whether a file of the log is there and not empty."""
    return path.exists() and bool(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


class Night:
    """One reading of a log: its rows by identity, notes, and the cursor reached."""

    def __init__(self, src: FileSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        chunks = list(src.read(after, self.notes.append))
        assert {chunk.place for chunk in chunks} <= {src.path.name}
        assert not [bad for chunk in chunks for bad in chunk.bad]
        self.rows = {
            (chunk.generation, int(n)): row["id"]
            for chunk in chunks
            for n, row in zip(chunk.rows, chunk.table.to_pylist(), strict=True)
        }
        assert len(self.rows) == sum(len(chunk.table) for chunk in chunks)
        self.ids = list(self.rows.values())
        self.cursor = json.loads(json.dumps(chunks[-1].cursor_at(len(chunks[-1].table)))) if chunks else after


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 5)),
    st.tuples(st.just("rotate"), st.sampled_from(["rename", "rename and create", "copy and truncate"])),
    st.tuples(st.just("pack"), st.integers(0, 3)),
    st.tuples(st.just("half pack"), st.integers(1, 40)),
    st.tuples(st.just("late line"), st.just(0)),
    st.tuples(st.just("read"), st.sampled_from([0, 1, 3, None])),
    st.tuples(st.just("read while copied"), st.none()),
    st.tuples(st.just("forget oldest"), st.none()),
)


class Player:
    """Plays the steps of a log's life, and keeps what was read."""

    def __init__(self, root: Path) -> None:
        self.log = Log(root)
        self.source = source(root)
        self.cursor: Cursor | None = None
        self.read: Counter[int] = Counter()
        self.identities: set[tuple[int, int]] = set()

    def play(self, step: str, value: int | str | None) -> None:
        """Do one step."""
        log = self.log
        if step == "write":
            log.write(int(value or 0))
        elif step == "rotate":
            self._rotate(str(value))
        elif step == "pack":
            log.pack(int(value or 0))
        elif step == "half pack":
            log.pack(0, n_bytes=int(value or 0), removing=False)
            self.night()
            log.pack(0)
        elif step == "late line" and log.rotated() and log.rotated()[0].suffix != ".gz":
            log.write_late()
        elif step == "read":
            self.night(n_rows=None if value is None else int(value))
        elif step == "read while copied" and log.live.exists():
            log.copy()
            self.night()
            log.truncate()
        elif step == "forget oldest" and any(map(holds_records, [log.live, *log.rotated()[:-1]])):
            self.night()
            for oldest in log.rotated()[-1:]:
                oldest.unlink()

    def _rotate(self, how: str) -> None:
        if how == "copy and truncate" and self.log.live.exists():
            self.log.copy()
            self.log.truncate()
        else:
            self.log.rename()
        if how == "rename and create":
            self.log.touch()

    def night(self, n_rows: int | None = None) -> None:
        """Read the log from the cursor, at most n rows of it."""
        if not self.log.live.exists() and not self.log.rotated():
            return
        for chunk in self.source.read(self.cursor, lambda _: None):
            n = len(chunk.table) if n_rows is None else min(n_rows, len(chunk.table))
            self.read.update(row["id"] for row in chunk.table.slice(0, n).to_pylist())
            identities = {(chunk.generation, int(row)) for row in chunk.rows[:n]}
            assert not identities & self.identities
            self.identities |= identities
            self.cursor = json.loads(json.dumps(chunk.cursor_at(n)))
            n_rows = None if n_rows is None else n_rows - n
            if n < len(chunk.table):
                break


class TestExactlyOnce:
    """Whatever happens to a log between two nights."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
    @given(steps=st.lists(STEPS, max_size=25), n_hashed=st.sampled_from([24, 64 << 10]))
    def test_every_row_once(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | str | None]], n_hashed: int
    ) -> None:
        """Every record is read once, however the log is written, rotated, packed and read; its numbers differ."""
        root = tmp_path_factory.mktemp("log")
        player = Player(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(filereading, "HASHED_BYTES", n_hashed)
            for step, value in steps:
                player.play(step, value)
            player.night()
            assert player.read == Counter(player.log.written)
            again = player.cursor
            player.night()
            assert player.cursor == again
        shutil.rmtree(root)


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("pack", [False, True])
    def test_rotating_every_night(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pack: bool) -> None:
        """A log that is rotated in the middle of what is new keeps the contract of a source."""
        monkeypatch.setattr(filereading, "CHUNK_ROWS", 2)
        log = Log(tmp_path)

        def grow(n: int) -> None:
            log.write(1)
            log.rename()
            if pack:
                log.pack(0)
            log.write(n - 1)

        check_source(lambda: source(tmp_path), grow)

    def test_csv(self, tmp_path: Path) -> None:
        """A log of CSV has its header line in each of its files."""
        for i, name in enumerate(["app.csv.2.gz", "app.csv.1", "app.csv"]):
            text = f"id,note\n{i},a\n{i},b\n".encode()
            (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
            os.utime(tmp_path / name, (i, i))
        night = Night(source(tmp_path, path="app.csv", rotated="app.csv.*"))
        assert night.ids == ["0", "0", "1", "1", "2", "2"]
        assert [generation for generation, _ in night.rows] == [0, 0, 1, 1, 2, 2]


class TestOrder:
    """Which file comes when."""

    def test_first_night(self, tmp_path: Path) -> None:
        """The first night reads the rotated files, oldest first, and then the live one, each a generation."""
        log = Log(tmp_path)
        for _ in range(3):
            log.write(2)
            log.rename()
        log.pack(-1)
        log.write()
        night = Night(source(tmp_path))
        assert night.rows == {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3, (2, 0): 4, (2, 1): 5, (3, 0): 6}

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["app.jsonl.1", "app.jsonl.2.gz", "app.jsonl.10"], [2, 1, 0]),
            (["app.jsonl-20261101.gz", "app.jsonl-20261102", "app.jsonl-20261103"], [0, 1, 2]),
        ],
    )
    def test_files_of_one_time(self, tmp_path: Path, names: list[str], expected: list[int]) -> None:
        """Of files of one time, those with a higher number or an earlier date are older."""
        for i, name in enumerate(names):
            data = json.dumps({"id": i}).encode() + b"\n"
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
            os.utime(tmp_path / name, (1, 1))
        assert Night(source(tmp_path)).ids == expected

    def test_identity_outlives_a_rename(self, tmp_path: Path) -> None:
        """The rest of a file that was renamed and packed meanwhile goes on under its numbers."""
        log = Log(tmp_path)
        log.write(2)
        first = Night(source(tmp_path))
        log.write()
        log.rename()
        log.pack(0)
        log.write()
        assert Night(source(tmp_path), first.cursor).rows == {(0, 2): 2, (1, 0): 3}

    def test_cursor_forgets_files_that_have_gone(self, tmp_path: Path) -> None:
        """A cursor holds as many positions as there are files with records."""
        log, cursor = Log(tmp_path), None
        for _ in range(12):
            log.write()
            cursor = Night(source(tmp_path), cursor).cursor
            log.rename()
            for path in log.rotated()[2:]:
                path.unlink()
        assert cursor
        entry = cursor["files"]["app.jsonl"]  # type: ignore[index, call-overload]
        assert len(entry["before"]) == 2  # type: ignore[index, call-overload, arg-type]
        assert entry["generation"] == 11  # type: ignore[index, call-overload]


class TestLastLine:
    """A last line without a newline."""

    def test_of_a_rotated_file(self, tmp_path: Path) -> None:
        """It is complete once the log goes on in another file, and waits before."""
        log = Log(tmp_path)
        log.write()
        log.write(end="")
        log.rename()
        first = Night(source(tmp_path))
        assert first.ids == [0]
        log.touch()
        assert Night(source(tmp_path), first.cursor).ids == []
        log.write()
        assert Night(source(tmp_path), first.cursor).ids == [1, 2]

    def test_of_the_live_file(self, tmp_path: Path) -> None:
        """It waits for its end."""
        log = Log(tmp_path)
        log.write()
        log.rename()
        log.write(end="")
        night = Night(source(tmp_path))
        assert night.ids == [0]
        assert "should end with a newline" in night.notes[0]


class TestGap:
    """A log whose file was deleted before its rest was read."""

    def lost(self, root: Path) -> tuple[Log, Cursor | None]:
        """Write, read, and lose what was read, with a record that was not."""
        log = Log(root)
        log.write()
        log.rename()
        log.write(2)
        cursor = Night(source(root)).cursor
        log.write()
        log.live.unlink()
        log.write(2)
        return log, cursor

    def test_stops(self, tmp_path: Path) -> None:
        """Rows that may be lost stop the source."""
        _, cursor = self.lost(tmp_path)
        with pytest.raises(
            GapError, match=r"^the log 'app\.jsonl' must go on .* 'app\.jsonl\?\*', however neither does"
        ):
            Night(source(tmp_path), cursor)

    def test_is_skipped(self, tmp_path: Path) -> None:
        """With on_gap = "skip" the log goes on with what was not read yet, as new generations, and a note says so."""
        log, cursor = self.lost(tmp_path)
        night = Night(source(tmp_path, on_gap="skip"), cursor)
        assert night.rows == {(2, 0): 4, (2, 1): 5}
        assert night.notes[0].endswith("they are skipped")
        log.write()
        after = Night(source(tmp_path, on_gap="skip"), night.cursor)
        assert (after.ids, after.notes) == ([6], [])

    def test_skipping_may_be_broken_off(self, tmp_path: Path) -> None:
        """A cursor before the first row after the gap still knows of the gap, and of the generations used."""
        _, cursor = self.lost(tmp_path)
        (chunk,) = source(tmp_path, on_gap="skip").read(cursor, print)
        assert Night(source(tmp_path, on_gap="skip"), chunk.cursor_at(0)).rows == {(2, 0): 4, (2, 1): 5}

    def test_a_file_that_is_still_packed(self, tmp_path: Path) -> None:
        """While a gzip lacks its end, what is missed may be in it: that is no gap yet."""
        log = Log(tmp_path)
        log.write(50)
        cursor = Night(source(tmp_path)).cursor
        log.rename()
        log.write()
        log.pack(0, n_bytes=60)
        with pytest.raises(TryAgainError, match="lacks its end"):
            Night(source(tmp_path), cursor)


class TestSurroundings:
    """What lies about a log."""

    def test_missing(self, tmp_path: Path) -> None:
        """A log of which there is nothing is an error, as any file."""
        with pytest.raises(DataError, match="is not there"):
            Night(source(tmp_path))
        log = Log(tmp_path)
        log.write()
        cursor = Night(source(tmp_path)).cursor
        log.live.unlink()
        with pytest.raises(DataError, match="is not there"):
            Night(source(tmp_path), cursor)

    @pytest.mark.parametrize("path", [".", "*.jsonl", "x.parquet"])
    def test_what_does_not_rotate(self, tmp_path: Path, path: str) -> None:
        """A folder, a glob or a Parquet file is no log."""
        with pytest.raises(ConfigError, match="names the log's own file"):
            Night(source(tmp_path, path=path))

    def test_unfinished_and_hidden_files(self, tmp_path: Path) -> None:
        """Files that end in .tmp or .part, hidden ones and folders are none of the log."""
        for name in ("app.jsonl.1.gz.tmp", "app.jsonl.2.part"):
            (tmp_path / name).write_text('{"id": 9}\n')
        (tmp_path / "app.jsonl.d").mkdir()
        log = Log(tmp_path)
        log.write()
        assert Night(source(tmp_path)).ids == [0]

    def test_rotated_while_it_is_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A rotation at the wrong moment is tried again, and not taken for a gap."""
        log = Log(tmp_path)
        log.write()
        go_on = rotation_module.go_on

        def rotating(*arguments: Any) -> rotation_module.Log:  # noqa: ANN401
            log.rename()
            log.write()
            return go_on(*arguments)

        monkeypatch.setattr(files_module, "go_on", rotating)
        with pytest.raises(TryAgainError, match=r"app\.jsonl was just rotated"):
            Night(source(tmp_path))

    def test_named_later(self, tmp_path: Path) -> None:
        """Where a log was read before its rotated files were named, older ones count as read, and it may end so too."""
        log = Log(tmp_path)
        log.write()
        log.rename()
        log.write()
        plain = FileSource(name="x", path="app.jsonl", root=tmp_path)
        cursor = Night(plain).cursor
        log.write()
        log.rename()
        log.write()
        second = Night(source(tmp_path), cursor)
        assert second.ids == [2, 3]
        assert Night(source(tmp_path), second.cursor).ids == []
        log.write()
        assert Night(plain, second.cursor).ids == [4]

    def test_config(self, tmp_path: Path) -> None:
        """The config's keys make such a source."""
        log = Log(tmp_path)
        log.write()
        log.rename()
        config = FileConfig(url="app.jsonl", name="x", rotated="app.jsonl.*", on_gap="skip")
        src = make_source(config, Surroundings(key=(), target="y", root=tmp_path))
        assert isinstance(src, FileSource)
        assert (src.on_gap, Night(src).ids) == ("skip", [0])
