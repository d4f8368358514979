"""The docs as a site: it is built strictly, whole, and asks nothing of other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import nightfit
from nightfit import errors, testing

PROJECT = Path(__file__).parents[1]
PAGES = sorted(path.name for path in (PROJECT / "docs").glob("*.md"))
VERBATIM = {"code", "pre", "script", "style"}


class Page(HTMLParser):
    """What of a built page matters here: its anchors, and what it points to and loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self._verbatim = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        self._verbatim += tag in VERBATIM
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if "src" in named or (tag == "link" and "href" in named):
            self.loaded.append(named.get("src") or named["href"])

    def handle_endtag(self, tag: str) -> None:
        """Take note of the end of what is shown as it is."""
        self._verbatim -= tag in VERBATIM

    def handle_data(self, data: str) -> None:
        """Keep the text that is no code."""
        if not self._verbatim:
            self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Build the site in strict mode, elsewhere; return its pages by their paths."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(PROJECT / "zensical.toml", folder)
    shutil.copytree(PROJECT / "docs", folder / "docs")
    (folder / "src").symlink_to(PROJECT / "src")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = folder / "site"
    found = {path.relative_to(built).as_posix(): Page(path.read_text()) for path in built.rglob("*.html")}
    return {path: page for path, page in found.items() if path != "404.html"}


def named_in(nav: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the pages of a navigation."""
    for entry in nav:
        for value in entry.values():
            yield from named_in(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_and_the_map() -> None:
    """The navigation names each page once, and the first page leads to all others."""
    nav = tomllib.loads((PROJECT / "zensical.toml").read_text())["project"]["nav"]
    assert sorted(named_in(nav)) == PAGES
    first = (PROJECT / "docs" / "index.md").read_text()
    assert [page for page in PAGES if page != "index.md" and f"]({page})" not in first] == []


def test_every_page_is_built(site: dict[str, Page]) -> None:
    """Each page of docs/ is one of the site, and there is no other."""
    assert sorted(site) == [page.replace(".md", ".html") for page in PAGES]


def test_every_link_leads_somewhere(site: dict[str, Page]) -> None:
    """Each link within the built site leads to a page that is there, and to an anchor that it has."""
    n_links = 0
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(parts.path).removeprefix("./") or path
            assert target in site, f"{path}: {link}"
            assert unquote(parts.fragment) in site[target].anchors | {""}, f"{path}: {link}"
            n_links += 1
    assert n_links > 500


def test_nothing_is_loaded_from_elsewhere(site: dict[str, Page]) -> None:
    """A built page loads no font, script, style or image from another host."""
    loaded = [url for page in site.values() for url in page.loaded]
    assert loaded
    assert [url for url in loaded if urlsplit(url).netloc] == []


def public() -> Iterator[str]:
    """Yield what the Python page must show."""
    yield from (f"nightfit.{name}" for name in nightfit.__all__ if not name.startswith("__"))
    yield from (f"nightfit.testing.{name}" for name in testing.__all__)
    yield from (f"nightfit.errors.{name}" for name, found in vars(errors).items() if isinstance(found, type))
    yield from (f"nightfit.sources.base.{name}" for name in ("Source", "Source.read", "Chunk", "SourceConfig"))
    yield from (f"nightfit.IncrementalMLPClassifier.{name}" for name in ("partial_fit", "save", "load"))


@pytest.mark.parametrize("name", [*public()])
def test_the_python_page_has_what_can_be_imported(site: dict[str, Page], name: str) -> None:
    """The page that is made of docstrings has every public name."""
    assert name in site["reference.html"].anchors


def test_no_markup_is_left_as_text(site: dict[str, Page]) -> None:
    """What a git host takes for a block, a table or a list, the site does, too: no mark of one is left in the text."""
    marks = re.compile(r"```|\|\s*---|^\s*(?:\||[-*] |\d+\. )", re.MULTILINE)
    for path, page in site.items():
        assert not (found := marks.search(page.text)), f"{path}: {page.text[found.start() :][:80]}"
