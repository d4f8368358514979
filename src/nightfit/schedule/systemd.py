"""A service and its timer for systemd; what is printed is in the journal."""

from __future__ import annotations

import getpass

from nightfit.errors import REFUSED, ConfigError
from nightfit.schedule.plan import AGAIN, MEANINGS, WAITS_S, Plan, comment


def files(plan: Plan) -> dict[str, str]:
    """Return both units by their names; raises `ConfigError` for a program that systemd would not start."""
    if unsafe := set(plan.command[0]) & set("\"'\\"):
        raise ConfigError(
            f"systemd starts programs without {' '.join(sorted(unsafe))} in their path, however this one is "
            f"{plan.command[0]}; install nightfit elsewhere"
        )
    unit = f"nightfit-{plan.name}"
    return {f"{unit}.service": _service(plan, unit), f"{unit}.timer": _timer(plan, unit)}


def _service(plan: Plan, unit: str) -> str:
    secrets = comment("The config needs these, each in a line NAME=value of this file:", *plan.needs)
    secrets += f"EnvironmentFile=/etc/nightfit/{plan.name}.env\n"
    return (
        comment(
            f"A night of the pipeline {plan.name}. Both units go to /etc/systemd/system; then:",
            f"systemctl daemon-reload && systemctl enable --now {unit}.timer",
            f"What it said: journalctl -u {unit}. Exit codes:",
            *MEANINGS,
        )
        + f"""
[Unit]
Description=nightfit: a night of {plan.name}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=1h
StartLimitBurst={len(WAITS_S) + 1}

[Service]
# Not oneshot, for which older systemds know no further try.
Type=exec
User={getpass.getuser()}
{secrets if plan.needs else ""}ExecStart=:{" ".join(map(quoted, plan.command))}
SuccessExitStatus={REFUSED}
Restart=no
RestartForceExitStatus={AGAIN}
RestartSec={sum(WAITS_S) // len(WAITS_S)}
"""
    )


def _timer(plan: Plan, unit: str) -> str:
    return (
        comment(f"Starts {unit}.service every day; a night that the machine slept through is made up for.")
        + f"""
[Unit]
Description=nightfit: nights of {plan.name}

[Timer]
OnCalendar=*-*-* {plan.hour:02}:{plan.minute:02}:00
Persistent=true

[Install]
WantedBy=timers.target
"""
    )


def quoted(word: str) -> str:
    r"""Return a word of ExecStart: quotes and \ escaped, % doubled; by the ":" before it a $ is no variable.

    >>> quoted('50% of "it"')
    '"50%% of \\"it\\""'
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
