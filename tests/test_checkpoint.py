from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit import __version__, checkpoint
from nightfit.checkpoint import (
    FORMAT,
    Draft,
    Manifest,
    NewerFormatError,
    RowCounts,
    decode,
    encode,
    pack,
    seal,
    unpack,
)
from nightfit.disk import FileHash, disk_errors, read_file, write_file
from nightfit.errors import CheckpointError, ConfigError, NightfitError, TryAgainError

if TYPE_CHECKING:
    from pathlib import Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)
DTYPES = st.sampled_from(["uint64", "int64", "float64", "float32", "bool"])


def a_draft(**changes: Any) -> Draft:  # noqa: ANN401 - any field of a draft
    """Give a draft in which every kind of field says something."""
    draft = Draft(
        parent=41,
        status="accepted",
        created_at="2026-11-05T02:00:00Z",
        cursors={"db": {"after": [12, "é"]}},
        rows=RowCounts(read=10, learned=9, held_out=1),
        prequential={"log_loss": 0.1 + 0.2, "auc": 1},
        verdict="accepted: better by 3 %",
        night={"seconds": 1e22, "device": "cpu"},
        state={"generator": 2**127 + 1},
        segments=["ab" * 32],
    )
    return replace(draft, **changes)


def a_manifest(**changes: Any) -> Manifest:  # noqa: ANN401 - any field of a draft
    """Give the manifest of such a draft, sealed."""
    files = {"deep.safetensors": FileHash("cd" * 32, 7)}
    return seal(a_draft(**changes), files, pipeline="bookings", model="deep", version=42)


def respelled(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    """Give a manifest with other fields and the digest that goes with them."""
    raw = json.loads(encode(a_manifest())) | changes
    return checkpoint._pretty(raw | {"digest": checkpoint._digest(raw)})


def test_rows_are_conserved() -> None:
    """Rows balance exactly when what came in and waited is what went out and waits."""
    rows = RowCounts(read=10, learned=5, held_out=1, rejected=1, duplicate=1, excluded=1, pending=4)
    assert rows.conserved(pending_before=3)
    assert not rows.conserved(pending_before=2)
    assert not RowCounts(read=1, learned=2, rejected=-1).conserved(pending_before=0)


def test_a_manifest_says_who_wrote_it() -> None:
    """A sealed draft carries the format, the version of nightfit and its own place and digest."""
    manifest = a_manifest()
    assert (manifest.format, manifest.nightfit) == (FORMAT, __version__)
    assert (manifest.pipeline, manifest.model, manifest.version) == ("bookings", "deep", 42)
    assert len(manifest.digest) == 64
    assert b'\n  "pipeline": "bookings",\n' in encode(manifest)


@given(night=OBJECTS, state=OBJECTS, cursor=OBJECTS, loss=st.floats(allow_nan=False, allow_infinity=False))
def test_a_manifest_round_trips(
    night: dict[str, Any], state: dict[str, Any], cursor: dict[str, Any], loss: float
) -> None:
    """Whatever JSON a night has to say comes back as it was, and spells the same again."""
    manifest = a_manifest(night=night, state=state, cursors={"db": cursor}, prequential={"log_loss": loss})
    assert (manifest.night, manifest.state, manifest.cursors["db"]) == (night, state, cursor)
    assert repr(manifest.prequential["log_loss"]) == repr(loss)
    assert decode(encode(manifest)) == manifest


def test_a_lone_surrogate_round_trips() -> None:
    """A file name that is no Unicode does not keep a night from being committed."""
    assert a_manifest(cursors={"caf\udce9.csv": {"at": 1}}).cursors == {"caf\udce9.csv": {"at": 1}}


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -float("inf")])
def test_no_figure_but_a_finite_one_gets_in(figure: float) -> None:
    """NaN and the infinities are refused wherever they hide, never written as null."""
    for changes in ({"prequential": {"auc": figure}}, {"state": {"a": [{"b": figure}]}}):
        with pytest.raises(ValueError, match="JSON compliant"):
            a_manifest(**changes)


