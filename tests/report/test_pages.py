from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import made
from nightfit.errors import DataError
from nightfit.report import write
from nightfit.report.page import comparison

VOID = {"meta", "link", "br"}
OPEN_IN_SVG = {"circle", "line", "polyline", "polygon", "path", "rect"}


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
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data


def checked(html: str) -> Checker:
    """Parse a page, and check that it is balanced, and asks nothing of anybody."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert not {"img", "iframe", "object", "embed"} & {tag for tag, _ in checker.tags}
    asked = [value for _, attributes in checker.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert asked == ["data:,"]
    assert not re.search(
        r"\b(nan|inf)\b", re.sub(r"(?s)<script>.*</script>|<style>.*?</style>", "", html), re.IGNORECASE
    )
    return checker


SHAPES: dict[str, dict[str, Any]] = {
    "one": {"names": ["deep"]},
    "two nights": {"names": ["deep", "linear"], "n_nights": 2},
    "one night": {"names": ["deep", "linear"], "n_nights": 1},
    "failed": {"names": ["deep", "linear", "broken"], "failed": ["broken"], "dated": True, "drifts": [20]},
    "all failed": {"names": ["broken"], "failed": ["broken"], "bare": True},
    "a quantity": {"names": ["deep", "linear", "sk_mlp"], "task": "regression"},
    "eleven": {"names": [f"m{i}" for i in range(11)]},
    "one far off": {"names": ["deep", "linear", "gnb"], "far": "gnb"},
    "bare": {"names": ["deep", "linear"], "bare": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_page_is_whole_and_alone(shape: str) -> None:
    """Whatever a comparison has or lacks: balanced HTML with every model, which loads nothing from elsewhere."""
    checker = checked(comparison(made.result(**SHAPES[shape]), title="elec"))
    assert all(name in checker.text for name in SHAPES[shape]["names"])


@pytest.mark.parametrize("loss", [0.0, 1e-9, 0.3, 13.8])
def test_equal_scores_are_drawn(loss: float) -> None:
    """Scores that are all the same, zero included, break no axis."""
    result = made.result(bare=True)
    for scores in (scores for night in result["per_night"] for scores in night["models"].values()):
        scores["log_loss"] = loss
    for scores in result["models"].values():
        scores["log_loss"] = loss
    checked(comparison(result, title="elec"))


def test_the_verdict_answers_four_questions() -> None:
    """At the top stand the comparison's sentence, the model to take, its lead, the interval and the cost."""
    checker = checked(comparison(made.result(), title="elec"))
    head = checker.text[: checker.text.index("Each model against")]
    sentence, retrain = "Take deep: so the comparison says.", "a full retrain takes 38 min"
    for words in (sentence, "12.0 % ahead", "+10.5 % to +13.5 %", "200 ms", retrain):
        assert words in head, words


def test_a_cheaper_model_that_is_as_good_is_the_one_to_take() -> None:
    """Where a cheaper model is shown to be the same within the margin, the answers are about it."""
    result = made.result()
    for pair in result["pairs"]:
        pair |= {"difference": 0.0005, "low": -0.001, "high": 0.001, "relative": 0.002, "verdict": "same"}
    text = checked(comparison(result, title="elec")).text
    assert re.search(r"Take\s*linear", text)
    assert "as good" in text
    assert "sure: the same" in text


def test_a_quantity_is_told_in_its_root() -> None:
    """A regression's differences are those of the RMSE that stands beside them, not of its square."""
    text = checked(comparison(made.result(task="regression"), title="bikes")).text
    assert "12.0 % ahead" in text
    assert "+11.3 % to +12.7 %" in text


def test_without_intervals_nobody_is_sure() -> None:
    """A result without statistics says so, instead of looking certain."""
    text = checked(comparison(made.result(bare=True), title="elec")).text
    assert "No interval says how sure that is" in text
    assert "not known" in text


def test_names_are_text_and_never_tags() -> None:
    """What users name lands on the page as text, whatever is in it."""
    checker = checked(comparison(made.result([made.EVIL, "b"]), title=made.EVIL))
    assert checker.text.count(made.EVIL) > 5
    assert [tag for tag, _ in checker.tags].count("script") == 1


def test_a_failed_model_says_why() -> None:
    """A model that failed stands on the page with its reason, and a cross where its curve ends."""
    page = comparison(made.result(["deep", "linear", "broken"], failed=["broken"]), title="elec")
    text = checked(page).text
    assert "broken failed:" in text
    assert "its weights are not finite" in text
    assert "\N{MULTIPLICATION SIGN}" in text


def test_eight_models_over_a_thousand_nights_fit_a_megabyte() -> None:
    """The page of eight models and a thousand nights is smaller than 1 MB, and of ten thousand nights as well."""
    for n_nights in (1000, 10_000):
        page = comparison(made.result(made.EIGHT, n_nights, drifts=[100, 500]), title="elec")
        assert len(page.encode()) < 1_000_000


def test_every_night_is_in_the_table() -> None:
    """The folded table has a row for each night, with what was found there."""
    page = comparison(made.result(n_nights=30, drifts=[12], dated=True), title="elec")
    table = page[page.index("Every night") : page.index("To make it again")]
    assert table.count("<tr>") == 31
    assert "the error rose from 0.27 to 0.41" in table
    assert "2026-01-30" in table


def test_what_makes_it_again_is_on_the_page() -> None:
    """Command, versions, seeds and every model's settings stand at the page's end."""
    text = checked(comparison(made.result(), title="elec")).text
    for words in ("nightfit compare bookings.csv --target", "0, 1, 2", "3.11.2", "d_hidden = 64", "declared"):
        assert words in text[text.index("To make it again") :]


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A folder that is not there is bad data to write to, not a bug."""
    with pytest.raises(DataError, match=r"--report must be writable, however .*No such file"):
        write(made.result(), tmp_path / "none" / "page.html", title="elec")
    write(made.result(), tmp_path / "page.html", title="elec")
    checked((tmp_path / "page.html").read_text())


def test_the_result_stays_as_it_was() -> None:
    """Drawing changes nothing of the result, which is printed and kept."""
    result = made.result(drifts=[20])
    before = json.dumps(result)
    comparison(result, title="elec")
    assert json.dumps(result) == before
