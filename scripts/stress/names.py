"""Ask for models, versions and files by two hundred names that lead elsewhere: none may be followed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

from nightfit.checkpoint import Manifest, decode, encode
from nightfit.disk import FileHash
from nightfit.errors import CheckpointError, ConfigError
from nightfit.store import Lineage, Store
from stress.flips import HEAD
from stress.pipeline import Pipeline, with_every_file
from stress.table import Dose, Result, chance
from stress.zygote import zygote

N = 200
COMMANDS = (("show",), ("log", "--model"), ("train", "--model"))
HEADS = (
    *("..", "../..", "../../../outside", "/", "/etc/passwd", "a/../../b", "000004/../000001", "./.", ".hidden", "~/x"),
    *("..\\..", "....//....", "..;/", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f", "..%c0%af..", "..%00/", "#/../.."),
    *("\u2025/", "\uff0e\uff0e\uff0f", "..\u2215..", "a\u0000/..", "\u0000", "\u202e..", "\\\\host\\share", "C:\\x"),
    *("file:///etc/passwd", "?a=/..", "$(touch x)", "`touch x`", "${HOME}", " ", "\n.."),
)
TAILS = ("", "/secret", "/../secret", "\u0000.json", "#x", "/.")


def corpus(seed: int) -> list[str]:
    """List two hundred names, none of which is a plain one."""
    return chance(seed, "names").sample([head + tail for head, tail in product(HEADS, TAILS)], N)


def outside(pipeline: Pipeline) -> dict[str, bytes | None]:
    """Return everything in and around the pipeline but its store's staging and lock, to compare."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(pipeline.root.parent.rglob("*"))
        if ".staging" not in path.parts and path.name != ".lock"
    }


def refuses(call: Callable[[], object], error: type[Exception]) -> bool:
    """Say whether a call ends with this error, and says why."""
    try:
        call()
    except error as raised:
        return "however" in str(raised)
    return False


def refused_inside(name: str, lineage: Lineage, manifest: Manifest) -> list[str]:
    """Return the places that take such a name: a pipeline's, a model's, and a manifest's files and segments."""
    file, store = FileHash("0" * 64, 1), Store(lineage.pipeline.folder.parent)
    calls: dict[str, tuple[Callable[[], object], type[Exception]]] = {
        "pipeline": (lambda: store.pipeline(name), ConfigError),
        "model": (lambda: store.pipeline("p").lineage(name), ConfigError),
        "manifest": (lambda: decode(encode(replace(manifest, files={name: file}))), CheckpointError),
        "segments": (lambda: decode(encode(replace(manifest, segments=[name]))), CheckpointError),
        "file": (lambda: lineage.load(manifest, [name]), CheckpointError),
        "segment": (lambda: lineage.segments.read(name), CheckpointError),
    }
    return [f"{name!r} is taken for a {what}" for what, (call, error) in calls.items() if not refuses(call, error)]


def run(seed: int, dose: Dose) -> list[Result]:
    """Try each name in each place, and some (in the full dose: all) on the command line."""
    wrong, names = list[str](), corpus(seed)
    typed = names if dose == "full" else names[:4]
    ready = zygote()
    with tempfile.TemporaryDirectory(prefix="nightfit-names-") as folder:
        pipeline = with_every_file(Path(folder) / "p")
        (lineage,) = pipeline.lineages()
        manifest, before = lineage.manifest(HEAD), outside(pipeline)
        for name in names:
            wrong += refused_inside(name, lineage, manifest)
        for words, typed_name in product(COMMANDS, typed):
            command = (*words, typed_name)
            ended = ready.run(pipeline.root, *command, "--config", "n.toml")
            if ended.code not in {2, 78} or not ended.said.startswith("nightfit: "):
                wrong.append(f"{command} ended with {ended.code}: {ended.said[-300:]}")
        if outside(pipeline) != before:
            wrong.append("something was written")
    return [
        Result(
            f"{len(names)} names that lead elsewhere, in 6 places each, {len(typed)} of them typed",
            "0 followed, all refused with a clear line",
            "; ".join(wrong[:3]) or "0 followed, all refused",
            ok=not wrong,
        )
    ]
