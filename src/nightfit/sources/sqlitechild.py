"""The process that reads rows of SQLite through ADBC for `nightfit.sources.sqlitearrow`.

It is run by its path and knows nothing of the package: what to read comes as JSON on stdin, the rows leave as an Arrow
stream on stdout. Only an exit code of 0 says that the stream is whole.
"""

from __future__ import annotations

import json
import sys
from typing import IO, Any

import pyarrow as pa
from adbc_driver_sqlite import dbapi


def answer(request: dict[str, Any], out: IO[bytes]) -> None:
    """Write the rows that were asked for."""
    batch_rows = {"adbc.sqlite.query.batch_rows": str(request["batch_rows"])}
    with (
        dbapi.connect(request["uri"], autocommit=True) as connection,
        connection.cursor(adbc_stmt_kwargs=batch_rows) as cursor,
    ):
        cursor.execute(request["statement"], request["values"] or None)
        rows = cursor.fetch_record_batch()
        with pa.ipc.new_stream(out, rows.schema) as stream:
            for batch in rows:
                stream.write_batch(batch)


if __name__ == "__main__":
    answer(json.load(sys.stdin), sys.stdout.buffer)
