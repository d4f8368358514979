from __future__ import annotations

from pathlib import Path

from stress import sources


def test_rows_of_every_source_are_accounted_for_once(tmp_path: Path) -> None:
    """Each row comes three times, by seven sources and in any order, some without a label, and nights are killed."""
    report = sources.stress(tmp_path, seed=5, nights=3, rows=20, kills=2)
    assert report.wrong == []
    assert report.nights == 3
    assert len(report.delivered) == 7
