from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nightfit import checkpoint
from nightfit.checkpoint import Draft, Manifest, NewerFormatError, RowCounts, encode
from nightfit.errors import CheckpointError, ConfigError, TryAgainError
from nightfit.store import Lineage, Store
from nightfit.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = bytes(range(256)) * 4

COMMITTER = """
import pathlib, sys
from nightfit.checkpoint import Draft, RowCounts
from nightfit.lock import writer_lock
from nightfit.store import Store
pipeline = Store(pathlib.Path(sys.argv[1])).pipeline("bookings")
with writer_lock(pipeline.folder):
    pipeline.clear_staging()
    lineage = pipeline.lineage("deep")
    head = lineage.head()
    onto = head.version if head else None
    print("up", flush=True)
    while True:
        files = {"deep.safetensors": str(onto).encode() * 20_000, "rejects.jsonl": b"{}" * 500}
        draft = Draft(parent=onto, status="accepted", created_at="", cursors={"db": {"after": onto}},
                      rows=RowCounts(), prequential={}, verdict="", night={}, state={}, files=files)
        onto = lineage.commit(draft, onto=onto).version
"""


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    """Give an empty lineage."""
    return Store(tmp_path / "checkpoints").pipeline("bookings").lineage("deep")


def a_draft(parent: int | None, **changes: Any) -> Draft:  # noqa: ANN401 - any field of a draft
    """Give an accepted draft with two files."""
    draft = Draft(
        parent=parent,
        status="accepted",
        created_at="2026-11-05T02:00:00Z",
        cursors={"db": {"after": 1}},
        rows=RowCounts(read=2, learned=2),
        prequential={"log_loss": 0.5},
        verdict="accepted",
        night={},
        state={},
        files={"deep.safetensors": STATE, "rejects.jsonl": b'{"row": 1}\n'},
    )
    return replace(draft, **changes)


