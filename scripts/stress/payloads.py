"""Put code in place of each file of a store: pickles in ten spellings, as they are and with hashes that agree.

Whoever can write into the store can also make the manifest's hashes agree, so that only the formats are in the way.
Each payload makes a file as soon as anything unpickles it; that it would is tried first.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import torch

from nightfit.checkpoint import encode
from nightfit.disk import FileHash
from nightfit.store import Lineage
from stress.flips import HEAD
from stress.pipeline import TRAIN, Copies, Pipeline, with_every_file
from stress.table import Dose, Result
from stress.zygote import Zygote, zygote

COMMANDS = (TRAIN, ("show", str(HEAD), "--config", "n.toml"), ("verify", "--config", "n.toml"))
PREDICT = ("predict", "a.csv", "--config", "n.toml", "--output", "scored.csv")
CODES = {0, 3, 65, 78}


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self._marker), "w")


def payloads(marker: Path) -> dict[str, bytes]:
    """Spell the code in ten ways."""
    evil, array = Evil(marker), np.empty(1, object)
    array[0] = evil

    def written(write: Callable[[io.BytesIO], object]) -> bytes:
        file = io.BytesIO()
        write(file)
        return file.getvalue()

    plain = pickle.dumps(evil)
    header = b'{"__metadata__":{"a":"b"}}'
    return {
        "pickle": plain,
        "pickle, protocol 0": pickle.dumps(evil, 0),
        "pickle of a dict of arrays": pickle.dumps({"weight": np.zeros(3), "x": evil}),
        "pickle, compressed": zlib.compress(plain),
        "joblib": written(lambda file: joblib.dump(evil, file)),
        "joblib, compressed": written(lambda file: joblib.dump(evil, file, compress=3)),
        "torch": written(lambda file: torch.save({"weight": evil}, file)),
        "torch, legacy": written(lambda file: torch.save(evil, file, _use_new_zipfile_serialization=False)),
        "npy of objects": written(lambda file: np.save(file, array, allow_pickle=True)),
        "safetensors with a tail": len(header).to_bytes(8, "little") + header + plain,
    }


def works(marker: Path) -> bool:
    """Say whether unpickling the payload, in a process of its own, does make the file."""
    code = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", code], input=payloads(marker)["pickle"], check=True)
    found = marker.exists()
    marker.unlink(missing_ok=True)
    return found


def plant(lineage: Lineage, slot: str, payload: bytes, *, sealed: bool) -> None:
    """Put the payload there; sealed: with a manifest that says so."""
    manifest, sha = lineage.manifest(HEAD), hashlib.sha256(payload).hexdigest()
    segment = lineage.segments.file(manifest.segments[0])
    if slot == "a segment":
        path = segment.with_name(f"{sha}.safetensors") if sealed else segment
        manifest = replace(manifest, segments=[sha, *manifest.segments[1:]])
    else:
        path = lineage.path(HEAD) / slot
        manifest = replace(manifest, files={**manifest.files, slot: FileHash(sha, len(payload))})
    if sealed:
        (lineage.path(HEAD) / "manifest.json").write_bytes(encode(manifest))
    path.write_bytes(payload)


def attempts(pipeline: Pipeline, ready: Zygote, *, harmless: bool) -> Iterator[str]:
    """Let every command loose on what is there; yield what is wrong with how it ends.

    What nothing ever reads as anything but bytes is harmless, and nobody needs to say a word.
    """
    said = ""
    for command in (PREDICT, *reversed(COMMANDS)):  # training last, as it sets aside what does not verify
        ended = ready.run(pipeline.root, *command)
        said += ended.said
        if ended.code not in CODES or "Traceback" in ended.said:
            yield f"{command[0]} ended with {ended.code}: {ended.said[-300:]}"
    if "however" not in said and not harmless:
        yield f"nobody said that anything was wrong: {said[:300]!r}"


def run(seed: int, dose: Dose) -> list[Result]:
    """Plant each payload in each slot."""
    del seed  # nothing is drawn: every payload goes into every slot
    wrong, n = list[str](), 0
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-payloads-") as folder:
        marker, pipeline = Path(folder) / "executed", with_every_file(Path(folder) / "p")
        pipeline.append([(40_000 + i, i % 2 - 0.5, "a", i % 2) for i in range(50)])  # so that training has to load all
        copies, (lineage,) = Copies(pipeline, Path(folder) / "before"), pipeline.lineages()
        codes, slots = payloads(marker), [*lineage.manifest(HEAD).files, "a segment"]
        planted = [(name, slot, sealed) for name in codes for slot in slots for sealed in (False, True)]
        planted += [(name, "manifest.json", False) for name in codes]
        if not works(marker):
            wrong.append("the payload does nothing, wherever it is unpickled")
        for name, slot, sealed in planted if dose == "full" else planted[:: len(planted) // 8]:
            plant(lineage, slot, codes[name], sealed=sealed)
            harmless = sealed and slot == "rejects.jsonl"
            wrong += [f"{name} as {slot}: {what}" for what in attempts(pipeline, ready, harmless=harmless)]
            if marker.exists():
                wrong.append(f"{name} as {slot} was executed")
                marker.unlink()
            copies.restore()
            n += 1
    return [
        Result(
            f"{len(codes)} spellings of code in each of {len(slots) + 1} files, {n} attempts",
            "0 executed, all refused with a clear line",
            "; ".join(wrong[:3]) or "0 executed, all refused",
            ok=not wrong,
        )
    ]
