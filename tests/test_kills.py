from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "scripts" / "stress_kills.py"


def stress_kills() -> Any:  # noqa: ANN401 - a module
    """Import the script, of which this test is a small dose."""
    spec = spec_from_file_location("stress_kills", SCRIPT)
    assert spec
    assert spec.loader
    module = sys.modules["stress_kills"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kills_lose_nothing_and_tell_nothing_twice(tmp_path: Path) -> None:
    """8 runs killed at random: all versions verify, the next run works, rows count once, weights are the same."""
    stress = stress_kills().Stress(tmp_path, seed=1, n_rows=40, share_imports=0.1)
    report = stress.run(n_kills=8, n_nights=2)
    assert report.wrong == []
    assert sum(report.kills.values()) == 8
