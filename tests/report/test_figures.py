from __future__ import annotations

import struct
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

import made
from nightfit.errors import ConfigError, DataError
from nightfit.report import check_figures, write_figures
from nightfit.report.axes import Axis, linear, logarithmic, spaced, within
from nightfit.report.svg import DARK, LIGHT, N_COLOURS, short, width_of

pytest.importorskip("resvg_py")
NAMES = ["accuracy", "costs", "differences", "log-loss", "reliability"]
finite = st.floats(-1e9, 1e9)


def parsed(path: Path) -> ET.Element:
    """Read one of our own figures."""
    return ET.fromstring(path.read_text())  # noqa: S314 - we wrote it


def test_figures_are_svg_and_png(tmp_path: Path) -> None:
    """Every figure of the page lies there as an SVG that says what it shows, and as a PNG twice as wide."""
    written = write_figures(made.result(drifts=[20]), tmp_path / "new" / "figures")
    assert sorted(path.stem for path in written if path.suffix == ".png") == NAMES
    for path in (path for path in written if path.suffix == ".svg"):
        root = parsed(path)
        assert root.attrib["aria-label"]
        assert "var(" not in path.read_text()
        head = path.with_suffix(".png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", head[16:]) == (1440, 2 * int(root.attrib["height"]))


def test_names_are_text_in_figures(tmp_path: Path) -> None:
    """A figure stays XML whatever a model is called."""
    for path in write_figures(made.result([made.EVIL, "日本語のモデル"]), tmp_path):
        if path.suffix == ".svg":
            assert "script" not in {element.tag for element in parsed(path).iter()}


def test_a_figure_has_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts is told so before anything is computed, instead of getting figures without words."""
    import resvg_py

    render = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **o: render(**{**o, "skip_system_fonts": True}))
    with pytest.raises(ConfigError, match="needs a font"):
        write_figures(made.result(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_renderer_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error names it."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ConfigError, match=r"pip install 'nightfit\[figures\]'"):
        check_figures()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """Where a file lies in the way it is named."""
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--figures must be writable"):
        write_figures(made.result(), tmp_path / "file" / "figures")


@given(finite, finite, st.integers(3, 12))
def test_axes_enclose_their_values(a: float, b: float, n: int) -> None:
    """Any two values lie within their axis, whose marks are few, ascending, and told apart by what they say."""
    low, high = min(a, b), max(a, b)
    axis = linear(low, high, n=n)
    unseen = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + unseen
    assert axis.high >= high - unseen
    assert 2 <= len(axis.ticks) <= n + 2
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert len({axis.text(tick) for tick in axis.ticks}) == len(axis.ticks)


@given(st.floats(1e-6, 1e6), st.floats(1, 1e6))
def test_axes_of_ratios_enclose_their_values(low: float, ratio: float) -> None:
    """Positive values lie within their axis of ratios, which has some marks and not many."""
    axis = logarithmic(low, low * ratio)
    assert axis.share(low) >= -1e-9
    assert axis.share(low * ratio) <= 1 + 1e-9
    assert 1 <= len(axis.ticks) <= 14


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(2, 10))
def test_marks_of_nights_are_nights(first: int, n: int, steps: int) -> None:
    """An axis of nights ends with the nights, and marks whole ones among them."""
    axis = within(first, first + n, n=steps)
    assert all(tick.is_integer() and first <= tick <= first + n for tick in map(float, axis.ticks))
    assert isinstance(axis, Axis)


@given(st.lists(st.floats(0, 300), max_size=20))
def test_labels_are_moved_apart(positions: list[float]) -> None:
    """Labels that have the room do not touch, keep their order, and stay within the ends."""
    placed = spaced(positions, 15, 0, 300)
    ordered = sorted(placed)
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(ordered))
    assert all(-1e-6 <= p <= 300 + 1e-6 for p in placed)
    by_position = [placed[i] for i in sorted(range(len(positions)), key=positions.__getitem__)]
    assert by_position == ordered


@given(st.text(max_size=60), st.floats(20, 300))
def test_names_are_cut_to_their_room(name: str, room: float) -> None:
    """A name is shown whole if it fits, and otherwise as much of it as fits."""
    assert width_of(short(name, room)) <= room
    assert (short(name, room) == name) == (width_of(name) <= room)


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read(theme: dict[str, str]) -> None:
    """Every colour that text may have has a contrast of 4.5 and more with what it stands on."""
    words = ["ink", "soft", "bad", "good", *(f"m{i}" for i in range(N_COLOURS))]
    for word in words:
        for back in ("paper", "card"):
            lighter, darker = sorted((luminance(theme[word]), luminance(theme[back])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (word, back)


SEEN = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}
"""What people without one kind of cone see of linear red, green and blue (Machado, Oliveira & Fernandes 2009)."""


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN)
def test_the_first_four_colours_are_told_apart_by_colour_blind_eyes(theme: dict[str, str], eyes: str) -> None:
    """The first four models' colours differ for people who do not see red or green; dashes and marks tell all apart."""
    seen = [lab(theme[f"m{i}"], SEEN[eyes]) for i in range(4)]
    apart = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 10


def lab(colour: str, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """Return a colour in CIE L*a*b*, in which distances are about those that people see, through someone's eyes."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    rgb = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    red, green, blue = (min(max(sum(m * c for m, c in zip(row, rgb, strict=True)), 0), 1) for row in matrix)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
