import math
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightfit import kinds
from nightfit.values import LIMIT, Scalar, as_category, as_number, as_seconds, as_text, as_truth

TEXT = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[ ]?[+-]?[0-9]{0,4}\.?[0-9]{0,3}(e-?[0-9]{1,2})?[ ]?", fullmatch=True),
    st.sampled_from(
        ["true", "TRUE", "False", "yes", "N", "1", "0.0", "-1.000", "nan", "inf", "1e5", "", " ", "x" * 300]
    ),
)
TYPED = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_infinity=False), st.booleans())
TIMES = st.one_of(
    st.datetimes().map(str),
    st.datetimes(timezones=st.just(None)).map(lambda t: t.isoformat(" ", "minutes") + " +01:30"),
    st.from_regex(
        r"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
        r"( ?(Z|\+0[0-9]:?[0-5]0))?)?",
        fullmatch=True,
    ),
)
MISSING = ("", "NA", "-999")


def arrow(value: Scalar, kind: kinds.Kind) -> Any:  # noqa: ANN401 - a number or text
    """Parse one value as a whole column would be; NaN where it is of another kind or missing."""
    parsed, _ = kinds.parse(pa.array([value]), kind, MISSING)
    found = parsed.to_pylist()[0]
    return math.nan if found is None and kind != "categorical" else found


def same(a: float, b: float) -> bool:
    """Compare, with NaN equal to itself."""
    return a == b or (math.isnan(a) and math.isnan(b))


@settings(deadline=None)
@given(value=st.one_of(TEXT, TYPED))
@example(value="  7.000 ")
def test_text_is_spelled_as_a_column_spells_it(value: str | float) -> None:
    """One value has the category that it would have in a night's rows, missing ones included."""
    assert as_category(value, frozenset(MISSING)) == arrow(value, "categorical")


@settings(deadline=None)
@given(text=TEXT)
def test_a_number_is_read_as_a_column_reads_it(text: str) -> None:
    """Text is the same number, or none."""
    found = as_text(text, frozenset(MISSING))
    number = math.nan if found is None else as_number(found)
    assert same(number if abs(number) <= LIMIT else math.nan, arrow(text, "numeric"))


@settings(deadline=None)
@given(text=TEXT)
def test_a_truth_is_read_as_a_column_reads_it(text: str) -> None:
    """Text is true, false, or neither."""
    found = as_text(text, frozenset(MISSING))
    assert same(math.nan if found is None else as_truth(found.lower()), arrow(text, "boolean"))


@settings(max_examples=300, deadline=None)
@given(text=TIMES)
@example(text="2024-02-30")
@example(text="2024-02-29 24:00")
@example(text="1500-01-01T00:00:00.123456789Z")
def test_a_time_is_read_as_a_column_reads_it(text: str) -> None:
    """Text is the same second, or no time."""
    assert same(as_seconds(text), arrow(text, "datetime"))
