from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.lines import MAX_LINES, Place, lines_of, nearest_line

ODD = '''\
# a = 1
"a b" = """
c = 1
[d]
"""
"c" = ['x',  # c = 2
  "[e]",
]
sources = [
  { url = "a" }, { url = "]" },
  { url = "b", "q.r" = [
1
], z = 3 },
]

[x."y.z"]
k.l = 1
m = { a = """
""", b = 2 }
[[t]]
[[t]]
u = 1
[t.v]
'''


def test_odd_texts() -> None:
    """Look-alikes within texts and comments, quoted and dotted keys, inline tables and arrays are told apart."""
    lines = lines_of(ODD)
    assert lines == {
        ("a b",): 2, ("c",): 6, ("sources",): 9, ("sources", 0): 10, ("sources", 0, "url"): 10, ("sources", 1): 10,
        ("sources", 1, "url"): 10, ("sources", 2): 11, ("x",): 16, ("x", "y.z"): 16, ("x", "y.z", "k"): 17,
        ("x", "y.z", "k", "l"): 17, ("x", "y.z", "m"): 18, ("t",): 20, ("t", 0): 20, ("t", 1): 21, ("t", 1, "u"): 22,
        ("t", 1, "v"): 23,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "line"), [(("t", 1, "none"), 21), (("sources", 2, "z"), 11), (("none",), 0), ((), 0)]
)
def test_what_is_not_there_has_its_tables_line(place: Place, line: int) -> None:
    """A key that is not there, or whose line is not certain, has the line of what is around it, or none."""
    assert nearest_line(lines_of(ODD), place) == line


def test_a_text_too_long_has_no_lines() -> None:
    """Beyond a thousand lines nothing is looked for: that would take longer than anyone waits."""
    assert lines_of("a = 1\n" + "\n" * MAX_LINES) == {}
    assert lines_of("a = 1\n" + "\n" * (MAX_LINES - 2)) == {("a",): 1}


def test_lines_end_as_editors_end_them() -> None:
    """Windows' line ends count as one; what only Python takes for the end of a line does not."""
    assert lines_of("a = 1\r\nb = '\u2028'\r\nc = 3\r\n") == {("a",): 1, ("b",): 2, ("c",): 3}


WORDS = st.sampled_from(["a", "b", "c", '"a.b"', "'d e'", '"#"', '"[b]"', '"ü"'])
PLAIN = st.sampled_from(["1", '"b = 1"', "'[a]'", '"""\nb = 2\n[c]\n"""', "'''\n#'''", "true", "[\n1,\n# b = 3\n2]"])
INLINE = st.lists(st.tuples(WORDS, PLAIN), max_size=3, unique_by=lambda pair: pair[0]).map(
    lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
)
VALUES = st.one_of(PLAIN, INLINE, st.lists(INLINE, max_size=3).map(lambda tables: "[\n" + ",\n  ".join(tables) + "\n]"))
KEYS = st.lists(WORDS, min_size=1, max_size=2).map(".".join)
STATEMENTS = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}  # c = 1"),
    KEYS.map(lambda key: f"[{key}]"),
    KEYS.map(lambda key: f"[[{key}]]"),
    st.sampled_from(["", "# a = 1", "  # [b]"]),
)


def legal(statements: list[str]) -> str:
    """Return as many of the statements as make TOML together."""
    kept: list[str] = []
    for statement in statements:
        try:
            tomllib.loads("\n".join([*kept, statement]))
        except tomllib.TOMLDecodeError:
            continue
        kept.append(statement)
    return "\n".join(kept)


def leaves(value: Any, at: Place = ()) -> set[Place]:  # noqa: ANN401 - what TOML holds
    """Return the places of all that is neither a table nor an array of some."""
    if not isinstance(value, dict | list) or (isinstance(value, list) and not any(isinstance(v, dict) for v in value)):
        return {at}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {place for name, inner in items for place in leaves(inner, (*at, name))}


def lost_by_renaming(text: str, line: int) -> list[set[Place]]:
    """Put a letter anywhere into a line; return what each time that it is TOML still is no longer there."""
    written = text.split("\n")
    row, lost = written[line - 1], []
    for i in range(len(row) + 1):
        changed = "\n".join([*written[: line - 1], f"{row[:i]}_{row[i:]}", *written[line:]])
        try:
            lost.append(leaves(tomllib.loads(text)) - leaves(tomllib.loads(changed)))
        except tomllib.TOMLDecodeError:
            continue
    return lost


@given(st.lists(STATEMENTS, max_size=8).map(legal))
def test_a_line_is_where_the_key_is_named(text: str) -> None:
    """A letter put into the line that is told of a value can rename that one key, and nothing else."""
    lines = lines_of(text)
    for place in leaves(tomllib.loads(text)) & lines.keys():
        assert {place} in lost_by_renaming(text, lines[place]), (text, place, lines[place])
