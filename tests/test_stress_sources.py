from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "scripts" / "stress_sources.py"


def stress_sources() -> Any:  # noqa: ANN401 - a module
    """Import the script, of which this test is a small dose."""
    spec = spec_from_file_location("stress_sources", SCRIPT)
    assert spec
    assert spec.loader
    module = sys.modules["stress_sources"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_of_every_source_are_accounted_for_once(tmp_path: Path) -> None:
    """Each row comes three times, by seven sources and in any order, some without a label, and nights are killed."""
    script = stress_sources()
    asked = script.options().parse_args(["--nights", "3", "--rows", "20", "--kills", "2", "--seed", "5"])
    report = script.stress(tmp_path, asked)
    assert report.wrong == []
    assert report.nights == 3
    assert len(report.delivered) == 7
