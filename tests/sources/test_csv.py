from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.errors import DataError
from nightfit.sources import blocks as blocks_module
from nightfit.sources.base import Dialect, Numbers
from nightfit.sources.blocks import Block, Blocks
from nightfit.sources.csv import Header, parse, read_header

if TYPE_CHECKING:
    from nightfit.sources.base import BadRow

CONTENT = st.text(alphabet='",\n\r a\0é\ufeff5', max_size=60)


def read_all(data: bytes, size: int = 1 << 20) -> list[Block]:
    """Split data into blocks of records, all of them complete."""
    return list(Blocks(io.BytesIO(data).read, place="x.csv", size=size, whole=True))


def parse_all(data: bytes, columns: tuple[str, ...] = ("a", "b")) -> tuple[list[list[str]], list[BadRow]]:
    """Parse all records of data without a header, as (good, bad)."""
    good: list[list[str]] = []
    bad: list[BadRow] = []
    row = 0
    for block in read_all(data):
        records = parse(block, 0, len(block), columns=columns, row=row)
        good += [list(values.values()) for values in records.table.to_pylist()]
        bad += records.bad
        row += len(block)
    return good, bad


def read_by_python(text: str) -> list[list[str]]:
    """Read text by Python's own csv module; it gives blank lines as empty lists, which are no records."""
    return [record for record in csv.reader(io.StringIO(text, newline="")) if record]