def add_segment(lineage: Lineage, data: bytes) -> str:
    """Keep a segment of these bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return lineage.segments.add(Path(file.name))


def commit(lineage: Lineage, **changes: Any) -> Manifest:  # noqa: ANN401 - any field of a draft
    """Commit a draft onto the head."""
    head = lineage.head()
    onto = head.version if head else None
    return lineage.commit(a_draft(**({"parent": onto} | changes)), onto=onto)


def never(version: int, reason: str) -> None:
    """Fail where a version is called broken."""
    pytest.fail(f"version {version}: {reason}")


def levels(lineage: Lineage) -> list[tuple[str, int | None]]:
    """Say what verify found, without its sentences."""
    return [(finding.level, finding.version) for finding in verify(lineage)]


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file around."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def in_staging(lineage: Lineage) -> list[str]:
    """Name what lies in staging."""
    return [path.name for path in lineage.pipeline.leftovers()]


@pytest.mark.parametrize("name", ["bookings", "a", "0-9_z", "a" * 64])
def test_a_plain_name_is_a_pipeline_and_a_model(tmp_path: Path, name: str) -> None:
    """Lower-case letters, digits, - and _ make a name, and nothing is created until it is used."""
    assert Store(tmp_path).pipeline(name).lineage(name).entries() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "/etc", "A", "-a", "_a", ".staging", "a\n", "a\0", "é", "a" * 65, "a.b"],
)
def test_a_name_never_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    """What could be a path, a hidden file or another spelling of a name is refused."""
    for attempt in (Store(tmp_path).pipeline, Store(tmp_path).pipeline("p").lineage):
        with pytest.raises(ConfigError, match="however it is"):
            attempt(name)


def test_a_committed_version_is_the_head(lineage: Lineage) -> None:
    """What was committed comes back: manifest, cursors, the bytes of every file, or of those named."""
    assert (lineage.head(), lineage.usable_head(never)) == (None, None)
    first, second = commit(lineage), commit(lineage)
    assert (first.version, first.parent, second.version, second.parent) == (1, None, 2, 1)
    assert lineage.head() == second == lineage.manifest(2)
    assert lineage.load(second) == {"deep.safetensors": STATE, "rejects.jsonl": b'{"row": 1}\n'}
    assert lineage.load(second, ["rejects.jsonl"]) == {"rejects.jsonl": b'{"row": 1}\n'}
    assert (verify(lineage), in_staging(lineage)) == ([], [])


def test_a_refused_version_is_kept_and_never_the_head(lineage: Lineage) -> None:
    """A refusal is a numbered entry; the head stays where it was."""
    first = commit(lineage)
    refused = commit(lineage, status="refused")
    assert lineage.head() == first
    assert [(e.version, e.status, e.manifest) for e in lineage.entries()] == [
        (1, "accepted", first),
        (2, "refused", refused),
    ]
    assert commit(lineage).version == 3


def test_a_commit_onto_another_head_is_refused(lineage: Lineage) -> None:
    """A night that ran beside another one cannot overwrite what it did not see."""
    for onto in (1, 0):
        with pytest.raises(TryAgainError, match="head is None"):
            lineage.commit(a_draft(None), onto=onto)
    commit(lineage)
    with pytest.raises(TryAgainError, match="run again"):
        lineage.commit(a_draft(None), onto=None)
    assert len(lineage.entries()) == 1


def test_a_missing_version_is_answered_with_those_there_are(lineage: Lineage) -> None:
    """Asking for a number that does not exist names the ones that do."""
    for _ in range(5):
        commit(lineage)
    lineage.path(3).rename(lineage.folder / "000003.quarantined")
    for version in (3, 6, -1):
        with pytest.raises(CheckpointError, match=r"1 to 2, 4 to 5; `nightfit log`"):
            lineage.manifest(version)


def test_a_file_that_was_not_committed_is_not_loaded(lineage: Lineage) -> None:
    """Only names of the manifest can be read."""
    manifest = commit(lineage)
    with pytest.raises(CheckpointError, match=r"version 1 .*'\.\./secret'"):
        lineage.load(manifest, ["../secret"])


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "", "manifest.json", "a\0b"])
def test_a_file_cannot_be_committed_elsewhere(lineage: Lineage, name: str) -> None:
    """A name that is more than a name is a bug of the caller, and leaves nothing behind."""
    with pytest.raises(ValueError, match="plain name"):
        commit(lineage, files={name: b""})
    assert (lineage.entries(), in_staging(lineage)) == ([], [])


def test_a_figure_that_is_not_finite_commits_nothing(lineage: Lineage) -> None:
    """A NaN in the figures stops the commit as a whole."""
    with pytest.raises(ValueError, match="JSON"):
        commit(lineage, prequential={"log_loss": float("nan")})
    assert (lineage.entries(), in_staging(lineage)) == ([], [])


def test_every_flipped_bit_is_detected(lineage: Lineage) -> None:
    """400 random bit flips in each kind of file: none is loaded, each is found by verify."""
    manifest, draw = commit(lineage, segments=[add_segment(lineage, STATE)]), random.Random(7)  # noqa: S311
    folder = lineage.path(1)
    for path in (folder / "manifest.json", folder / "deep.safetensors", folder / "rejects.jsonl"):
        for _ in range(400):
            bit = draw.randrange(path.stat().st_size * 8)
            flip(path, bit)
            assert lineage.usable_head(lambda _version, _reason: None, quarantine=False) is None
            assert ("error", 1) in levels(lineage)
            flip(path, bit)
    assert lineage.usable_head(never) == (manifest, {"deep.safetensors": STATE})


def test_every_flipped_bit_of_a_segment_is_detected(lineage: Lineage) -> None:
    """A rotten segment is an error of verify, refused when read, and costs no version."""
    sha, draw = add_segment(lineage, STATE), random.Random(7)  # noqa: S311
    commit(lineage, segments=[sha])
    path = lineage.folder / "segments" / f"{sha}.safetensors"
    for _ in range(400):
        bit = draw.randrange(len(STATE) * 8)
        flip(path, bit)
        with pytest.raises(CheckpointError, match=sha):
            lineage.segments.read(sha)
        assert levels(lineage) == [("error", None)]
        assert lineage.usable_head(never)
        flip(path, bit)
    assert lineage.segments.read(sha) == STATE


def test_every_truncation_is_detected(lineage: Lineage) -> None:
    """100 truncations of each file, down to nothing, and its absence: none is loaded."""
    manifest = commit(lineage)
    for path in [lineage.path(1) / name for name in ("manifest.json", "deep.safetensors", "rejects.jsonl")]:
        whole = path.read_bytes()
        for cut in range(100):
            path.write_bytes(whole[: len(whole) * cut // 100])
            assert lineage.usable_head(lambda _version, _reason: None, quarantine=False) is None
        path.unlink()
        assert lineage.usable_head(lambda _version, _reason: None, quarantine=False) is None
        path.write_bytes(whole)
    assert lineage.load(manifest)


def test_a_broken_head_is_quarantined_and_the_one_before_is_used(lineage: Lineage) -> None:
    """Rot anywhere in a version renames it, tells why, and falls back to the one before; nothing goes."""
    good = commit(lineage)
    for name in ("manifest.json", "deep.safetensors", "rejects.jsonl"):
        commit(lineage)
        flip(lineage.path(len(lineage.entries())) / name, 99 % 8)
    told: list[tuple[int, str]] = []
    assert lineage.usable_head(lambda version, reason: told.append((version, reason))) == (
        good,
        {"deep.safetensors": STATE},
    )
    assert [version for version, _ in told] == [4, 3, 2]
    assert [e.status for e in lineage.entries()] == ["accepted", *["quarantined"] * 3]
    assert sorted(p.name for p in lineage.folder.iterdir())[1:] == [f"00000{n}.quarantined" for n in (2, 3, 4)]
    assert commit(lineage).version == 5
    assert lineage.usable_head(never)


def test_a_reader_falls_back_without_touching_anything(lineage: Lineage) -> None:
    """Predict skips a broken head as the trainer does, and renames nothing."""
    commit(lineage)
    commit(lineage)
    (lineage.path(2) / "deep.safetensors").unlink()
    told: list[int] = []
    found = lineage.usable_head(lambda version, _reason: told.append(version), quarantine=False)
    assert found
    assert (found[0].version, told) == (1, [2])
    assert lineage.path(2).exists()


def test_a_taken_quarantine_name_gets_a_suffix(lineage: Lineage) -> None:
    """A version that a person put back and that breaks again is kept beside the first."""
    for _ in range(3):
        shutil.rmtree(lineage.path(1), ignore_errors=True)
        lineage.folder.mkdir(parents=True, exist_ok=True)
        lineage.path(1).mkdir()
        assert lineage.usable_head(lambda _version, _reason: None) is None
    assert [item.name for item in lineage.items()] == [f"000001.quarantined{end}" for end in ("", "-2", "-3")]
    assert commit(lineage).version == 2


def test_a_newer_nightfits_version_is_not_touched(lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older nightfit neither quarantines nor commits over what a newer one has written."""
    commit(lineage)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "FORMAT", 2)
        commit(lineage)
    attempts = (
        lineage.head,
        lambda: lineage.usable_head(never),
        lambda: lineage.commit(a_draft(1), onto=1),
    )
    for attempt in attempts:
        with pytest.raises(NewerFormatError, match="version 2 of bookings/deep"):
            attempt()
    assert [entry.status for entry in lineage.entries()] == ["accepted", "quarantined"]
    assert lineage.path(2).exists()


