"""What a real Airflow makes of the DAG: `scripts/test_airflow`, which installs it, runs these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightfit.schedule import airflow
from nightfit.schedule.plan import Plan

pytestmark = pytest.mark.airflow

DRIVER = """
import json, runpy, sys
from datetime import datetime, timedelta, timezone

dag = runpy.run_path(sys.argv[1])["dag"]
for task in dag.tasks:
    task.retry_delay = timedelta(0)  # nobody waits for a minute here
for day in range(int(sys.argv[2])):
    run = dag.test(logical_date=datetime(2026, 3, 2 + day, 12, tzinfo=timezone.utc))
    print("RAN", json.dumps([(str(i.state), i.try_number) for i in run.get_task_instances()]))
print("LOADED", json.dumps(sorted(sys.modules)))
"""

FAKE = """#!/bin/sh
echo "$DATA_INTERVAL_START $DATA_INTERVAL_END $*" >> "$0.calls"
code=$(head -n 1 "$0.codes")
sed -i.bak 1d "$0.codes"
exit "$code"
"""


class Airflow:
    """An Airflow with a database of its own, in SQLite."""

    def __init__(self, folder: Path) -> None:
        self._python = Path(os.environ["NIGHTFIT_AIRFLOW"])
        self.dags = folder / "dags"
        self.dags.mkdir(parents=True)
        self._driver = folder / "driver.py"
        self._driver.write_text(DRIVER)
        self._environment = os.environ | {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        self._run("-m", "airflow", "db", "migrate")

    def _run(self, *arguments: str | Path) -> str:
        typed = [self._python, *arguments]
        done = subprocess.run(typed, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, plan: Plan, n_days: int) -> tuple[list[tuple[str, int]], set[str]]:
        """Run a plan's DAG for some days; return each day's state and try, and what modules Airflow's Python loaded."""
        for name, text in airflow.files(plan).items():
            (self.dags / name).write_text(text)
        lines = self._run(self._driver, self.dags / f"nightfit_{plan.name}.py", str(n_days)).splitlines()
        told = {
            word: [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(word)]
            for word in ("RAN", "LOADED")
        }
        return [tuple(task) for day in told["RAN"] for task in day], set(told["LOADED"][0])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Set up an Airflow."""
    return Airflow(tmp_path_factory.mktemp("airflow"))


def test_airflow_knows_the_exit_codes(real: Airflow, tmp_path: Path) -> None:
    """0 succeeds, 3 is skipped, 75 is tried again, 65, 78 and a bug fail at once; the run's interval is passed on."""
    program = tmp_path / "50% it's" / "nightfit"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    codes = [0, 3, 75, 75, 0, 65, 78, 1]
    Path(f"{program}.codes").write_text("".join(f"{code}\n" for code in codes))
    plan = Plan("fake", (str(program), "train", "--config", "a b.toml"), 2, 30, ())
    states, loaded = real.run(plan, 6)
    assert states == [("success", 1), ("skipped", 1), ("success", 3), ("failed", 1), ("failed", 1), ("failed", 1)]
    assert not {"torch", "nightfit"} & loaded
    calls = Path(f"{program}.calls").read_text().splitlines()
    assert calls[0] == "2026-03-01T02:30:00+00:00 2026-03-02T02:30:00+00:00 train --config a b.toml"
    assert len(calls) == len(codes)


def test_airflow_runs_a_night(real: Airflow, home: Path, make_rows: Callable[..., str]) -> None:
    """A real night is committed: what Airflow starts is the command line."""
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(100, 600, header=False))
    plan = replace(Plan.of(home / "configs" / "nightfit.toml", "02:30"), name="real")
    plan = replace(plan, command=(sys.executable, "-m", "nightfit", *plan.command[plan.command.index("train") :]))
    states, _ = real.run(plan, 1)
    assert states == [("success", 1)]
    assert (home / "checkpoints" / "shop" / "deep" / "000002").is_dir()
