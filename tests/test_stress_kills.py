from __future__ import annotations

from pathlib import Path

from stress.kills import Stress


def test_kills_lose_nothing_and_tell_nothing_twice(tmp_path: Path) -> None:
    """8 runs killed at random: all versions verify, the next run works, rows count once, weights are the same."""
    report = Stress(tmp_path, seed=1, n_rows=40, share_imports=0.1).run(n_kills=8, n_nights=2)
    assert report.wrong == []
    assert sum(report.kills.values()) == 8
