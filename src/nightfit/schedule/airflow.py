"""A DAG for Airflow 3: it imports neither torch nor nightfit, which live in an environment of their own."""

from __future__ import annotations

from nightfit.errors import REFUSED
from nightfit.schedule.plan import AGAIN, MEANINGS, WAITS_S, Plan, comment

DAG = """\
import os
import subprocess
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.timetables.interval import CronDataIntervalTimetable

COMMAND = {command!r}
REFUSED, TRY_AGAIN = {refused}, {again}

with DAG(
    dag_id={dag_id!r},
    schedule=CronDataIntervalTimetable("{minute} {hour} * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,  # a night reads all that is new, however long ago the last one was
    max_active_runs=1,
    tags=["nightfit"],
) as dag:

    @task(retries={retries}, retry_delay=timedelta(seconds={wait_s}), retry_exponential_backoff=True)
    def train(data_interval_start=None, data_interval_end=None):
        \"\"\"Run a night; its output is this task's log.\"\"\"
        interval = {{"DATA_INTERVAL_START": data_interval_start, "DATA_INTERVAL_END": data_interval_end}}
        told = {{name: at.isoformat() for name, at in interval.items() if at is not None}}
        output = {{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}}
        done = subprocess.run(COMMAND, env={{**os.environ, **told}}, check=False, **output)
        print(done.stdout)
        if done.returncode == REFUSED:
            raise AirflowSkipException("a model was refused; the version before it serves on")
        if done.returncode == TRY_AGAIN:
            raise AirflowException("locked, or something is down: tried again")
        if done.returncode:
            raise AirflowFailException(f"nightfit ended with {{done.returncode}}, which no further try mends")

    train()
"""


def files(plan: Plan) -> dict[str, str]:
    """Return the file by its name."""
    needs = comment(f"The config needs these in the worker's environment: {', '.join(plan.needs)}")
    head = comment(
        f"Nights of the pipeline {plan.name}, every day at {plan.hour:02}:{plan.minute:02} UTC. Put it into Airflow's",
        "folder of DAGs; workers must see the program, the config, and what it reads and writes.",
        "The config may take the run's data interval from the environment, in a source's url for one:",
        "${DATA_INTERVAL_START} and ${DATA_INTERVAL_END}, in ISO 8601. Without that a night reads all that is new.",
        "Exit codes:",
        *MEANINGS,
        f"Airflow shows {REFUSED} as skipped, and so skips what comes after it.",
    )
    text = DAG.format(
        command=list(plan.command), dag_id=f"nightfit_{plan.name}", hour=plan.hour, minute=plan.minute,
        refused=REFUSED, again=AGAIN, retries=len(WAITS_S), wait_s=WAITS_S[0],
    )  # fmt: skip
    return {f"nightfit_{plan.name}.py": head + (needs if plan.needs else "") + text}