def test_foreign_things_are_left_alone_and_named(lineage: Lineage, tmp_path: Path) -> None:
    """Junk, links and copies are warnings, never followed, deleted, counted or overwritten."""
    first = commit(lineage)
    (lineage.folder / "notes.txt").write_text("mine")
    (lineage.folder / "000001 (copy)").mkdir()
    (lineage.folder / "0000007").mkdir()
    (lineage.folder / "000000").mkdir()
    (lineage.folder / "000002").symlink_to(tmp_path)
    (lineage.path(1) / "extra").write_text("mine")
    assert [item.kind for item in lineage.items()].count("foreign") == 5
    assert levels(lineage) == [("warning", 1), *[("warning", None)] * 5]
    assert (lineage.head(), len(lineage.entries())) == (first, 1)
    assert commit(lineage).version == 3
    assert (lineage.folder / "000002").is_symlink()
    with pytest.raises(CheckpointError):
        lineage.manifest(2)


def test_a_copy_under_another_number_is_not_believed(lineage: Lineage) -> None:
    """A version is what its manifest says it is, or nothing: copies do not become the head."""
    commit(lineage)
    shutil.copytree(lineage.path(1), lineage.path(9))
    other = Lineage(lineage.pipeline, "linear")
    shutil.copytree(lineage.path(1), other.path(1))
    assert [(e.version, e.status) for e in lineage.entries()] == [(1, "accepted"), (9, "quarantined")]
    assert other.head() is None
    with pytest.raises(CheckpointError, match="a copy"):
        lineage.manifest(9)
    assert commit(lineage).version == 10


def test_links_in_place_of_files_and_folders_are_refused(lineage: Lineage, tmp_path: Path) -> None:
    """A file, a model or a pipeline that was swapped for a link is not followed, not even to equal bytes."""
    manifest = commit(lineage)
    path = lineage.path(1) / "deep.safetensors"
    path.rename(tmp_path / "same")
    path.symlink_to(tmp_path / "same")
    with pytest.raises(CheckpointError, match=r"000001/deep\.safetensors"):
        lineage.load(manifest)
    for folder in (lineage.folder, lineage.pipeline.folder):
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
        for attempt in (lineage.head, lambda: lineage.commit(a_draft(None), onto=1)):
            with pytest.raises(ConfigError, match="link"):
                attempt()
        folder.unlink()
        (tmp_path / "moved").rename(folder)


