"""The image and its services: what they copy is there, and what they start is what the command line knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from nightfit import __version__

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "configs" / "docker"


def test_the_image_is_made_of_what_is_there() -> None:
    """Every path that is copied from the project exists, and what a wheel is built from is among them."""
    text = (FOLDER / "Dockerfile").read_text()
    copied = {path for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for path in line.split()}
    assert all((PROJECT / path).exists() for path in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "src", "scripts/constraints.txt"} <= copied


def test_services_start_what_there_is(nightfit: Callable[..., Any]) -> None:
    """The commands and their options exist, and the image is this version's."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert [*services] == ["train", "serve"]
    for service in services.values():
        program, command, *typed = service["command"]
        assert (program, service["image"]) == ("nightfit", f"nightfit:{__version__}")
        said = nightfit(command, "--help")
        assert said.code == 0
        assert all(word in said.out for word in typed if word.startswith("--"))
