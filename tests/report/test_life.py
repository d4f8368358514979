from __future__ import annotations

import json
from pathlib import Path

from conftest import Command


def test_report_writes_the_life_of_a_pipeline(home: Path, nightfit: Command) -> None:
    """The page has every model with its version in service, and `--json` the same versions as `log`."""
    done = nightfit("report", "-o", "page.html", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert {name: model["serving"] for name, model in told["models"].items()} == {"deep": 1, "linear": 1}
    page = (home / "page.html").read_text()
    assert "it is the first" in page
    assert "deep: where the rows went" in page


def test_report_names_what_is_wrong_with_its_output(home: Path, nightfit: Command) -> None:
    """A folder that is not there is a mistake on the command line."""
    assert nightfit("report", "-o", home / "none" / "page.html").code == 2
