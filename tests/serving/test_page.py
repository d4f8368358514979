from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from browsing import needs_browser
from shop import Client, night, serving

pytestmark = needs_browser


def opened(browser: Any, client: Client, **options: Any) -> tuple[Any, list[str]]:  # noqa: ANN401 - playwright's
    """Open the server's page; return it, and what the browser complains of or asks elsewhere."""
    page = browser.new_page(**options)
    problems: list[str] = []
    host, port = client.address
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "401" not in m.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if f"//{host}:{port}/" not in r.url else None)
    page.goto(f"http://{host}:{port}/")
    return page, problems


def test_the_page_tells_what_serves_and_predicts(browser: Any, server: Client) -> None:  # noqa: ANN401
    """Versions, verdicts and columns are there; the form answers as the API does; nothing comes from elsewhere."""
    page, problems = opened(browser, server)
    page.wait_for_selector("#log tbody tr")
    text = page.inner_text("body")
    for words in ("shop", "version 1", "it is the first", "Versions", "Try a prediction"):
        assert words in text, words
    page.select_option("#model", "linear")
    page.fill("#f-price", "0.5")
    page.fill("#f-colour", "red")
    page.fill("#f-fresh", "true")
    page.press("#f-at", "Enter")
    page.wait_for_selector("#answer .big")
    row = {"price": 0.5, "colour": "red", "at": None, "fresh": True}
    wanted = server.post("/predict/linear", {"features": row}).json
    said = page.inner_text("#answer")
    assert said.startswith(f"{wanted['prediction'][0]} by version 1 of linear")
    assert f"{100 * wanted['probability'][0][0]:.1f} %" in said
    page.fill("#f-price", "much")
    page.press("#f-price", "Enter")
    page.locator("#answer", has_text="must hold numbers").wait_for()
    problems = [p for p in problems if "422" not in p]
    assert problems == []


def test_the_page_follows(browser: Any, copy: Path, tmp_path: Path) -> None:  # noqa: ANN401
    """A new version appears without a reload, on a phone's width without scrolling sideways."""
    with serving(copy, tmp_path / "log") as client:
        page, problems = opened(browser, client, viewport={"width": 360, "height": 700})
        page.wait_for_selector("#log tbody tr")
        night(copy)
        page.locator("#cards", has_text="version 2").wait_for(timeout=30_000)
        page.wait_for_selector("#chart path", state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert problems == []


def test_the_page_asks_for_a_token(browser: Any, shop: Path, tmp_path: Path) -> None:  # noqa: ANN401
    """Where a token is needed the page asks for it, again if it is wrong, by keyboard alone, and then works."""
    (tmp_path / "tokens").write_text(hashlib.sha256(b"secret").hexdigest())
    with serving(shop, tmp_path / "log", "--tokens", str(tmp_path / "tokens")) as client:
        page, problems = opened(browser, client)
        for token in ("wrong", "secret"):
            page.wait_for_selector("#ask[open]")
            page.fill("#token", token)
            page.keyboard.press("Enter")
            page.wait_for_timeout(300)
        page.wait_for_selector("#log tbody tr")
        assert "version 1" in page.inner_text("#cards")
        assert problems == []