def test_every_bit_flip_in_a_manifest_is_seen() -> None:
    """There is no bit of a manifest that may change unnoticed."""
    data = encode(a_manifest())
    for position in range(len(data) * 8):
        rotten = bytearray(data)
        rotten[position // 8] ^= 1 << position % 8
        with pytest.raises(CheckpointError):
            decode(bytes(rotten))


def test_every_truncation_of_a_manifest_is_seen() -> None:
    """A manifest that was cut anywhere, or grew, is not read."""
    data = encode(a_manifest())
    for cut in [data[:end] for end in range(len(data))] + [data + b" ", data + data]:
        with pytest.raises(CheckpointError):
            decode(cut)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"7", b"{}", b"\xff", b"NaN", b"[" * 100_000, b"1" * 9_999])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Anything but a manifest is one sentence, whatever it is."""
    with pytest.raises(CheckpointError, match=r"^version 42 must .*however") as caught:
        decode(data, name="version 42")
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused_with_both_named() -> None:
    """An intact manifest of a newer nightfit is told apart from rot, and the message says what to do."""
    with pytest.raises(NewerFormatError, match=rf"format {FORMAT} .*format 7; upgrade .*2\.0") as caught:
        decode(respelled(format=7, nightfit="2.0", wholly="new"))
    assert isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "42"},
        {"status": "perhaps"},
        {"rows": {"read": 1.5}},
        {"prequential": {"auc": None}},
        {"files": {"../../etc/passwd": {"sha256": "ab" * 32, "size": 1}}},
        {"files": {"manifest.json": {"sha256": "ab" * 32, "size": 1}}},
        {"files": {".hidden": {"sha256": "ab" * 32, "size": 1}}},
        {"segments": ["../" + "ab" * 32]},
        {"format": "1"},
    ],
)
def test_wrong_types_and_names_are_refused(changes: dict[str, Any]) -> None:
    """A manifest with an honest digest still has to make sense, and cannot point outside its folder."""
    with pytest.raises(CheckpointError, match="however"):
        decode(respelled(**changes))


def test_a_field_of_a_later_release_is_read_over() -> None:
    """Within one format a release may add a field without shutting out an older one."""
    assert decode(respelled(mood="good")).version == 42


@given(
    st.dictionaries(st.text().filter("__metadata__".__ne__), st.tuples(DTYPES, st.lists(st.integers(0, 3), max_size=3)))
)
def test_arrays_round_trip(shapes: dict[str, tuple[str, list[int]]]) -> None:
    """Arrays of every kind and shape, empty and 0-d ones included, come back bit by bit, in sorted order."""
    draw = np.random.default_rng(0)
    arrays = {
        name: np.asarray(draw.integers(0, 256, shape) % (2 if dtype == "bool" else 256)).astype(dtype)
        for name, (dtype, shape) in shapes.items()
    }
    back = unpack(pack(arrays))
    assert list(back) == sorted(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_extreme_values_round_trip() -> None:
    """NaN, the infinities and the ends of the integers are data to tensors."""
    arrays = {
        "f": np.array([np.nan, np.inf, -0.0, 5e-324]),
        "u": np.array([0, 2**64 - 1], dtype=np.uint64),
        "i": np.array([-(2**63)]),
    }
    assert all(unpack(pack(arrays))[n].tobytes() == a.tobytes() for n, a in arrays.items())


def test_equal_arrays_give_equal_bytes() -> None:
    """Neither order nor memory layout nor byte order shows in the file, so equal states hash equal."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(4)
    same = {"b": b.astype(">i8"), "a": np.asfortranarray(a)}
    assert pack({"a": a, "b": b}) == pack(same) == pack({"b": np.arange(8)[::2] // 2, "a": a})


def test_unpacked_arrays_may_be_written() -> None:
    """A learner may go on in the arrays that it was given."""
    unpack(pack({"a": np.zeros(2)}))["a"][0] = 1.0


@pytest.mark.parametrize("data", [b"", b"\x80\x04\x95.", b"\xff" * 64, pack({"a": np.zeros(3)})[:-1], pack({}) + b"x"])
def test_what_is_no_safetensors_is_refused(data: bytes) -> None:
    """Pickles, torn files and noise are errors of the checkpoint, never executed."""
    with pytest.raises(CheckpointError, match="must be safetensors, however"):
        unpack(data)


def test_flipped_tensors_never_crash() -> None:
    """Noise in a tensor file, unhashed, gives arrays or a CheckpointError and nothing else."""
    data, draw = pack({"a": np.arange(5.0), "b": np.zeros((2, 2), bool)}), random.Random(0)  # noqa: S311
    for _ in range(400):
        rotten = bytearray(data)
        rotten[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            unpack(bytes(rotten))
        except CheckpointError:
            continue


def test_objects_cannot_be_packed() -> None:
    """What would need pickle, or a name that safetensors keeps for itself, is refused when written."""
    with pytest.raises(Exception, match="dtype"):
        pack({"a": np.array([object()])})
    with pytest.raises(ValueError, match="__metadata__"):
        pack({"__metadata__": np.zeros(1)})


def test_a_file_is_hashed_while_it_is_copied(tmp_path: Path) -> None:
    """A large file is streamed, and its hash and size are those of its bytes."""
    content = os.urandom(3_000_001)
    (tmp_path / "big").write_bytes(content)
    assert write_file(tmp_path / "a", tmp_path / "big") == write_file(tmp_path / "b", content)
    assert read_file(tmp_path / "a") == content


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A link, a pipe, a folder or a missing file is broken, and none of them blocks or is followed."""
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe", "missing"):
        with pytest.raises(CheckpointError, match=name):
            read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, TryAgainError),
        (errno.EDQUOT, TryAgainError),
        (errno.EIO, TryAgainError),
        (errno.EMFILE, TryAgainError),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
    ],
)
def test_the_disk_speaks_our_errors(tmp_path: Path, number: int, kind: type[NightfitError]) -> None:
    """What time may mend asks for another run, what it cannot points at the configuration."""
    with pytest.raises(kind, match="however"), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))


def test_nothing_heavy_is_imported() -> None:
    """`--help` and `log` pay neither for arrays nor, until a manifest is read, for msgspec."""
    heavy = "torch sklearn pandas pyarrow sqlalchemy numpy safetensors msgspec"
    script = "import sys, nightfit.store, nightfit.lock; sys.exit(str(set(sys.argv) & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", script, *heavy.split()], capture_output=True, text=True, check=False)
    assert not done.stderr.strip()