def test_a_manifest_cannot_point_outside(lineage: Lineage, tmp_path: Path) -> None:
    """Even a manifest with an honest digest reads nothing outside its folder."""
    (tmp_path / "secret").write_bytes(b"x")
    manifest = commit(lineage, files={"a": b"x"})
    evil = replace(manifest, files={"../../../../secret": manifest.files["a"]})
    (lineage.path(1) / "manifest.json").write_bytes(encode(evil))
    with pytest.raises(CheckpointError, match="plain files"):
        lineage.manifest(1)


def test_the_ancestry_is_that_of_the_state(lineage: Lineage) -> None:
    """It follows `parent`, not the numbers, and ends where a version cannot be read."""
    for parent in (None, 1, 2, 1):
        commit(lineage, parent=parent)
    assert [m.version for m in lineage.ancestry(lineage.manifest(4))] == [4, 1]
    assert [m.version for m in lineage.ancestry(lineage.manifest(3))] == [3, 2, 1]
    lineage.path(2).rename(lineage.folder / "000002.quarantined")
    assert [m.version for m in lineage.ancestry(lineage.manifest(3))] == [3]
    looped = replace(lineage.manifest(4), parent=4)
    assert lineage.ancestry(looped) == [looped]


def test_a_pruned_version_is_neither_broken_nor_used(lineage: Lineage) -> None:
    """Tensors that are gone on purpose are no error, are not quarantined, and need no segments."""
    commit(lineage, segments=["ab" * 32])
    assert ("error", None) in levels(lineage), "a segment that is named must be there"
    lineage.strip(1, ["deep.safetensors"], "pruned")
    lineage.strip(1, ["deep.safetensors"], "pruned")  # which may be done again
    assert ("error", 1) in levels(lineage), "but the head must not be pruned"
    told: list[str] = []
    assert lineage.usable_head(lambda _version, why: told.append(why)) is None
    assert "was pruned" in told[0]
    assert lineage.entries()[0].status == "accepted"
    commit(lineage)
    assert levels(lineage) == []


def test_a_file_that_was_deleted_must_be_gone(lineage: Lineage) -> None:
    """What a version says it erased is an error where it is there again, and none where it is gone."""
    commit(lineage)
    commit(lineage, act="forget", erased={"1": ["deep.safetensors"]})
    assert levels(lineage) == [("error", 1)]
    lineage.strip(1, ["deep.safetensors"], "erased")
    assert levels(lineage) == []


def test_a_segment_is_kept_once_and_mended(lineage: Lineage) -> None:
    """Adding equal bytes again is free, and replaces a rotten copy by a good one."""
    sha = add_segment(lineage, b"keys")
    path = lineage.folder / "segments" / f"{sha}.safetensors"
    before = path.stat().st_ino
    assert add_segment(lineage, b"keys") == sha
    assert path.stat().st_ino == before
    flip(path, 3)
    assert add_segment(lineage, b"keys") == sha
    assert (lineage.segments.read(sha), in_staging(lineage)) == (b"keys", [])
    for name in ("../" + sha, sha.upper(), sha[1:]):
        with pytest.raises(CheckpointError, match="SHA-256"):
            lineage.segments.read(name)


