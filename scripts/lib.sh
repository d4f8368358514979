# shellcheck shell=bash
# Sourced by the scripts that need an environment: the project's folder, and an environment in its .venv that holds what
# scripts/constraints.txt pins. An environment that was made from the same pins is used again as it is.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

# Print a Python that is new enough: $PYTHON if it is set, else the first one found.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
        if [ "$candidate" = "${PYTHON:-}" ]; then break; fi
    done
    say "Python 3.11 or newer is needed, however ${PYTHON:-none of python3, python3.11 to python3.14} is one;" \
        "install it, or name one: PYTHON=/path/to/python3.12 $0"
    return 1
}

# On Linux, PyPI's torch brings gigabytes of CUDA packages: without an NVIDIA driver, take PyTorch's CPU build.
# A pip that knows other indexes already is left alone.
torch_index() {
    [ "$(uname -s)" = Linux ] || return 0
    ! command -v nvidia-smi >/dev/null || return 0
    ! "$1" -m pip config list 2>/dev/null | grep -qE 'index-url|find-links' || return 0
    [ -z "${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-}${PIP_FIND_LINKS:-}" ] || return 0
    echo --extra-index-url=https://download.pytorch.org/whl/cpu
}

# Make .venv hold the project and its dependencies; $1 is "" or "[dev]". Sets $python.
environment() {
    local base wanted has stamp="$project/.venv/.installed"
    python="$project/.venv/bin/python"
    wanted="$project $(cat "$project/pyproject.toml" "$project/scripts/constraints.txt" | cksum)"
    has=$("$python" -c '' 2>/dev/null && cat "$stamp" 2>/dev/null) || has=
    case $has in
        "$wanted with $1" | "$wanted with [dev]") return ;;
    esac
    base=$(find_python) || return
    say "installing into $project/.venv ..."
    if [ "${has% with *}" != "$wanted" ] && ! "$base" -m venv --clear "$project/.venv"; then
        say "making an environment needs Python's venv, however $base has none; on Debian: apt-get install python3-venv"
        return 1
    fi
    # shellcheck disable=SC2046 # no index at all is no argument
    "$python" -m pip install -qq --disable-pip-version-check $(torch_index "$python") \
        --constraint "$project/scripts/constraints.txt" --editable "$project$1" || return
    printf '%s' "$wanted with $1" >"$stamp"
}
