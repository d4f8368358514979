#!/usr/bin/env bash
# The night: run `nightfit train`, try again what time may mend, and speak only when a person is needed.
#
# In a crontab (crontab -e), every night at 02:30; cron mails what is printed, which is nothing when all is well:
#
#   30 2 * * *  /path/to/nightfit/scripts/nightly.sh --config /path/to/nightfit/configs/nightfit.toml
#
# Everything typed after it goes to `nightfit train`. The log is checkpoints/nightly.log of the project, or
# NIGHTFIT_LOG. NIGHTFIT names another program than .venv/bin/nightfit of the project or the one on PATH.
# NIGHTFIT_TRIES (5) and NIGHTFIT_WAIT_S (60, doubled each time) say how long a locked pipeline or a database that is
# down is waited for. It ends with the last exit code of `nightfit train`.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log=${NIGHTFIT_LOG:-$project/checkpoints/nightly.log}
tries=${NIGHTFIT_TRIES:-5}
wait_s=${NIGHTFIT_WAIT_S:-60}

# Append lines to the log, each with the time.
note() {
    local line
    while IFS= read -r line; do
        printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$line"
    done <<<"$1" >>"$log"
}

# Say something to the person who reads cron's mail, and keep it.
tell() {
    note "$1"
    printf '%s\n' "$1" >&2
}

program=${NIGHTFIT:-}
if [ -z "$program" ] && [ -x "$project/.venv/bin/nightfit" ]; then program=$project/.venv/bin/nightfit; fi
if [ -z "$program" ]; then program=$(command -v nightfit || true); fi
cd "$project"
mkdir -p "$(dirname "$log")"
if [ -z "$program" ]; then
    tell "nightly.sh needs nightfit, however it is neither in $project/.venv nor on PATH; install it, or set NIGHTFIT"
    exit 78
fi

for ((try = 1; ; try++)); do
    code=0
    said=$("$program" train "$@" 2>&1) || code=$?
    note "nightfit train ended with $code${said:+: $said}"
    if [ "$code" -ne 75 ] || [ "$try" -ge "$tries" ]; then break; fi
    sleep "$wait_s"
    wait_s=$((wait_s * 2))
done

what=$(grep '^nightfit: ' <<<"$said" || printf '%s' "$said" | tail -n 20)
if [ "$code" -ne 0 ] && [ -n "$what" ]; then printf '%s\n' "$what" >&2; fi
case $code in
    0) ;;
    3)
        tell "A model was refused: the version before it stays in service, and its rows are read again next night."
        tell "Nothing needs doing after one refusal. After three, look at the rows (nightfit log, nightfit show N);"
        tell "then accept them (nightfit train --accept 'why') or leave them out (nightfit train --exclude N)."
        ;;
    65)
        tell "The data cannot be used: nothing was learned, and nothing was lost. Mend the source; every night tries again."
        tell "If the rows are right as they are: nightfit train --accept 'why'. If a version is damaged: nightfit verify."
        ;;
    75)
        tell "Still locked or out of reach after $tries tries; the next night tries again. nightfit doctor says more."
        ;;
    78)
        tell "The config, or a device or library that it needs, cannot work: nightfit doctor says what to mend."
        ;;
    2)
        tell "The command line is wrong: look at the crontab; nightfit train --help lists the options."
        ;;
    130 | 143)
        tell "Interrupted; nothing was committed that is not whole, and the next night begins where the last one ended."
        ;;
    *)
        tell "nightfit ended with $code, which is a bug or the machine's end of it (memory?); the whole output: $log"
        ;;
esac
exit "$code"