def test_staging_is_private_listed_and_cleared(lineage: Lineage, tmp_path: Path) -> None:
    """Leftovers are warnings of verify; clearing removes them and follows no link out."""
    pipeline = lineage.pipeline
    assert pipeline.leftovers() == []
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    work = pipeline.staging()
    (work / "sub").mkdir()
    (work / "sub" / "chunk").write_bytes(b"x")
    (pipeline.folder / ".staging" / "link").symlink_to(tmp_path / "kept")
    assert (stat.S_IMODE(work.stat().st_mode), levels(lineage)) == (0o700, [("warning", None)] * 2)
    pipeline.clear_staging()
    assert (pipeline.leftovers(), (tmp_path / "kept" / "file").read_text()) == ([], "mine")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_store_is_private(lineage: Lineage, umask: int) -> None:
    """Folders have mode 0700 and files 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        commit(lineage, segments=[add_segment(lineage, b"keys")])
    finally:
        os.umask(before)
    root = lineage.pipeline.folder.parent
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record every fsync and rename, by the path at the time."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(handle: int) -> None:
        calls.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def recorded_rename(source: str, target: str) -> None:
        calls.append(("rename", str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to name what was synced")
def test_a_commit_syncs_in_the_one_safe_order(lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file, then their folder, then the rename, then the folder above: no power cut shows a half."""
    commit(lineage)
    calls = spy(monkeypatch)
    commit(lineage)
    kinds = [kind for kind, _ in calls]
    assert kinds == ["fsync"] * 4 + ["rename", "fsync"]
    staging = calls[3][1]
    assert {path for _, path in calls[:3]} == {
        f"{staging}/{name}" for name in ("manifest.json", "deep.safetensors", "rejects.jsonl")
    }
    assert [path for _, path in calls[4:]] == [str(lineage.path(2)), str(lineage.folder)]
    calls.clear()
    sha = add_segment(lineage, b"keys")
    folder = str(lineage.folder / "segments")
    assert calls[0] == ("fsync", str(lineage.folder)), "the new folder's own name"
    assert [kind for kind, _ in calls[1:]] == ["fsync", "rename", "fsync"]
    assert [path for _, path in calls[2:]] == [f"{folder}/{sha}.safetensors", folder]


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_failed_fsync_commits_nothing_and_is_not_tried_again(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """EIO on any fsync before the rename ends the night: no version, no leftovers, no second try."""
    first, fsync, n_calls = commit(lineage), os.fsync, 0

    def broken(handle: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == failing:
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(TryAgainError, match="check the disk"):
        commit(lineage)
    assert n_calls == failing
    assert (lineage.head(), len(lineage.entries()), in_staging(lineage)) == (first, 1, [])


def test_a_failed_fsync_after_the_rename_leaves_a_whole_version(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only the name may not be durable the night fails loudly, and what is there is complete."""
    commit(lineage)
    sync = iter([None] * 4)
    fsync = os.fsync

    def broken(handle: int) -> None:
        if next(sync, handle) is not None:
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(TryAgainError):
        commit(lineage)
    monkeypatch.undo()
    found = lineage.usable_head(never)
    assert found
    assert (found[0].version, verify(lineage)) == (2, [])


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[None]:
    """Mount a file system of this size for a while."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a tmpfs")
def test_a_full_disk_damages_nothing(tmp_path: Path) -> None:
    """On any disk, a commit that does not fit says so, leaves nothing and works once there is room."""
    n_failed = 0
    for n_pages in range(30, 80, 2):
        with small_disk(tmp_path / str(n_pages), n_pages * 4096):
            lineage = Store(tmp_path / str(n_pages) / "checkpoints").pipeline("bookings").lineage("deep")
            first = commit(lineage)
            ballast = tmp_path / str(n_pages) / "ballast"
            ballast.write_bytes(b"x" * 4096 * 20)
            big = {"a.safetensors": b"a" * 50_000, "b.safetensors": b"b" * 50_000}
            try:
                commit(lineage, files=big)
            except TryAgainError as error:
                n_failed += 1
                assert "No space left" in str(error)  # noqa: PT017 - small sizes fail and large ones do not
                assert (lineage.head(), in_staging(lineage), verify(lineage)) == (first, [], [])
                if n_pages >= 45:
                    ballast.unlink()
                    assert commit(lineage, files=big).version == 2
    assert 5 < n_failed < 25


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_store_that_cannot_be_written_is_a_matter_of_config(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Permissions do not mend with time, so the exit code is 78 and the message names the folder."""
    first = commit(lineage)

    def denied(*_: object) -> None:
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(ConfigError, match="bookings/deep"):
        commit(lineage)
    assert (lineage.head(), in_staging(lineage)) == (first, [])


def test_60_kills_leave_only_whole_versions(tmp_path: Path) -> None:
    """SIGKILL at any moment of a tight commit loop: every version reads back, and numbers go up by one."""
    lineage, draw = Store(tmp_path).pipeline("bookings").lineage("deep"), random.Random(3)  # noqa: S311
    n_kills = 0
    while n_kills < 60 or (len(lineage.entries()) < 60 and n_kills < 300):  # a loaded machine commits less a kill
        n_kills += 1
        committer = subprocess.Popen([sys.executable, "-c", COMMITTER, str(tmp_path)], stdout=subprocess.PIPE)
        assert committer.stdout
        assert committer.stdout.readline() == b"up\n"
        time.sleep(draw.uniform(0, 0.05))
        os.kill(committer.pid, signal.SIGKILL)
        committer.wait()
        committer.stdout.close()
    manifests = [entry.manifest for entry in lineage.entries()]
    assert len(manifests) >= 60
    assert [m and (m.version, m.parent) for m in manifests] == [
        (n, n - 1 or None) for n in range(1, len(manifests) + 1)
    ]
    assert {finding.level for finding in verify(lineage)} <= {"warning"}
    lineage.pipeline.clear_staging()
    assert verify(lineage) == []
