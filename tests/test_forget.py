from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from nightfit.acts import promote
from nightfit.checkpoint import unpack
from nightfit.cleaning import identities
from nightfit.errors import DataError, UsageError
from nightfit.forget import forget
from nightfit.pending import Pending
from nightfit.prune import finish_erasing
from nightfit.store import Lineage
from nightfit.verify import verify
from pipe import CONFIG, Pipe, make_rows

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DEEP = CONFIG.replace("[models.linear]\n", "[models.linear]\n[models.deep]\nd_hidden = 8\nn_epochs = 1\n")


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline of both models that has learned two nights, with a reject and rows that wait."""
    pipe = Pipe(tmp_path, DEEP)
    pipe.append([*make_rows(60), *({**row, "y": ""} for row in make_rows(5, start=500))])
    pipe.nights()
    pipe.append([*make_rows(60, start=100), {**make_rows(1, start=7000)[0], "x1": "much"}])
    pipe.nights()
    return pipe


def hashes(pipe: Pipe, *keys: str) -> np.ndarray:
    """Return the identities of keys."""
    return identities(keys, pipe.load().rules, ["a.csv"])[1]


def remembers(pipe: Pipe, key: str, name: str) -> bool:
    """Say whether any file of any version of a model holds the row of a key, or its key in a reject."""
    found = False
    for path in pipe.lineage(name).folder.glob("*/*"):
        if path.name == "memory.safetensors":
            arrays = unpack(path.read_bytes())
            rows = [a for n, a in arrays.items() if n.endswith("key_hash")]
            found |= bool(np.isin(np.concatenate(rows), hashes(pipe, key)).any())
        elif path.name == "pending.arrow":
            found |= key in Pending.of({path.name: path.read_bytes()}).key_texts()
        elif path.name == "rejects.jsonl":
            found |= f'"{key}"' in path.read_text()
    return found


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_no_memory_holds_a_forgotten_row(pipe: Pipe, name: str) -> None:
    """Learned, held out, pending or rejected: afterwards no file of any version holds the row."""
    learned = [str(i) for i in range(60)]
    assert any(remembers(pipe, key, name) for key in learned)
    assert remembers(pipe, "501", name)
    assert remembers(pipe, "7000", name)
    weights = pipe.weights(name=name)
    head, n_rows = forget(pipe.load(), pipe.lineage(name), [*learned, "501", "7000"], now=NOW)
    assert (head.version, head.act, head.parent, head.rows.pending) == (3, "forget", 2, 4)
    assert n_rows >= (61 if name == "deep" else 1)
    assert not any(remembers(pipe, key, name) for key in [*learned, "501", "7000"])
    assert remembers(pipe, "502", name)
    assert pipe.weights(name=name) == weights, "nothing is unlearned"
    assert verify(pipe.lineage(name)) == []
    pipe.counts(name)


def test_what_is_forgotten_is_not_learned_again(pipe: Pipe) -> None:
    """A forgotten row that is delivered again is excluded, also after a rollback; other rows are learned."""
    for name in ("deep", "linear"):
        forget(pipe.load(), pipe.lineage(name), ["3", "501"], now=NOW)
    pipe.append([{**make_rows(1, start=3)[0], "x1": 99.0}, *make_rows(1, start=501), *make_rows(5, start=900)])
    result = pipe.nights()["deep"]
    assert (result.rows.read, result.rows.excluded) == (7, 2)
    assert not remembers(pipe, "3", "deep")
    promote(pipe.lineage("deep"), 3, now=NOW)
    assert pipe.nights()["deep"].rows.excluded == 2
    pipe.counts("deep")


def test_an_erased_version_serves_only_without_its_rows(pipe: Pipe) -> None:
    """Its memories are gone: it is not gone on from as it was, but with --skip-rows its weights serve."""
    forget(pipe.load(), pipe.lineage("deep"), ["3"], now=NOW)
    lineage = pipe.lineage("deep")
    with pytest.raises(DataError, match="--skip-rows"):
        promote(lineage, 1, now=NOW)
    head, _ = promote(lineage, 1, now=NOW, skip_rows=True)
    assert (head.rows.pending, head.rows.read, head.rows.excluded) == (0, 61, 66)
    assert pipe.weights(name="deep") == pipe.weights(1, name="deep")
    pipe.append(make_rows(60, start=2000))
    assert pipe.nights()["deep"].rows.learned > 40
    pipe.counts("deep")


def test_a_deletion_that_was_cut_short_is_finished(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies between the commit and the deletions leaves them to the next one; verify tells until then."""
    lineage = pipe.lineage("deep")
    strip: Callable[..., None] = Lineage.strip

    def dies(self: Lineage, version: int, names: list[str], mark: str) -> None:
        if version == 1:
            raise KeyboardInterrupt
        strip(self, version, names, mark)

    monkeypatch.setattr(Lineage, "strip", dies)
    with pytest.raises(KeyboardInterrupt):
        forget(pipe.load(), lineage, ["3"], now=NOW)
    monkeypatch.undo()
    assert any(f.level == "error" and f.version == 1 and "must be gone" in f.message for f in verify(lineage))
    pipe.append(make_rows(40, start=3000))
    assert pipe.nights()["deep"].status == "accepted"
    assert verify(lineage) == []
    assert not (lineage.path(1) / "memory.safetensors").exists()


def test_quarantined_folders_are_emptied_too(pipe: Pipe) -> None:
    """A rotten version that was set aside keeps none of its rows."""
    lineage = pipe.lineage("deep")
    path = lineage.path(2) / "model.safetensors"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    forget(pipe.load(), lineage, ["3"], now=NOW)
    aside = lineage.folder / "000002.quarantined"
    assert aside.exists()
    assert not {"memory.safetensors", "pending.arrow", "rejects.jsonl"} & {p.name for p in aside.iterdir()}
    assert not remembers(pipe, "3", "deep")
    head = lineage.head()
    assert head
    finish_erasing(lineage, head)  # which may be done again


@pytest.mark.parametrize(
    ("config", "key", "says"),
    [
        (CONFIG, "", "means 'missing'"),
        (CONFIG.replace('key = "id"', 'key = ["id", "c"]'), "7", "2 \\(id, c\\) columns"),
        (CONFIG.replace('key = "id"\n', ""), "7", "no columns"),
    ],
)
def test_what_cannot_be_a_key_is_told(tmp_path: Path, config: str, key: str, says: str) -> None:
    """An empty key, one of too few parts, and any key where rows have none, are errors that say so."""
    pipe = Pipe(tmp_path, config)
    pipe.append(make_rows(60))
    pipe.night()
    with pytest.raises(UsageError, match=says):
        forget(pipe.load(), pipe.lineage(), [key], now=NOW)


def test_keys_are_found_however_they_are_spelled(tmp_path: Path) -> None:
    """A composite key, a key of one source each, and a number with zeros are the keys that were learned."""
    for config, key in (
        (DEEP.replace('key = "id"', 'key = ["id", "c"]'), None),
        (DEEP.replace('key = "id"', 'key = "id"\nkey_scope = "source"'), "7.00"),
    ):
        root = tmp_path / str(len(config))
        root.mkdir()
        pipe = Pipe(root, config)
        rows = make_rows(60)
        pipe.append(rows)
        pipe.nights()
        n_rows = forget(pipe.load(), pipe.lineage("deep"), [key or f"7,{rows[7]['c']}"], now=NOW)[1]
        assert n_rows in {1, 2}, "held out once, or learned: in both memories"
