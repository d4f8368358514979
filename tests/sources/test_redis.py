from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from nightfit.errors import ConfigError, DataError, GapError, TryAgainError
from nightfit.sources import redis as redis_module
from nightfit.sources.base import Acknowledging, Surroundings
from nightfit.sources.configs import RedisConfig
from nightfit.sources.make import make_source
from nightfit.sources.redis import RedisSource
from nightfit.testing import check_source
from proxy import closed_port, cutting_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from nightfit.sources.base import Chunk, Cursor

HOST = "127.0.0.1:6379"
URL = f"redis://{HOST}/0"


@pytest.fixture
def db() -> Iterator[redis.Redis]:
    """Give a connection to the server."""
    with redis.Redis.from_url(URL) as client:
        yield client


@pytest.fixture
def stream(db: redis.Redis) -> Iterator[str]:
    """Give the name of a stream of the test's own, which is removed afterwards."""
    name = f"nightfit-test-{uuid.uuid4().hex}"
    yield name
    db.delete(name)


def source(stream: str, url: str = URL, **options: Any) -> RedisSource:  # noqa: ANN401
    """Make a source of a stream."""
    return RedisSource(RedisConfig(url=url, name="x", stream=stream, **options), url=url)


def add(db: redis.Redis, stream: str, *ids: int) -> None:
    """Append entries whose ids are `<n>-0`, and whose field n says so."""
    pipeline = db.pipeline(transaction=False)
    for i in ids:
        pipeline.xadd(stream, {"n": i}, id=f"{i}-0")
    pipeline.execute()


def grower(db: redis.Redis, stream: str, entry: Callable[[int], dict[Any, Any]]) -> Callable[[int], None]:
    """Give what appends n good entries to a stream that starts with two bad ones."""
    db.xadd(stream, {b"n": b"\xff"})
    db.xadd(stream, {b"\xfe": b"1"})
    n_written = 0

    def grow(n: int) -> None:
        nonlocal n_written
        for _ in range(n):
            n_written += 1
            db.xadd(stream, entry(n_written))

    return grow


class Night:
    """One reading of a source: its rows, bad rows, notes, and the cursor reached."""

    def __init__(self, src: RedisSource, after: Cursor | None = None) -> None:
        self.notes: list[str] = []
        self.chunks: list[Chunk] = list(src.read(after, self.notes.append))
        self.rows = [row for chunk in self.chunks for row in chunk.table.to_pylist()]
        self.ns = [int(row["n"]) for row in self.rows]
        self.numbers = [row for chunk in self.chunks for row in chunk.rows.tolist()]
        self.bad = [row for chunk in self.chunks for row in chunk.bad]
        self.generations = {chunk.generation for chunk in self.chunks}
        last = self.chunks[-1] if self.chunks else None
        self.cursor = last.cursor_at(len(last.table)) if last else after


