"""A disk that is full, or fails: by an error put into each call that writes or syncs, and on file systems too small.

What was committed before must be there unharmed, the run must say what is wrong in one line and end with 75, and the
next run, with room again, must come to what an undisturbed one comes to.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.night import Fault, Night
from stress.strace import SYNCING, WRITING
from stress.table import Dose, Result, chance
from stress.zygote import zygote

FULL, BROKEN = Fault("error=ENOSPC", frozenset({75})), Fault("error=EIO", frozenset({75}))
MARK = "0 versions harmed, 75 in one line, the next run as undisturbed"
N_SIZES = 20
PAGE = 4096


def errors(night: Night, *, seed: int, n_points: int | None) -> list[Result]:
    """Put an error into each call that writes, and into each that syncs, or into some of them."""
    found = []
    for fault, names in ((FULL, (*WRITING, "mkdir")), (BROKEN, SYNCING)):
        there = [point for point in night.points if point.name in names]
        chosen = there if n_points is None else chance(seed, fault).sample(there, n_points)
        wrong = [what for point in chosen for what in night.broken(point, fault)]
        what = f"{fault.what} at {len(chosen)} of {len(there)} calls"
        found.append(Result(what, MARK, "; ".join(wrong[:3]) or f"{len(chosen)} of {len(chosen)}", ok=not wrong))
    return found


@contextmanager
def mounted(folder: Path, n_bytes: int) -> Iterator[None]:
    """Mount a file system of this size over a folder, with what is in it; what does not fit raises `OSError`."""
    spare = folder.with_name("spare")
    folder.rename(spare)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", folder], check=True)
    try:
        shutil.copytree(spare, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
        spare.rename(folder)


def small_disks(night: Night, n_sizes: int) -> Result:
    """Have the night on file systems from one that just holds the store to one that holds all of the night."""
    checkpoints, wrong, codes = night.pipeline.root / "checkpoints", list[str](), Counter[int]()
    night.copies.restore()
    least = sum(-(-path.lstat().st_size // PAGE) + 1 for path in checkpoints.rglob("*")) * PAGE
    most = 2 * least
    for i in range(n_sizes):
        night.copies.restore()
        size = least + (most - least) * i // (n_sizes - 1)
        with mounted(checkpoints, size):
            ended = night.run()
            codes[ended.code] += 1
            wrong += [f"{size} bytes: {what}" for what in (*night.spoken(ended, frozenset({0, 75})), *night.harm())]
            subprocess.run(["mount", "-o", f"remount,size={10 * most}", checkpoints], check=True)
            wrong += [f"{size} bytes, then room: {what}" for what in night.next_run()]
    fits = f"{codes[75]} too small, {codes[0]} large enough"
    if not (codes[75] and codes[0]):
        wrong.append(f"the sizes must be around what a night needs, however: {fits}")
    return Result(f"tmpfs of {n_sizes} sizes", MARK, "; ".join(wrong[:3]) or fits, ok=not wrong)


def run(seed: int, dose: Dose) -> list[Result]:
    """Have the baseline's night on disks that fail, and on disks that are too small."""
    is_full = dose == "full"
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-disk-") as folder:
        night = Night(Path(folder).resolve(), "[models.linear]\n", ready)
        return [
            *errors(night, seed=seed, n_points=None if is_full else 3),
            small_disks(night, N_SIZES if is_full else 3),
        ]
