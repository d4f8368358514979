"""A line for cron, which mails what is printed: nothing when all is well, what was said when a person is needed."""

from __future__ import annotations

import shlex

from nightfit.schedule.plan import AGAIN, MEANINGS, WAITS_S, Plan, comment


def files(plan: Plan) -> dict[str, str]:
    """Return the file by its name."""
    head = comment(
        f"Nights of the pipeline {plan.name}, every day at {plan.hour:02}:{plan.minute:02} (the machine's time).",
        "Add these lines to your crontab: crontab -e. (In /etc/cron.d a user's name goes before the command.)",
        "cron mails what is printed: nothing when all is well. Exit codes:",
        *MEANINGS,
    )
    secrets = comment(
        "The config needs these; cron passes on nothing of your shell, so give them values here:",
        *(f"{name}=" for name in plan.needs),
    )
    line = f"{plan.minute} {plan.hour} * * * {escaped(night(plan))}\n"
    return {f"nightfit-{plan.name}.cron": head + (secrets if plan.needs else "") + line}


def night(plan: Plan) -> str:
    """Return the night as a line of shell; what was said by a try that time mended is not printed."""
    waits = " ".join(map(str, (*WAITS_S, 0)))
    return (
        f"for wait in {waits}; do said=$({quoted(plan)} 2>&1); code=$?; "
        f"[ $code -eq {AGAIN} ] && [ $wait -gt 0 ] || break; sleep $wait; done; "
        """[ -z "$said" ] || printf '%s\\n' "$said"; exit $code"""
    )


def quoted(plan: Plan) -> str:
    r"""Return the command for a shell; no % stands behind a \, which cron would take for its own."""
    return shlex.join(plan.command).replace("\\%", "\\''%")


def escaped(line: str) -> str:
    r"""Return a line as cron wants it: it makes a newline of each % that has no \ before it."""
    return line.replace("%", "\\%")
