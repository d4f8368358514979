from __future__ import annotations

import json
import math

import pytest

from nightfit.render import bar, number, print_json, show, status, table


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "-"), ("", "-"), (0.5, "0.5000"), (1234567, "1,234,567"), (0, "0"), ("a", "a")]
)
def test_a_cell_reads_as_people_write(cell: object, text: str) -> None:
    """Fractions have four digits, thousands are apart, nothing is a dash."""
    assert number(cell) == text


def test_a_name_in_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets, colons and quotes of names come out as they went in, in tables and in lines."""
    names = ["[bold]", "[/x]", ":smile:", "[link=http://x]y[/link]"]
    show(table(names, [names], left=names), *names)
    out = capsys.readouterr().out
    assert all(out.count(name) == 3 for name in names)
    assert "\x1b" not in out


def test_json_is_one_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Any text survives any terminal: one line, in ASCII."""
    print_json({"ключ": "значение\n名"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"ключ": "значение\n名"}
    assert out.isascii()
    assert out.count("\n") == 1


def test_a_figure_that_is_none_is_a_bug() -> None:
    """JSON has no NaN, so it is never printed."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"loss": math.nan})


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the spinner nor the bar writes anything into a pipe."""
    with status() as say, bar("comparing") as move:
        say("[odd] text")
        move(1, 2)
    assert capsys.readouterr() == ("", "")
