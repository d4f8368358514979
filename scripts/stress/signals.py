"""Ask a night to stop, by Ctrl-C or SIGTERM at random moments: it must do so soon, and leave nothing half done."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from nightfit.errors import LockedError
from nightfit.lock import writer_lock
from stress.night import Night
from stress.pipeline import TRAIN
from stress.table import Dose, Result, chance
from stress.zygote import zygote

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MARK_S = 5.0


def listens(pid: int) -> bool:
    """Say whether a process has set up what it does at a SIGTERM; before, no command has begun."""
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) or ["0"]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def run(seed: int, dose: Dose) -> list[Result]:
    """Stop nights of both learners, and have the next run after each."""
    n, draw, wrong, codes, slowest = (
        50 if dose == "full" else 2,
        chance(seed, "signals"),
        list[str](),
        Counter[int](),
        0.0,
    )
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-signals-") as folder:
        night = Night(Path(folder).resolve(), "[models.deep]\n[models.linear]\n", ready)
        night.copies.restore()
        begun = time.monotonic()
        whole_s = night.run().at_s - begun
        while codes.total() - codes[0] < n:
            number = draw.choice(list(CODES))
            night.copies.restore()
            pid = ready.start(night.pipeline.root, *TRAIN)
            ready.go(pid)
            while not listens(pid):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, whole_s))
            asked = time.monotonic()
            os.kill(pid, number)
            ended = ready.wait(pid)
            codes[ended.code] += 1
            if ended.code:
                # a stop that comes while a destructor runs is told by Python as well, in lines of its own, before ours
                ended = ended._replace(said=ended.said.rpartition("\n")[2])
                slowest = max(slowest, ended.at_s - asked)
                wrong += [f"{number.name}: {what}" for what in night.judge(ended, frozenset({CODES[number]}))]
            try:
                with writer_lock(night.pipeline.folder):
                    pass
            except LockedError as error:
                wrong.append(str(error))
    figure = f"{codes[130]} times 130, {codes[143]} times 143, the slowest after {slowest:.2f} s"
    return [
        Result(
            f"{n} times Ctrl-C or SIGTERM at random moments",
            f"130 or 143 within {MARK_S:.0f} s, nothing half done, unlocked",
            "; ".join(wrong[:3]) or figure,
            ok=not wrong and (slowest <= MARK_S or dose == "small"),  # so loaded a machine as CI may be
        )
    ]