class TestRecordEnds:
    """Where records end."""

    @settings(deadline=None)
    @given(st.lists(st.lists(CONTENT, min_size=2, max_size=2), max_size=20), st.integers(1, 100))
    def test_written_records_come_back(self, written: list[list[str]], size: int) -> None:
        """What Python's csv module writes is read as the same number of records, whatever the block size."""
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(written)
        data = text.getvalue().encode()
        assert sum(map(len, read_all(data, size=size))) == len(written)
        assert parse_all(data)[0] == written

    @settings(deadline=None)
    @given(CONTENT)
    def test_any_text_is_split_as_python_splits_it(self, text: str) -> None:
        """Any text, however its quotes are strewn, gives the records of Python's csv module."""
        try:
            good, bad = parse_all(text.encode())
        except DataError:
            return  # a quote that is never closed, which Python closes at the end of the file
        expected = read_by_python(text)
        assert good == [record for record in expected if len(record) == 2]
        assert [row.row for row in bad] == [i for i, record in enumerate(expected) if len(record) != 2]

    @settings(deadline=None)
    @given(CONTENT, st.integers(1, 10))
    def test_blocks_follow_one_another(self, text: str, size: int) -> None:
        """Blocks of any size follow without a gap, and hold what a single block holds."""
        data = text.encode()
        blocks = Blocks(io.BytesIO(data).read, place="x.csv", size=size)
        parts = list(blocks)
        assert b"".join(block.data[: block.size] for block in parts) == data[: len(data) - blocks.n_rest]
        offset = 0
        for block in parts:
            assert block.offset == offset
            offset += block.size
        one = Blocks(io.BytesIO(data).read, place="x.csv")
        assert sum(map(len, parts)) == sum(map(len, one))

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends(self, end: str) -> None:
        """LF, CRLF and bare CR all end a record."""
        assert parse_all(f"1,2{end}3,4{end}".encode())[0] == [["1", "2"], ["3", "4"]]

    def test_blank_lines_are_no_records(self) -> None:
        """Blank lines are skipped, and rows are numbered without them."""
        good, bad = parse_all(b"\n1,2\n\r\n\n3\n\n4,5\n")
        assert good == [["1", "2"], ["4", "5"]]
        assert [row.row for row in bad] == [1]

    def test_unclosed_quote_at_the_end_of_a_whole_file(self) -> None:
        """A quote that is open at the end of a whole file is an error that names the record."""
        with pytest.raises(DataError, match=r"record 2 of x\.csv is not \(the end of the file comes first\)"):
            parse_all(b'1,2\n3,"4\n5,6\n')

    def test_quote_that_swallows_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A quote not closed within the limit is an error that names the record, closed later or not."""
        monkeypatch.setattr(blocks_module, "QUOTED_BYTES", 1000)
        for last in (b"", b'7,"8"\n'):
            with pytest.raises(DataError, match=r"record 2 of x\.csv.*double the quotes"):
                parse_all(b'1,2\n3,"4\n' + 500 * b"5,6\n" + last)

    def test_long_quoted_field_on_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A quoted field may be as long as it likes, as long as it swallows no line."""
        monkeypatch.setattr(blocks_module, "QUOTED_BYTES", 1000)
        assert parse_all(b'1,"' + 5000 * b"x" + b'"\n')[0] == [["1", 5000 * "x"]]

    def test_file_that_is_not_csv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that does not end is an error before it fills the memory."""
        monkeypatch.setattr(blocks_module, "RECORD_BYTES", 1000)
        with pytest.raises(DataError, match=r"record 2 of x\.csv is not; is it a CSV file"):
            read_all(b"1,2\n" + 5000 * b"x", size=300)


class TestParse:
    """Records as columns of text."""

    def test_values_stay_as_given(self) -> None:
        """Every value is text as it stands in the file: nothing is missing, trimmed or converted."""
        assert parse_all(b"NA,\n 1 ,007\nnull,TRUE\n")[0] == [["NA", ""], [" 1 ", "007"], ["null", "TRUE"]]

    def test_nul_bytes_and_huge_fields(self) -> None:
        """NUL bytes are characters like others, and a field of megabytes is a field."""
        assert parse_all(b"\0,a\0b\n")[0] == [["\0", "a\0b"]]
        good, _ = parse_all(b"1," + 3_000_000 * b"x" + b"\n2,y\n")
        assert [len(value) for _, value in good] == [3_000_000, 1]

    def test_wrong_number_of_fields(self) -> None:
        """A record with too few or too many fields is a bad one, with its number, its reason and its text."""
        good, bad = parse_all(b'1,2\n3\n4,"5\n",6\r\n7,8\n')
        assert good == [["1", "2"], ["7", "8"]]
        assert [(row.row, row.text) for row in bad] == [(1, "3"), (2, '4,"5\n",6')]
        assert bad[1].reason == "a record must have 2 fields like the header, however this one has 3"

    def test_invalid_utf8(self) -> None:
        """A record that is not UTF-8 is a bad one; those around it are read, and numbered as they stand."""
        good, bad = parse_all(b"1,2\n\xff,4\n5\n6,7\n8,\xe9")
        assert good == [["1", "2"], ["6", "7"]]
        assert [(row.row, row.text) for row in bad] == [(1, "�,4"), (2, "5"), (4, "8,�")]
        assert "UTF-8" in bad[0].reason

    def test_no_good_record_at_all(self) -> None:
        """A stretch of bad records gives an empty table with the columns of the header."""
        (block,) = read_all(b"\xff,1\n\xfe,2\n")
        records = parse(block, 0, 2, columns=("a", "b"), row=0)
        assert records.table.column_names == ["a", "b"]
        assert len(records.table) == 0
        assert len(records.bad) == 2


class TestDialect:
    """Other delimiters than a comma, and a decimal comma."""

    @settings(deadline=None)
    @given(
        st.lists(st.lists(st.text(alphabet='",;\t|\n\r a5', max_size=20), min_size=2, max_size=2), max_size=9),
        st.sampled_from(";\t|"),
        st.integers(1, 60),
    )
    def test_any_text_is_split_as_python_splits_it(self, written: list[list[str]], delimiter: str, size: int) -> None:
        """Fields that hold delimiters, quotes and line ends come back, whatever the block size."""
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(written)
        stream = io.BytesIO(text.getvalue().encode())
        blocks = Blocks(stream.read, place="x.csv", size=size, whole=True, delimiter=delimiter)
        dialect, got = Dialect(delimiter), list[list[str]]()
        for block in blocks:
            table = parse(block, 0, len(block), columns=("a", "b"), row=0, dialect=dialect).table
            got += [list(values.values()) for values in table.to_pylist()]
        assert got == written

    def test_a_quote_opens_a_field_after_the_delimiter_alone(self) -> None:
        """A line end within quotes belongs to the field where the quote follows the delimiter."""
        data = b'a;"b\nc"\nd,"e;f\n'
        assert [len(b) for b in Blocks(io.BytesIO(data).read, place="x.csv", whole=True, delimiter=";")] == [2]

    @pytest.mark.parametrize("names", [frozenset(), frozenset({"a"})])
    def test_a_decimal_comma_becomes_a_point_in_numbers_alone(self, names: frozenset[str]) -> None:
        """Numbers are the same read as text and read as such; lists, dates and words stay as they are."""
        data = "1,5;1,2,3\n-,5;05.01.2026\n+2;a,5\n3,5e2;Köln, 5\n;\n1.5;1.234,50\n".encode()
        block = next(iter(Blocks(io.BytesIO(data).read, place="x.csv", delimiter=";")))
        dialect, numbers = Dialect(";", ","), Numbers(names, ("",))
        table = parse(block, 0, len(block), columns=("a", "b"), row=0, numbers=numbers, dialect=dialect).table
        assert table["b"].to_pylist() == ["1,2,3", "05.01.2026", "a,5", "Köln, 5", "", "1.234,50"]
        assert table["a"].to_pylist() == ["1.5", "-.5", "+2", "3.5e2", "", "1.5"]

    def test_a_decimal_comma_is_read_straight_as_a_number(self) -> None:
        """A column that holds numbers alone becomes floats at once."""
        block = next(iter(Blocks(io.BytesIO(b"1,5;x\n;y\n").read, place="x.csv", delimiter=";")))
        numbers = Numbers(frozenset({"a"}), ("",))
        table = parse(block, 0, 2, columns=("a", "b"), row=0, numbers=numbers, dialect=Dialect(";", ",")).table
        assert table["a"].to_pylist() == [1.5, None]

    def test_the_header_is_split_alike(self) -> None:
        """A comma is part of a name where the delimiter is another."""
        stream = io.BytesIO('\ufeffa,b;"c;d"\n1;2\n'.encode())
        header = read_header(stream, place="x.csv", dialect=Dialect(";"))
        assert header == Header(("a,b", "c;d"), 13)


class TestHeader:
    """The header line."""

    def test_byte_order_mark(self) -> None:
        """A byte order mark at the start of the file is no part of the first name, even of a quoted one."""
        assert read_header(io.BytesIO(b'\xef\xbb\xbf"I,D",b\n1,2\n'), place="x.csv") == Header(("I,D", "b"), 11)

    def test_blank_lines_before(self) -> None:
        """Blank lines before the header are skipped."""
        assert read_header(io.BytesIO(b"\n\r\na,b\n1,2\n"), place="x.csv") == Header(("a", "b"), 7)

    def test_half_written(self) -> None:
        """A header line without a newline is not there yet, save in a whole file."""
        assert read_header(io.BytesIO(b"a,b"), place="x.csv") is None
        assert read_header(io.BytesIO(b"a,b"), place="x.csv", whole=True) == Header(("a", "b"), 3)

    def test_longer_than_what_is_read_at_once(self) -> None:
        """Ten thousand columns are read as well."""
        names = tuple(f"column_{i}" for i in range(10_000))
        header = read_header(io.BytesIO(",".join(names).encode() + b"\n"), place="x.csv")
        assert header
        assert header.columns == names

    @pytest.mark.parametrize(
        ("line", "fact"),
        [
            (b"a,,b\n", "column 2 has none"),
            (b"a,b,a\n", "'a' is met more than once"),
            (b"a,\xff\n", "must be UTF-8"),
        ],
    )
    def test_names_that_cannot_be_used(self, line: bytes, fact: str) -> None:
        """Names that are empty, met twice or not UTF-8 are an error that says which and where."""
        with pytest.raises(DataError, match=rf"x\.csv.*{fact}|{fact}.*x\.csv"):
            read_header(io.BytesIO(line), place="x.csv")
