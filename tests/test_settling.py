"""Which rows are the same row, over a night of any size."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightfit import batch, settling
from nightfit.known import Segment
from pipe import CONFIG, Pipe, make_rows


def nights(root: Path) -> Pipe:
    """Run three nights of new rows, rows that come again, conflicts, and rows that wait."""
    root.mkdir()
    pipe, draw = Pipe(root, CONFIG.replace("[[sources]]", "holdout = 0.2\n[[sources]]")), random.Random(3)  # noqa: S311
    rows = make_rows(900)
    for night in range(3):
        new = rows[300 * night : 300 * (night + 1)]
        again = draw.choices(rows[: 300 * (night + 1)], k=100)
        wrong = [{**row, "x1": 77.0} for row in draw.choices(rows[: 300 * (night + 1)], k=10)]
        waits: list[dict[str, Any]] = [{**row, "y": ""} for row in new[:50]]
        batch_ = [*waits, *new[25:], *again, *wrong]
        draw.shuffle(batch_)
        pipe.append(batch_)
        pipe.night()
    return pipe


def test_a_night_is_settled_in_slices_as_it_would_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few rows and blocks of a few rows give the counts, identities and rejects of a whole one."""
    whole = nights(tmp_path / "whole")
    monkeypatch.setattr(settling, "SLICE_ROWS", 16)
    monkeypatch.setattr(batch, "BLOCK_ROWS", 64)
    sliced = nights(tmp_path / "sliced")
    for version in (1, 2, 3):
        a, b = (pipe.lineage().manifest(version) for pipe in (whole, sliced))
        assert asdict(a.rows) == asdict(b.rows)
        assert a.rows.pending > 0
        assert a.segments == b.segments
        assert sorted(map(str, whole.rejects(version))) == sorted(map(str, sliced.rejects(version)))
    keys = Segment.open(sliced.lineage().segments.file(sliced.head().segments[0])).keys
    assert len(keys) > 16
    assert (np.diff(keys.astype(object)) > 0).all()
