from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import made
from browsing import needs_browser
from nightfit.report import write

pytestmark = needs_browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_asks_nobody(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:  # noqa: ANN401
    """On a phone and on a screen: no error, no request, no sideways scrolling, one drawing of each figure."""
    path = tmp_path / "page.html"
    write(made.result(["deep", made.EVIL, "linear"], drifts=[20]), path, title="elec")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(f"file://{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg.fig:visible").count() == page.locator("figure").count() > 3
    page.locator("th button").nth(1).click()
    assert page.locator("th[aria-sort]").count() == 1
    assert problems == []
