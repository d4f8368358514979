"""Flip a bit, or cut the end off, in each kind of file of a store: it must be seen, and the version before be used.

A segment of known rows is no version's: where it is damaged the version stays, and a night says that it cannot tell
that night's rows when they come again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from nightfit.store import Lineage
from nightfit.verify import verify
from stress.pipeline import Copies, Pipeline, with_every_file
from stress.table import Dose, Result, chance

HEAD, BEFORE = 4, 2


def damaged(data: bytes, draw: Random, *, cut: bool) -> bytes:
    """Return a file with one bit flipped, or without its end."""
    if cut:
        return data[: draw.randrange(len(data))]
    bit, broken = draw.randrange(8 * len(data)), bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def is_seen(lineage: Lineage, path: Path) -> bool:
    """Say whether the damage is an error of `verify`, and what is used instead is the version before, whole."""
    told: list[str] = []
    found = lineage.usable_head(lambda _, why: told.append(why), quarantine=False)
    is_segment = path.parent.name == "segments"
    used = bool(found) and found[0].version == (HEAD if is_segment else BEFORE)  # type: ignore[index]
    return used and bool(told) != is_segment and any(finding.level == "error" for finding in verify(lineage))


def goes_on(pipeline: Pipeline, path: Path) -> list[str]:
    """Have a night with the damage in place; return what is wrong with it."""
    (lineage,) = pipeline.lineages()
    pipeline.append([(40_000 + i, i % 2 - 0.5, "a", i % 2) for i in range(50)])
    (result,) = pipeline.train_here()
    is_segment = path.parent.name == "segments"
    parent = lineage.manifest(HEAD + 1).parent if result.version == HEAD + 1 else None
    said = "will not be recognised" if is_segment else "is set aside"
    wanted = (HEAD if is_segment else BEFORE, 1)
    n_said = sum(said in alarm for alarm in result.alarms)
    if (parent, n_said) != wanted or result.status not in {
        "accepted",
        "refused",
    }:
        return [f"{path.name}: the next night is {result.status} on version {parent}: {result.alarms}"]
    if not is_segment and not lineage.path(HEAD).with_suffix(".quarantined").is_dir():
        return [f"{path.name}: version {HEAD} was not set aside"]
    return []


def run(seed: int, dose: Dose) -> list[Result]:
    """Damage each kind of file, on disk, again and again."""
    n_flips, n_cuts = (400, 100) if dose == "full" else (12, 4)
    found = []
    with tempfile.TemporaryDirectory(prefix="nightfit-flips-") as folder:
        pipeline = with_every_file(Path(folder) / "p")
        copies = Copies(pipeline, Path(folder) / "before")
        (lineage,) = pipeline.lineages()
        assert not [finding for finding in verify(lineage) if finding.level == "error"]
        version = lineage.manifest(HEAD)
        names = ["manifest.json", *version.files]
        for path in [*(lineage.path(HEAD) / name for name in names), lineage.segments.file(version.segments[0])]:
            data, draw, n_seen = path.read_bytes(), chance(seed, path.name), 0
            for i in range(n_flips + n_cuts):
                path.write_bytes(damaged(data, draw, cut=i >= n_flips))
                n_seen += is_seen(lineage, path)
            wrong = goes_on(pipeline, path)
            copies.restore()
            n = n_flips + n_cuts
            what = "a segment" if path.parent.name == "segments" else path.name
            found.append(
                Result(
                    f"{n_flips} flipped bits and {n_cuts} truncations of {what}",
                    f"{n} of {n} seen, the version before is used",
                    "; ".join(wrong) or f"{n_seen} of {n}",
                    ok=n_seen == n and not wrong,
                )
            )
    return found
