"""Cut the sample of hotel bookings that the demo runs on: the first rows in order of arrival, numbered.

Usage: python scripts/samples/make_sample.py hotel_cancel.csv.gz

What the input is, and what was done to it before: README.md in this folder. The output is the same to the byte each
time.
"""

import csv
import gzip
import io
import sys
from pathlib import Path

N_ROWS = 45_000
OUTPUT = Path(__file__).with_name("hotel_bookings.csv.gz")


def main(source: Path) -> None:
    """Write `OUTPUT`: the first `N_ROWS` rows of the source, with a `booking_id` from 1 on before them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        writer.writerow(["booking_id", *next(rows)])
        writer.writerows([i, *row] for i, row in zip(range(1, N_ROWS + 1), rows, strict=False))
    OUTPUT.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
    print(f"wrote {OUTPUT}: {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
