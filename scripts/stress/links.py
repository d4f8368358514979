"""Put a link in place of each file and folder of a store, to the same bytes elsewhere: none may be followed.

What a run opens is read off the kernel's answers (strace), so that not even a look goes unnoticed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from stress.flips import HEAD
from stress.payloads import CODES
from stress.pipeline import TRAIN, Copies, with_every_file
from stress.strace import traced
from stress.table import Dose, Result, chance
from stress.zygote import zygote

VERIFY = ("verify", "--config", "n.toml")


def contents(folder: Path) -> dict[str, object]:
    """Return what is in a folder, and when it changed."""
    return {str(path): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def run(seed: int, dose: Dose) -> list[Result]:
    """Swap each file and folder for a link, and train and verify."""
    wrong = list[str]()
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-links-") as name:
        folder = Path(name).resolve()
        pipeline, away = with_every_file(folder / "p"), folder / "away"
        copies, store = Copies(pipeline, folder / "before"), pipeline.folder
        slots = [store, *sorted(path for path in store.rglob("*") if f"{HEAD - 1:06d}" not in path.parts)]
        chosen = slots if dose == "full" else chance(seed, "links").sample(slots, 6)
        for path in chosen:
            shutil.rmtree(away, ignore_errors=True)
            away.mkdir()
            path.rename(away / path.name)
            path.symlink_to(away / path.name)
            before, said = contents(away), ""
            for command in (VERIFY, TRAIN):
                ended, _ = traced(ready, pipeline.root, command)
                said += ended.said
                opened = re.findall(rf"= \d+<({re.escape(str(away))}[^>]*)>", (folder / "trace").read_text())
                wrong += [f"{path}: {command[0]} opened {each}" for each in opened]
                if ended.code not in CODES or "Traceback" in ended.said:
                    wrong.append(f"{path}: {command[0]} ended with {ended.code}: {ended.said[-300:]}")
            if contents(away) != before:
                wrong.append(f"{path}: what it links to has changed")
            if "however" not in said and "is not ours" not in said:
                wrong.append(f"{path}: nobody said that anything was wrong: {said!r}")
            copies.restore()
    return [
        Result(
            f"links in place of {len(chosen)} of {len(slots)} files and folders",
            "0 followed, all refused with a clear line",
            "; ".join(wrong[:3]) or "0 followed, all refused",
            ok=not wrong,
        )
    ]
