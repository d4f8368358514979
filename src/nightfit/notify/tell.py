"""Tell everyone that the config names; what goes wrong is a warning, as the night itself is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nightfit.errors import NightfitError

if TYPE_CHECKING:
    from nightfit.config import Config
    from nightfit.notify.told import Told


def notify(config: Config, told: Told) -> Iterator[str]:
    """Tell of a night; yield a sentence for each who could not be told."""
    if config.notify.webhook:
        yield from _warned(lambda: _post(config, told))
    if config.notify.textfile:
        yield from _warned(lambda: _write(config, told))


def _warned(act: Callable[[], str]) -> Iterator[str]:
    try:
        wrong = act()
    except NightfitError as error:
        wrong = str(error)
    if wrong:
        yield f"{wrong}; this changes nothing about the night"


def _post(config: Config, told: Told) -> str:
    from nightfit.notify.webhook import post

    return post(config.notify, told.to_json())


def _write(config: Config, told: Told) -> str:
    from nightfit.notify.textfile import write

    path = config.root / config.notify.textfile
    try:
        write(path, told)
    except OSError as error:
        return f"notify.textfile must be writable, however {path}: {error.strerror}"
    return ""
