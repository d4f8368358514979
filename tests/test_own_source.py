"""A kind of source that another package brings: the docs' example, installed as pip would install it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

import pages
from nightfit.config import load
from nightfit.errors import ConfigError
from nightfit.sources.base import Surroundings
from nightfit.sources.make import kind_of, make_source
from nightfit.testing import check_source
from pipe import CONFIG, Pipe, make_rows

PAGE = (Path(__file__).parents[1] / "docs" / "source.md").read_text()
SALES: list[dict[str, Any]] = []


def block(language: str, place: int = 0) -> str:
    """Return one of the example's blocks in a language."""
    return [found.text for found in pages.blocks(PAGE) if found.language == language][place]


def fetch(url: str, start: int, page: int) -> Iterator[pa.Table]:
    """Give the shop's sales, which the example leaves to its reader."""
    assert url.startswith("shop://")
    for i in range(start, len(SALES), page):
        yield pa.Table.from_pylist(SALES[i : i + page])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Install the package of the docs' example: its module, and the metadata that pip writes of its pyproject."""
    site = tmp_path / "site"
    info = site / "shop_source-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "shop_source.py").write_text(block("python"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop_source\nVersion: 1.0\n")
    points = tomllib.loads(block("toml"))["project"]["entry-points"]["nightfit.sources"]
    (info / "entry_points.txt").write_text(
        f"[nightfit.sources]\nshop = {points['shop']}\nodd = shop_source:ShopConfig\n"
    )
    monkeypatch.syspath_prepend(site)
    import shop_source  # type: ignore[import-not-found]

    shop_source.fetch = fetch
    SALES.clear()
    yield shop_source
    sys.modules.pop("shop_source")


def test_the_docs_example_keeps_the_contract(shop: ModuleType, tmp_path: Path) -> None:
    """The example is found by its scheme and passes check_source."""
    config = shop.ShopConfig(url="shop://berlin", name="sales", page=3)
    assert kind_of("shop://berlin").config is type(config)

    def grow(n: int) -> None:
        SALES.extend({"id": len(SALES) + i} for i in range(n))

    check_source(lambda: make_source(config, Surroundings(("id",), "y", tmp_path)), grow)


def test_a_night_reads_it(shop: ModuleType, tmp_path: Path) -> None:
    """It has keys of its own in the config, and its rows are learned once."""
    assert shop.KIND
    _, url = block("toml", 1).splitlines()
    pipe = Pipe(tmp_path, CONFIG.replace('url = "a.csv"', f"{url}\npage = 20"))
    SALES.extend(make_rows(70))
    assert pipe.night().rows.read == 70
    SALES.extend(make_rows(30, start=70))
    assert pipe.night().rows.read == 30
    assert pipe.night().status == "nothing"


def test_mistakes_are_said(shop: ModuleType, tmp_path: Path) -> None:
    """An unknown key names the nearest; an entry point that names no kind says which package to mend."""
    assert shop.KIND
    path = tmp_path / "n.toml"
    path.write_text(CONFIG.replace('url = "a.csv"', 'url = "shop://berlin"\npages = 20'))
    with pytest.raises(ConfigError, match="did you mean 'page'"):
        load(path)
    with pytest.raises(ConfigError, match="'odd' names"):
        kind_of("odd://x")
