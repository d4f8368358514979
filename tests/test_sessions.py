"""What the docs' pages show happens: each is gone through from top to bottom, as a reader would."""

import re
from pathlib import Path

import pytest

import pages

PROJECT = Path(__file__).parents[1]
RUN = [
    pytest.param(page, id=page.name, marks=() if page.name in {"README.md", "tutorial.md"} else pytest.mark.slow)
    for page in [PROJECT / "README.md", *sorted(PROJECT.glob("docs/*.md"))]
    if pages.runs(page.read_text())
]


@pytest.mark.parametrize("page", RUN)
def test_a_page_can_be_gone_through(page: Path, tmp_path: Path) -> None:
    """In an empty folder every line of a page's sessions ends with 0 and prints what the page shows, but for figures.

    Its Python runs there, too. `python scripts/update_docs.py` mends what is shown.
    """
    text = page.read_text()
    printed = pages.with_output(text, tmp_path)
    assert told(printed) == told(text), printed


def test_other_words_are_found() -> None:
    """Other figures, devices and widths are the same session; another word is not."""
    shown, printed = ("```console\n$ x\non {} (auto: {}) 1.5 s\n  calibr{}\n```\n".format(*it) for it in (
        ("cpu", "no GPU", "ation error"), ("cuda", "it is there", "atio\n n error"),
    ))  # fmt: skip
    assert told(shown) == told(printed)
    assert told(shown) != told(printed.replace("error", "errors"))


def test_a_line_that_fails_is_found(tmp_path: Path) -> None:
    """A session with a line that does not end with 0 is no page: the line is named, with what it said."""
    page = "```console\n$ echo a\na\n$ nightfit log\n```\n"
    with pytest.raises(RuntimeError, match=r"(?s)'nightfit log' ended with 78: .*nightfit init"):
        pages.with_output(page, tmp_path)


def test_files_and_python_are_part_of_the_page(tmp_path: Path) -> None:
    """A block that names a file is that file from there on; Python without a name is run where it stands."""
    page = (
        "```python\n# mine.py\nA = 5\n```\n```python\nimport mine\n\nopen('b', 'w').write(str(mine.A))\n```\n"
        "```console\n$ cat b; echo; sleep 60 > b 2>&1 &\n$ kill %1\n```\n"
    )
    assert "$ cat b; echo; sleep 60 > b 2>&1 &\n5\n$ kill %1\n" in pages.with_output(page, tmp_path)


def told(page: str) -> list[str]:
    """Return the signs of each session, without order: figures differ from machine to machine, and so do their widths.

    Where figures are wider, a table of several long columns wraps at other places.
    """
    sessions = [re.sub(r"\w+ \(auto: [^)]*\)", "", block.text) for block in pages.blocks(page) if block.typed]
    return ["".join(sorted(re.sub(r"[\d.,:%+─\s-]+", "", session))) for session in sessions]
