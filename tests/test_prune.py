from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nightfit.acts import promote, rollback
from nightfit.prune import prune
from nightfit.verify import verify
from pipe import CONFIG, Pipe, make_rows

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def has_tensors(pipe: Pipe, version: int) -> bool:
    """Say whether a version can still be loaded."""
    return (pipe.lineage().path(version) / "model.safetensors").exists()


def nights(pipe: Pipe, n: int, start: int = 0) -> None:
    """Run nights of 40 rows."""
    for i in range(start, start + n):
        pipe.append(make_rows(40, start=1000 * i))
        pipe.night()


def test_old_tensors_go_and_manifests_stay(tmp_path: Path) -> None:
    """After each commit the newest `keep` versions have tensors, the others their manifests and rejects."""
    pipe = Pipe(tmp_path, CONFIG.replace("[[sources]]", "[store]\nkeep = 3\n[[sources]]", 1))
    pipe.append([{**row, "x1": "much"} for row in make_rows(2, start=90)] + make_rows(40, start=100))
    pipe.night()
    nights(pipe, 5, start=1)
    assert [v for v in range(1, 7) if has_tensors(pipe, v)] == [4, 5, 6]
    assert [m.version for m in pipe.lineage().ancestry(pipe.head())] == [6, 5, 4, 3, 2, 1]
    assert len(pipe.rejects(1)) == 2
    assert verify(pipe.lineage()) == []


def test_what_a_night_or_a_rollback_needs_stays(tmp_path: Path) -> None:
    """The head's state, what it grew from, and candidates refused since stay, however few are to be kept."""
    pipe = Pipe(tmp_path, CONFIG.replace("[[sources]]", "[store]\nkeep = 1\n[[sources]]", 1))
    nights(pipe, 3)
    assert [v for v in range(1, 4) if has_tensors(pipe, v)] == [2, 3]
    promote(pipe.lineage(), 2, now=NOW)
    nights(pipe, 2, start=3)
    assert [v for v in range(1, 7) if has_tensors(pipe, v)] == [5, 6]


def test_what_was_put_back_can_be_rolled_back_to(tmp_path: Path) -> None:
    """After a promotion, a night, and pruning all but the newest, the state before the night can still serve again."""
    pipe = Pipe(tmp_path, CONFIG.replace("[[sources]]", "[store]\nkeep = 9\n[[sources]]", 1))
    nights(pipe, 4)
    promote(pipe.lineage(), 2, now=NOW)
    nights(pipe, 1, start=4)
    prune(pipe.lineage(), 1, thorough=True)
    assert [v for v in range(1, 7) if has_tensors(pipe, v)] == [2, 5, 6]
    head, is_new = rollback(pipe.lineage(), now=NOW)
    assert is_new
    assert head.files == pipe.lineage().manifest(2).files


def test_segments_go_when_no_kept_version_names_them(tmp_path: Path) -> None:
    """Known rows outlive the version that met them, for as long as a kept version knows them, and no longer."""
    pipe = Pipe(tmp_path)
    nights(pipe, 4)
    prune(pipe.lineage(), 1, thorough=True)
    assert pipe.lineage().segments.count() == 4
    lineage = pipe.lineage()
    (lineage.segments.folder / f"{'0' * 64}.safetensors").write_bytes(b"left over")
    prune(lineage, 1, thorough=True)
    assert lineage.segments.count() == 4
    assert verify(lineage) == []


def test_a_night_that_is_killed_between_commit_and_prune_is_pruned_by_the_next(tmp_path: Path) -> None:
    """Pruning that was cut short leaves a mark, is no damage, and is finished later."""
    pipe = Pipe(tmp_path, CONFIG.replace("[[sources]]", "[store]\nkeep = 2\n[[sources]]", 1))
    nights(pipe, 4)
    lineage = pipe.lineage()
    lineage.strip(3, [], "pruned")  # the mark, and then the kill
    lineage.path(3).joinpath("pruned").unlink()
    assert verify(lineage) == []
    nights(pipe, 1, start=4)
    assert not has_tensors(pipe, 3)


@pytest.mark.parametrize("keep", ["0", "-1", '"all"'])
def test_keep_must_be_a_number_of_versions(tmp_path: Path, keep: str) -> None:
    """A keep that makes no sense is an error of the config."""
    from nightfit.errors import ConfigError

    pipe = Pipe(tmp_path, CONFIG.replace("[[sources]]", f"[store]\nkeep = {keep}\n[[sources]]", 1))
    with pytest.raises(ConfigError, match="keep"):
        pipe.load()
