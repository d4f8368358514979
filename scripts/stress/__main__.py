"""Run stresses one after the other, then print one table; exit 1 if a mark was missed."""

from __future__ import annotations

import argparse
import sys
import traceback
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder, whose modules would hide others

from stress.table import Dose, Result, names, show  # noqa: E402


def results(name: str, seed: int, dose: Dose) -> list[Result]:
    """Run one; what it raises is a mark that was missed, and the others still have their turn."""
    print(f"{name}, {dose} dose, seed {seed}", file=sys.stderr, flush=True)
    try:
        found: list[Result] = import_module(f"stress.{name}").run(seed, dose)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return [Result(name, "runs", f"{type(error).__name__}: {error}".splitlines()[0], ok=False)]
    return found


def main() -> int:
    """Do what was typed."""
    parser = argparse.ArgumentParser("stress", description=sys.modules["stress"].__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dose", choices=("small", "full"), default="small")
    asked = parser.parse_args()
    if unknown := sorted({*asked.name} - {*names()}):
        parser.error(f"a stress must be one of {', '.join(names())}, however {unknown[0]!r} is none")
    found = [result for name in asked.name or names() for result in results(name, asked.seed, asked.dose)]
    show(found)
    return not all(result.ok for result in found)


if __name__ == "__main__":
    sys.exit(main())
