"""Start twenty trainers of one pipeline at once: one has its night, the others end with 75 at once, no row twice.

"At once" is from asking for the lock to the end of the process; what twenty processes on two cores took besides, from
the start of them all, is told beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

from stress.pipeline import TRAIN, Pipeline, Truth, check_accounts, unreadable
from stress.table import Dose, Result, chance
from stress.zygote import Zygote, zygote

N = 20
MARK_S = 1.0
N_ROWS = 400


class Rounds:
    """A pipeline with a new night for each round, and what went wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.pipeline, self.truth, self._draw = Pipeline(folder / "p"), Truth(), chance(seed, "trainers")
        self.pipeline.start()
        self.wrong: list[str] = []
        self.slowest_s = self.wall_s = 0.0

    def deliver(self) -> None:
        """Append a night's rows, so many that whoever wins is still at work when the last of the others asks."""
        self.pipeline.append(self.truth.make(self._draw, N_ROWS))

    def check(self, codes: Counter[int], said: list[str]) -> None:
        """Compare how all of a round ended with how they must."""
        if codes != {0: 1, 75: N - 1}:
            self.wrong.append(f"{dict(codes)} are the exit codes: {said}")
        self.wrong += [line for line in said if line and "one run at a time" not in line]
        self.wrong += unreadable(self.pipeline) + check_accounts(self.pipeline, self.truth)

    def forked(self, ready: Zygote) -> None:
        """Let forked processes run, which have imported everything."""
        self.deliver()
        pids = [ready.start(self.pipeline.root, *TRAIN) for _ in range(N)]
        begun = time.monotonic()
        for pid in pids:
            ready.go(pid)
        ended = [ready.wait(pid) for pid in pids]
        self.check(Counter(each.code for each in ended), [each.said for each in ended])
        losers = [each for each in ended if each.code]
        self.slowest_s = max(self.slowest_s, *(each.at_s - each.asked_s for each in losers))
        self.wall_s = max(self.wall_s, *(each.at_s - begun for each in losers))

    def started(self) -> float:
        """Start processes as twenty crons would; return the seconds until the last of the losers has ended."""
        self.deliver()
        begun = time.monotonic()
        processes = [self.pipeline.train() for _ in range(N)]
        last_s = 0.0
        said, codes = list[str](), Counter[int]()
        while processes:
            for process in [process for process in processes if process.poll() is not None]:
                processes.remove(process)
                said.append(process.communicate()[1].decode().strip())
                codes[process.returncode] += 1
                last_s = time.monotonic() - begun if process.returncode else last_s
            time.sleep(0.01)
        self.check(codes, said)
        return last_s


def run(seed: int, dose: Dose) -> list[Result]:
    """Have rounds of forked processes, and some of processes that load Python at the same time."""
    n_forked, n_started = (20, 3) if dose == "full" else (1, 0)
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-trainers-") as folder:
        rounds = Rounds(Path(folder), seed)
        for _ in range(n_forked):
            rounds.forked(ready)
        loaded_s = [rounds.started() for _ in range(n_started)]
    figure = f"all so, within {rounds.slowest_s:.2f} s; {rounds.wall_s:.1f} s after all were started"
    if loaded_s:
        figure += f"; {max(loaded_s):.1f} s with loading Python, in {n_started} more rounds"
    return [
        Result(
            f"{N} trainers at once, {n_forked} rounds",
            f"1 wins, {N - 1} end with 75 within {MARK_S:.0f} s of asking, 0 rows twice",
            "; ".join(rounds.wrong[:3]) or figure,
            ok=not rounds.wrong and (rounds.slowest_s <= MARK_S or dose == "small"),  # so loaded as CI may be
        )
    ]