class TestContract:
    """The contract of a source, as plug-in authors check it."""

    @pytest.mark.parametrize("n_fetched", [1, 3, 4096])
    @pytest.mark.parametrize("field", ["", "row"])
    def test_growing_stream(
        self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch, n_fetched: int, field: str
    ) -> None:
        """A stream with bad entries keeps the contract, in chunks of any size, be its rows fields or JSON."""
        monkeypatch.setattr(redis_module, "N_FETCHED", n_fetched)
        grow = grower(db, stream, lambda n: {"row": json.dumps({"n": n, "a": {"b": "é"}})} if field else {"n": n})
        check_source(lambda: source(stream, field=field), grow)

    def test_with_holes(self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stream from which entries were taken before the first night, inside too, keeps the contract."""
        monkeypatch.setattr(redis_module, "N_FETCHED", 2)
        grow = grower(db, stream, lambda n: {"n": n})
        grow(6)
        entries: Any = db.xrange(stream)
        db.xdel(stream, *(entries[i][0] for i in (0, 4, 6)))
        check_source(lambda: source(stream), grow)

    def test_made_from_a_config(self, stream: str, tmp_path: Path) -> None:
        """A redis:// url makes a source that acknowledges, under the config's name."""
        config = RedisConfig(url=URL, name="x", stream=stream)
        made = make_source(config, Surroundings((), "y", tmp_path))
        assert isinstance(made, RedisSource)
        assert isinstance(made, Acknowledging)
        assert made.name == "x"


class TestRead:
    """What is read, and how far."""

    def test_fields(self, db: redis.Redis, stream: str) -> None:
        """Fields are columns of text; what an entry lacks is null; what is not UTF-8 is bad, with its number."""
        for fields in ({"a": "1", "b": "x"}, {b"a": b"\xff"}, {"a": "2"}):
            db.xadd(stream, fields)  # type: ignore[arg-type]
        (chunk,) = source(stream).read(None, print)
        assert chunk.table.to_pylist() == [{"a": "1", "b": "x"}, {"a": "2", "b": None}]
        assert chunk.rows.tolist() == [0, 2]
        (bad,) = chunk.bad
        assert (bad.row, bad.text) == (1, "a=\ufffd")
        assert "must be UTF-8 text" in bad.reason

    def test_field_of_json(self, db: redis.Redis, stream: str) -> None:
        """The named field holds the row; an entry without it, or whose field is no object, is bad."""
        for value in ('{"a": 1, "b": {"c": true}}', "[1]", "{", "\xff"):
            db.xadd(stream, {"row": value, "other": "z"})
        db.xadd(stream, {"other": "z"})
        (chunk,) = source(stream, field="row").read(None, print)
        assert chunk.table.to_pylist() == [{"a": 1, "b.c": True}]
        assert [bad.row for bad in chunk.bad] == [1, 2, 3, 4]
        assert chunk.bad[0].text == "[1]"
        assert "must have the field 'row'" in chunk.bad[-1].reason

    def test_up_to_the_start_of_the_night(self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Entries that come while a night reads are left for the next one, so that a night ends."""
        monkeypatch.setattr(redis_module, "N_FETCHED", 2)
        add(db, stream, *range(1, 10))
        ns: list[int] = []
        later = 100
        for chunk in source(stream).read(None, print):
            ns += [int(row["n"]) for row in chunk.table.to_pylist()]
            add(db, stream, *range(later, later + 5))
            later += 5
            cursor = chunk.cursor_at(len(chunk.table))
        assert ns == list(range(1, 10))
        assert Night(source(stream), cursor).ns == list(range(100, later))

    def test_large(self, db: redis.Redis, stream: str) -> None:
        """20,000 entries are read, and read on from a cursor in their midst exactly."""
        add(db, stream, *range(1, 20_001))
        whole = Night(source(stream))
        assert whole.ns == list(range(1, 20_001))
        assert whole.numbers == list(range(20_000))
        cursor = whole.chunks[1].cursor_at(777)
        rest = Night(source(stream), cursor)
        n_read = len(whole.chunks[0].table) + 777
        assert rest.ns == whole.ns[n_read:]
        assert rest.numbers == whole.numbers[n_read:]
        assert rest.cursor == whole.cursor

    def test_nothing_new(self, db: redis.Redis, stream: str) -> None:
        """A night without new entries yields nothing and notes nothing; so does an empty stream."""
        add(db, stream, 1)
        night = Night(source(stream), Night(source(stream)).cursor)
        assert (night.chunks, night.notes) == ([], [])
        db.xtrim(stream, maxlen=0)
        assert Night(source(stream)).chunks == []

    def test_closed_early(self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reading that is broken off leaves no connection behind."""
        monkeypatch.setattr(redis_module, "N_FETCHED", 1)
        add(db, stream, 1, 2, 3)
        user = f"nightfit-test-{uuid.uuid4().hex}"
        db.acl_setuser(user, enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"])
        try:
            chunks = source(stream, f"redis://{user}:pw@{HOST}/0").read(None, print)
            next(chunks)
            assert user in {client["user"] for client in db.client_list()}
            chunks.close()  # type: ignore[attr-defined]
            assert user not in {client["user"] for client in db.client_list()}
        finally:
            db.acl_deluser(user)


class TestGaps:
    """Entries that vanished before they were read."""

    @pytest.mark.parametrize(
        ("take", "n", "left"),
        [
            (lambda db, s: db.xtrim(s, maxlen=2, approximate=False), 3, [9, 10]),
            (lambda db, s: db.xdel(s, "7-0", "9-0"), 2, [6, 8, 10]),
            (lambda db, s: db.xdel(s, "6-0"), 1, [7, 8, 9, 10]),
            (lambda db, s: db.xdel(s, "10-0"), 1, [6, 7, 8, 9]),
            (lambda db, s: (db.xdel(s, "9-0"), db.xtrim(s, minid="8-0", approximate=False)), 3, [8, 10]),
            (lambda db, s: db.xtrim(s, maxlen=0, approximate=False), 5, []),
        ],
        ids=["trimmed", "inside", "next", "last", "both", "all"],
    )
    def test_stop_and_skip(
        self, db: redis.Redis, stream: str, take: Callable[[redis.Redis, str], object], n: int, left: list[int]
    ) -> None:
        """Unread entries that were trimmed or deleted stop a night, or are counted in one note and skipped once."""
        add(db, stream, *range(1, 6))
        cursor = Night(source(stream)).cursor
        add(db, stream, *range(6, 11))
        take(db, stream)
        with pytest.raises(GapError, match=rf"until they are read, however {n} that came after 5-0 were"):
            Night(source(stream), cursor)
        night = Night(source(stream, on_gap="skip"), cursor)
        assert night.ns == left
        assert night.numbers == list(range(5, 5 + len(left)))
        assert len(night.notes) == 1
        assert night.generations == {0}
        again = Night(source(stream), night.cursor)
        assert (again.chunks, again.notes) == ([], [])
        add(db, stream, 11)
        assert Night(source(stream), night.cursor).ns == [11]

    def test_read_entries_may_go(self, db: redis.Redis, stream: str) -> None:
        """Entries that were read may be trimmed and deleted, up to the very last, without a gap."""
        add(db, stream, *range(1, 8))
        whole = Night(source(stream))
        cursor = whole.chunks[0].cursor_at(5)
        db.xdel(stream, "3-0", "5-0")
        assert Night(source(stream), cursor).ns == [6, 7]
        db.xtrim(stream, minid="6-0", approximate=False)
        assert Night(source(stream), cursor).ns == [6, 7]
        db.xdel(stream, "6-0", "7-0")
        assert Night(source(stream), whole.cursor).chunks == []
        with pytest.raises(GapError, match="however 2 that came after 5-0"):
            Night(source(stream), cursor)

    def test_while_reading(self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Entries that vanish between two fetches of a night are a gap too, deleted or trimmed."""
        monkeypatch.setattr(redis_module, "N_FETCHED", 2)
        takes: list[Callable[[], object]] = [
            lambda: db.xdel(stream, "5-0"),
            lambda: db.xtrim(stream, maxlen=2, approximate=False),
        ]
        for take in takes:
            add(db, stream, *range(1, 8))
            chunks = iter(source(stream).read(None, print))
            next(chunks)
            take()
            with pytest.raises(GapError, match="that came after 2-0"):
                list(chunks)
            db.delete(stream)

    def test_cursor_beyond_a_skipped_gap(self, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every cursor inside of what was read beyond a gap goes on exactly, and knows of the gap."""
        monkeypatch.setattr(redis_module, "N_FETCHED", 2)
        add(db, stream, *range(1, 3))
        cursor = Night(source(stream)).cursor
        add(db, stream, *range(3, 12))
        db.xdel(stream, "4-0", "8-0")
        night = Night(source(stream, on_gap="skip"), cursor)
        cursors = [chunk.cursor_at(i) for chunk in night.chunks for i in range(len(chunk.table))]
        for i, middle in enumerate(cursors):
            assert Night(source(stream), middle).ns == night.ns[i:]
        db.xdel(stream, "9-0")
        with pytest.raises(GapError, match="however 1 that came after 3-0"):
            Night(source(stream), cursors[1])

    @pytest.mark.parametrize("ids", [(1, 2), (100, 101), tuple(range(200, 220))], ids=["back", "few", "many"])
    def test_made_anew(self, db: redis.Redis, stream: str, ids: tuple[int, ...]) -> None:
        """A stream that was deleted and made again is a gap, or is read from its start as a new generation."""
        add(db, stream, *range(1, 6))
        cursor = Night(source(stream)).cursor
        db.delete(stream)
        add(db, stream, *ids)
        with pytest.raises(GapError, match="must go on from entry 5-0"):
            Night(source(stream), cursor)
        night = Night(source(stream, on_gap="skip"), cursor)
        assert night.ns == list(ids)
        assert night.numbers == list(range(len(ids)))
        assert night.generations == {1}
        assert Night(source(stream), night.cursor).chunks == []

    def test_absent(self, db: redis.Redis, stream: str) -> None:
        """A stream that never was is an error, or a note where it is optional; one that was read is a gap."""
        with pytest.raises(DataError, match="of source 'x' must exist, however it is not there; mend"):
            Night(source(stream))
        night = Night(source(stream, optional=True))
        assert night.chunks == []
        assert "since it is optional" in night.notes[0]
        add(db, stream, 1)
        cursor = Night(source(stream)).cursor
        db.delete(stream)
        with pytest.raises(GapError, match="not there any more"):
            Night(source(stream, optional=True), cursor)
        night = Night(source(stream, on_gap="skip"), cursor)
        assert (night.chunks, len(night.notes)) == ([], 1)


class TestAcknowledge:
    """What the consumer group is told."""

    def test_smallest_of_all(self, db: redis.Redis, stream: str) -> None:
        """The group is made, stands at the smallest id of all lineages, goes on with them, and back with one."""
        add(db, stream, *range(1, 11))
        src = source(stream)
        (chunk,) = src.read(None, print)
        for at, others in ((3, (7, 10)), (3, (3,)), (10, ()), (5, (10,))):
            src.acknowledge([chunk.cursor_at(i) for i in (*others, at)])
            (group,) = db.xinfo_groups(stream)
            assert group["name"] == b"nightfit"
            assert group["last-delivered-id"] == f"{at}-0".encode()
            assert group["entries-read"] == at
            assert group["lag"] == 10 - at

    def test_nobody_to_tell(self, db: redis.Redis, stream: str) -> None:
        """No group, no cursors or no stream any more: nothing is told, and nothing fails."""
        add(db, stream, 1)
        cursor = Night(source(stream)).cursor
        assert cursor
        source(stream, group="").acknowledge([cursor])
        source(stream).acknowledge([])
        assert db.xinfo_groups(stream) == []
        db.delete(stream)
        source(stream).acknowledge([cursor])
        assert not db.exists(stream)


class TestFaults:
    """What cannot be read."""

    def test_unreachable(self, stream: str) -> None:
        """A server that nobody can reach may be back later; reading and acknowledging say so."""
        src = source(stream, f"redis://:hidden-pw@127.0.0.1:{closed_port()}/0")
        with pytest.raises(TryAgainError, match=r"must be usable at redis://127.0.0.1:\d+/0, however: .*refused"):
            Night(src)
        with pytest.raises(TryAgainError):
            src.acknowledge([{"id": "1-0", "rows": 1, "generation": 0, "added": 1}])

    def test_cut_connection(self, db: redis.Redis, stream: str) -> None:
        """A connection that is cut in the midst of an answer may be back later, and nothing of it is yielded."""
        add(db, stream, *range(1, 5_001))
        with cutting_proxy(("127.0.0.1", 6379), 20_000) as port, pytest.raises(TryAgainError):
            Night(source(stream, f"redis://127.0.0.1:{port}/0"))

    def test_silent_server(self, stream: str) -> None:
        """A server that never answers is given up after the timeout."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
            with pytest.raises(TryAgainError, match=r"(?i)timeout"):
                Night(source(stream, url, timeout_s=0.2))

    @pytest.mark.parametrize("password", ["hidden-pw", "hidden%2Dpw"])
    def test_password(self, stream: str, password: str) -> None:
        """A password that the server refuses is the config's fault, and is not repeated."""
        with pytest.raises(ConfigError, match="invalid username-password") as caught:
            Night(source(stream, f"redis://nobody:{password}@{HOST}/0"))
        assert "hidden" not in str(caught.value)

    def test_permission(self, db: redis.Redis, stream: str) -> None:
        """A user who may not read the stream is the config's fault."""
        user = f"nightfit-test-{uuid.uuid4().hex}"
        db.acl_setuser(user, enabled=True, passwords=["+hidden-pw"], categories=["+@all"], keys=["other"])
        try:
            with pytest.raises(ConfigError, match="mend its user, password or permissions") as caught:
                Night(source(stream, f"redis://{user}:hidden-pw@{HOST}/0"))
        finally:
            db.acl_deluser(user)
        assert "hidden" not in str(caught.value)

    def test_not_a_stream(self, db: redis.Redis, stream: str) -> None:
        """A key of another type is the config's fault."""
        db.set(stream, "text")
        with pytest.raises(ConfigError, match=r"however: WRONGTYPE .*; mend the url or the stream's name"):
            Night(source(stream))

    @pytest.mark.parametrize("url", ["redis://:hidden/pw@host/0", "redis://:hidden@host:port/0", "redis://"])
    def test_url(self, stream: str, url: str) -> None:
        """A url that cannot be taken apart is the config's fault, and is not repeated."""
        with pytest.raises(ConfigError, match="the url of source 'x' must look like redis://user") as caught:
            source(stream, url)
        assert "hidden" not in str(caught.value)

    def test_cursor_of_another_kind(self, stream: str) -> None:
        """A cursor of another kind of source is the config's fault."""
        with pytest.raises(ConfigError, match="a source keeps its kind"):
            Night(source(stream), {"files": {}})
