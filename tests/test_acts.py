from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nightfit.acts import promote, rollback
from nightfit.checkpoint import Manifest
from nightfit.errors import CheckpointError, DataError, UsageError
from nightfit.prune import prune
from nightfit.verify import verify
from pipe import CONFIG, Pipe, make_rows

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline that has learned three nights of 100 rows."""
    pipe = Pipe(tmp_path)
    for start in (0, 100, 200):
        pipe.append(make_rows(100, start=start))
        assert pipe.night().status == "accepted"
    return pipe


def back(pipe: Pipe, version: int | None = None, *, skip_rows: bool = False) -> tuple[Manifest, bool]:
    """Put a version, or the one before, into service."""
    if version is None:
        return rollback(pipe.lineage(), now=NOW, skip_rows=skip_rows)
    return promote(pipe.lineage(), version, now=NOW, skip_rows=skip_rows)


def test_a_promoted_version_is_what_it_was(pipe: Pipe) -> None:
    """State, cursors, memories and known rows are those of the version; parent is the version; nothing was read."""
    was = pipe.lineage().manifest(2)
    head, is_new = back(pipe, 2)
    assert is_new
    assert (head.version, head.parent, head.act, head.status) == (4, 2, "promote", "accepted")
    assert (head.cursors, head.state, head.segments, head.rows.read) == (was.cursors, was.state, was.segments, 0)
    assert {n: f for n, f in head.files.items() if n != "rejects.jsonl"} == {
        n: f for n, f in was.files.items() if n != "rejects.jsonl"
    }
    assert verify(pipe.lineage()) == []
    assert pipe.counts()["read"] == 200


def test_rows_after_it_are_read_again_and_every_row_is_accounted_once(pipe: Pipe) -> None:
    """The next night learns what the older version had not read, as if the nights between had not been."""
    twin = pipe.weights(3)
    back(pipe)
    result = pipe.night()
    assert (result.rows.read, result.rows.duplicate) == (100, 0)
    assert pipe.weights() == twin
    assert (pipe.counts()["read"], len(pipe.keys()), len(pipe.known_keys())) == (300, 300, 300)


def test_damage_of_what_was_put_back_is_in_nobodys_way(pipe: Pipe) -> None:
    """An entry that put a version back has all of its files: where that version rots, others can be promoted still."""
    back(pipe, 2)
    (pipe.lineage().path(2) / "manifest.json").write_text("rot")
    assert back(pipe, 3)[1]
    assert prune(pipe.lineage(), 1) == [1, 4]
    assert pipe.head().parent == 3


def test_going_back_twice_leaves_one_entry(pipe: Pipe) -> None:
    """A version whose state serves already is not committed again, however it came to serve."""
    assert back(pipe, 3)[1] is False
    assert back(pipe, 1)[1] is True
    head, is_new = back(pipe, 1)
    assert (head.version, is_new) == (4, False)
    assert back(pipe, 4)[1] is False
    assert len(pipe.lineage().entries()) == 4


def test_rollback_goes_on_back(pipe: Pipe) -> None:
    """Each rollback goes to what the serving state grew from, through entries that only went back, to the first."""
    assert [back(pipe)[0].parent for _ in range(2)] == [2, 1]
    with pytest.raises(DataError, match="the first"):
        back(pipe)
    pipe.night()
    assert back(pipe)[0].parent == 1


def test_skipped_rows_are_read_once_and_left_out(pipe: Pipe) -> None:
    """With skip_rows the cursors stay: the rows that came after the version are excluded, and known ever after."""
    head, _ = back(pipe, 1, skip_rows=True)
    assert (head.rows.read, head.rows.excluded, head.cursors) == (200, 200, pipe.lineage().manifest(3).cursors)
    assert back(pipe, 1, skip_rows=True) == (head, False)
    assert pipe.night().status == "nothing"
    pipe.append(make_rows(50, start=300))
    pipe.append(make_rows(100, start=100))  # delivered again
    result = pipe.night()
    assert (result.rows.read, result.rows.duplicate) == (150, 100)
    counts = pipe.counts()
    assert (counts["read"], counts["excluded"], counts["duplicate"]) == (450, 200, 100)
    assert back(pipe)[0].parent == head.version, "a rollback does not read again what was skipped by hand"
    assert verify(pipe.lineage()) == []


def test_rows_are_skipped_only_of_versions_that_the_head_grew_from(pipe: Pipe) -> None:
    """What the head does not account for cannot be skipped over."""
    back(pipe, 1)
    with pytest.raises(UsageError, match="grew from"):
        back(pipe, 3, skip_rows=True)


def test_a_refused_version_may_be_promoted(tmp_path: Path) -> None:
    """A candidate that the gate refused serves when a person says so, and its rows are not read again."""
    pipe = Pipe(tmp_path, "holdout = 0.4\n" + CONFIG)
    pipe.append(make_rows(2000))
    pipe.night()
    pipe.append(make_rows(2000, start=2000, flipped=True))
    assert pipe.night().status == "refused"
    head, _ = back(pipe, 2)
    assert (head.version, head.parent) == (3, 2)
    assert pipe.night().status == "nothing"
    assert pipe.counts()["read"] == 4000


def test_an_exclusion_holds_on_after_a_rollback(pipe: Pipe) -> None:
    """A version that was rolled back can be excluded: its rows are left out of the night that reads them again."""
    with pytest.raises(UsageError, match="roll back first"):
        pipe.night(exclude=3)
    back(pipe, 1)
    result = pipe.night(exclude=3)
    assert (result.rows.read, result.rows.excluded) == (200, 100)
    back(pipe, 1)
    result = pipe.night()
    assert (result.rows.read, result.rows.excluded) == (200, 100)
    assert pipe.head().excluded == [3]
    with pytest.raises(UsageError, match="is a promote"):
        pipe.night(exclude=4)


def test_what_cannot_serve_is_told(pipe: Pipe) -> None:
    """A version that is not there, was pruned, or is rotten gets one clear error, and nothing is committed."""
    with pytest.raises(CheckpointError, match="not among"):
        back(pipe, 9)
    prune(pipe.lineage(), 1)
    with pytest.raises(DataError, match="were pruned"):
        back(pipe, 1)
    path = pipe.lineage().path(2) / "memory.safetensors"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="changed on disk"):
        back(pipe, 2)
    assert len(pipe.lineage().entries()) == 3


def test_pending_rows_come_back(tmp_path: Path) -> None:
    """Rows that waited at a version wait again after a rollback to it, or, skipped, those that came later do not."""
    for skip_rows in (False, True):
        root = tmp_path / str(skip_rows)
        root.mkdir()
        pipe = Pipe(root)
        pipe.append(make_rows(100))
        pipe.append([row | {"y": ""} for row in make_rows(7, start=100)])
        pipe.night()
        pipe.append([row | {"y": ""} for row in make_rows(5, start=200)])
        pipe.append(make_rows(20, start=300))
        pipe.night()
        assert pipe.head().rows.pending == 12
        head, _ = back(pipe, 1, skip_rows=skip_rows)
        assert (head.rows.pending, head.rows.excluded) == (7, 25 if skip_rows else 0)
        pipe.append(make_rows(7, start=100))  # their labels
        pipe.night()
        assert pipe.head().rows.pending == (0 if skip_rows else 5)
        pipe.counts()
