"""Where reports go: a page as one file, figures as SVG and PNG in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightfit.errors import ConfigError, DataError
from nightfit.report.figures import figures
from nightfit.report.page import comparison
from nightfit.report.result import Result
from nightfit.report.svg import Figure, standalone

WIDTH, ZOOM = 720, 2
"""Pixels that a figure is wide as a file; a PNG has twice as many, to stay sharp on paper and on good screens."""


def write(result: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write the result of `compare.compare` as a page; raises `DataError` if it cannot be written."""
    write_page(comparison(result, title=title), path, "--report")


def write_page(page: str, path: Path, option: str) -> None:
    """Write a page where an option says; raises `DataError` if it cannot be written."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{option} must be writable, however {path}: {error.strerror}; name another file") from None


def check_figures() -> None:
    """Raise `ConfigError` if figures could not be written, before anything is computed for them."""
    try:
        import resvg_py  # noqa: F401 - to know that it is there
    except ImportError:
        raise ConfigError(
            "--figures needs the library that renders PNG, however resvg-py is not installed; "
            "pip install 'nightfit[figures]'"
        ) from None
    if _png('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9">m</text></svg>') == _png(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
    ):
        raise ConfigError("--figures needs a font, however this machine has none; install one, as fonts-dejavu-core")


def write_figures(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a comparison's figures as SVG and as PNG; return their files. Raises as `check_figures` and `write`."""
    return save(figures(Result(result)), folder)


def save(drawn: Sequence[Figure], folder: Path) -> list[Path]:
    """Write figures into a folder, which is made if it is not there."""
    check_figures()
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in drawn:
            svg, path = standalone(figure.draw(WIDTH)), folder / figure.name
            path.with_suffix(".svg").write_text(svg, encoding="utf-8")
            path.with_suffix(".png").write_bytes(_png(svg))
            written += [path.with_suffix(".svg"), path.with_suffix(".png")]
    except OSError as error:
        raise DataError(
            f"--figures must be writable, however {folder}: {error.strerror}; name another folder"
        ) from None
    return written


def _png(svg: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM, sans_serif_family="DejaVu Sans"))
