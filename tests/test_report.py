from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from nightfit.errors import DataError
from nightfit.report import page, write

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "line", "br"}


class Checker(HTMLParser):
    """Collects the text, and fails where tags are not balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def a_result(names: list[str], n_nights: int = 3, loss: float | None = None) -> dict[str, Any]:
    """Give what `compare` returns."""
    scores = {"log_loss": 0.5, "accuracy": 0.75, "macro_f1": 0.7, "learn_cpu_s": 1.0, "predict_cpu_s": 0.5, "rows": 9}
    nights = [
        {
            "night": i + 2,
            "rows": 3,
            "models": {n: {"log_loss": 0.1 * i if loss is None else loss, "accuracy": 0.5} for n in names},
        }
        for i in range(n_nights)
    ]
    return {"task": "classification", "rows": 9, "nights": n_nights, "models": dict.fromkeys(names, scores)} | {
        "per_night": nights
    }


def checked(html: str) -> Checker:
    """Parse a page, and check that it is balanced and asks nothing of anybody."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "http" not in html
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in checker.tags}
    assert not {"src", "href"} & {name for _, attributes in checker.tags for name in attributes}
    return checker


@pytest.mark.parametrize("n_nights", [1, 2, 3, 60])
@pytest.mark.parametrize("names", [["deep"], ["deep", "linear"], [f"m{i}" for i in range(11)]])
@pytest.mark.parametrize("loss", [None, 0.0, 0.3, 1e-9, 13.8])
def test_the_page_is_whole_and_alone(names: list[str], n_nights: int, loss: float | None) -> None:
    """One model or many, one night or many, constant or not: balanced HTML that loads nothing from elsewhere."""
    checker = checked(page(a_result(names, n_nights, loss), title="elec"))
    assert all(name in checker.text for name in names)
    lines = [attributes for tag, attributes in checker.tags if tag == "polyline"]
    assert len(lines) == 2 * len(names)
    assert all("nan" not in str(line["points"]) and "inf" not in str(line["points"]) for line in lines)


def test_names_are_text_and_never_tags() -> None:
    """What users name lands on the page as text, whatever is in it."""
    evil = '<script>alert("x")</script>&\'"'
    checker = checked(page(a_result([evil]), title=evil))
    assert evil in checker.text


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A folder that is not there is bad data to write to, not a bug."""
    with pytest.raises(DataError, match=r"--report must be writable, however .*No such file"):
        write(a_result(["deep"]), tmp_path / "none" / "page.html", title="elec")
    write(a_result(["deep"]), tmp_path / "page.html", title="elec")
    checked((tmp_path / "page.html").read_text())
