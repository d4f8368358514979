"""A CronJob for Kubernetes (1.31 or later, where jobs know exit codes); what a night said is its pod's log."""

from __future__ import annotations

import json
from pathlib import PurePath

from nightfit import __version__
from nightfit.errors import REFUSED
from nightfit.schedule.plan import AGAIN, MEANINGS, Plan, comment

TRIES = 6
"""Further tries of a night that time may mend: Kubernetes waits 10 s before the first, and twice as long each time."""

LONGEST_NAME = 52
"""Of a CronJob: its jobs' names have eleven characters more, and may have 63."""

NIGHT = f'nightfit "$@" || {{ code=$?; [ $code -eq {REFUSED} ] || exit $code; }}'

CRONJOB = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: "{minute} {hour} * * *"
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 43200 # a night that the cluster slept through is made up for, half a day long
  jobTemplate:
    spec:
      backoffLimit: {tries}
      podFailurePolicy:
        rules:
          - action: Ignore # a node that was drained is no failure of the night
            onPodConditions:
              - type: DisruptionTarget
                status: "True"
          - action: FailJob
            onExitCodes:
              operator: NotIn
              values: [{again}]
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: train
              image: {image} # yours, with nightfit in it: docs/nightly.md has its Dockerfile
              command: [{command}]
{secrets}              volumeMounts:
                - name: pipeline
                  mountPath: {folder}
          volumes:
            - name: pipeline # the config, its checkpoints, and the files that it reads
              persistentVolumeClaim:
                claimName: {name}
"""

SECRETS = """\
              envFrom:
                - secretRef:
                    name: {name}
"""


def files(plan: Plan) -> dict[str, str]:
    """Return the file by its name."""
    name = f"nightfit-{plan.name}".replace("_", "-")[:LONGEST_NAME].rstrip("-")
    place = plan.command[-1]
    head = comment(
        f"Nights of the pipeline {plan.name}, every day at {plan.hour:02}:{plan.minute:02} UTC: kubectl apply -f this.",
        f"It wants a claim {name} that holds the folder of {place}.",
        "Exit codes:",
        *MEANINGS,
        f"A job of Kubernetes knows one code of success, so {REFUSED} ends as 0; the log has the verdict.",
    )
    secrets = comment(f"The config needs these; a secret {name} has them: {', '.join(plan.needs)}")
    words = ("/bin/sh", "-c", NIGHT, "nightfit", *plan.command[-3:])
    text = CRONJOB.format(
        name=name, hour=plan.hour, minute=plan.minute, tries=TRIES, again=AGAIN,
        image=json.dumps(f"nightfit:{__version__}"), command=", ".join(map(quoted, words)),
        folder=json.dumps(str(PurePath(place).parent)), secrets=SECRETS.format(name=name) if plan.needs else "",
    )  # fmt: skip
    return {f"{name}.yaml": head + (secrets if plan.needs else "") + text}


def quoted(word: str) -> str:
    """Return a word of a container's command: in YAML's double quotes, and $ doubled, as $(NAME) would be replaced.

    >>> quoted("$(id) of it")
    '"$$(id) of it"'
    """
    return json.dumps(word.replace("$", "$$"))
