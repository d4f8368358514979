from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

ANSWERS = ["prediction", "probability_no", "probability_yes", "model_version"]


@pytest.fixture
def rows(home: Path, make_rows: Callable[..., str]) -> str:
    """Give new rows, which are in new.csv as well."""
    text = make_rows(50, 700)
    (home / "new.csv").write_text(text)
    return text


@pytest.fixture
def predict(nightfit: Callable[..., Any]) -> Callable[..., list[dict[str, str]]]:
    """Give what predicts into out.csv and returns its rows."""

    def predicted(data: object, *options: object) -> list[dict[str, str]]:
        done = nightfit("predict", data, "-o", "out.csv", *options)
        assert (done.code, done.out) == (0, ""), done.err
        return read("out.csv")

    return predicted


def read(path: str) -> list[dict[str, str]]:
    """Read a CSV file."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_input_columns_stay_and_answers_follow(rows: str, predict: Callable[..., list[dict[str, str]]]) -> None:
    """Every column and row of the input stays, in order; prediction, probabilities and version are added."""
    out = predict("new.csv")
    given = list(csv.DictReader(rows.splitlines()))
    assert list(out[0]) == [*given[0], *ANSWERS]
    assert [{k: row[k] for k in given[0]} for row in out] == given
    for row in out:
        no, yes = float(row["probability_no"]), float(row["probability_yes"])
        assert no + yes == pytest.approx(1, abs=2e-6)
        assert row["prediction"] == ("yes" if yes > no else "no")
        assert row["model_version"] == "1"
    hits = [row["prediction"] == row["bought"] for row in out]
    assert sum(hits) > 35


def test_any_kind_of_input_scores_the_same(home: Path, rows: str, predict: Callable[..., list[dict[str, str]]]) -> None:
    """A file, its gzip, JSON lines, Parquet, a folder of parts, a glob and an SQLite table get the same answers.

    To the last of six places, but for one: parts come in other blocks, on whose sizes a product's last bits depend.
    """
    expected = predict("new.csv")
    (home / "new.csv.gz").write_bytes(gzip.compress(rows.encode()))
    header, *lines = rows.splitlines()
    (home / "parts").mkdir()
    (home / "parts" / "a.csv").write_text("\n".join([header, *lines[:20]]))  # no newline at its end
    swapped = ["day,id,price,colour,bought", *(",".join([f[3], *f[:3], f[4]]) for f in (r.split(",") for r in lines))]
    (home / "parts" / "b.csv").write_text("\n".join([swapped[0], *swapped[21:]]) + "\n")
    with closing(sqlite3.connect("new.db")) as db:
        db.execute("create table t (id integer primary key, price real, colour text, day text, bought text)")
        db.executemany("insert into t values (?, ?, ?, ?, ?)", [line.split(",") for line in lines])
        db.commit()
    table = pacsv.read_csv(home / "new.csv", convert_options=pacsv.ConvertOptions(timestamp_parsers=["%Y-%m-%d"]))
    pq.write_table(table, home / "new.parquet", row_group_size=7)
    records = table.set_column(3, "day", table["day"].cast(pa.string())).to_pylist()
    (home / "new.jsonl").write_text("\n".join(map(json.dumps, records)))  # no newline at its end
    files = ("new.csv.gz", "new.jsonl", "new.parquet", "parts", "parts/*.csv")
    for data, *options in (*([name] for name in files), ["sqlite:///new.db", "--table", "t"]):
        out = predict(data, *options)
        assert len(out) == len(expected)
        for row, of_csv in zip(out, expected, strict=True):
            for answer in ANSWERS:
                is_close = "probability" in answer and abs(float(row[answer]) - float(of_csv[answer])) < 1.1e-6
                assert is_close or row[answer] == of_csv[answer], (data, row["id"])
        assert list(out[0])[:5] == header.split(",")


@pytest.mark.parametrize("model", ["deep", "linear"])
def test_numpy_and_torch_agree(rows: str, predict: Callable[..., list[dict[str, str]]], model: str) -> None:
    """Without a device the answers are numpy's, and the same as torch's to 1e-5."""
    assert rows
    numpy, torch = predict("new.csv", "--model", model), predict("new.csv", "--model", model, "--device", "cpu")
    for a, b in zip(numpy, torch, strict=True):
        assert float(a["probability_yes"]) == pytest.approx(float(b["probability_yes"]), abs=1.1e-5)


def test_a_version_can_be_asked_for(
    home: Path, rows: str, nightfit: Callable[..., Any], predict: Callable[..., list[dict[str, str]]],
    make_rows: Callable[..., str],
) -> None:  # fmt: skip
    """The head is the default; --version takes any other, and says which there are if it is not among them."""
    assert rows
    old = predict("new.csv")
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(200, 600, header=False))
    assert nightfit("train", "--model", "deep").code == 0
    assert {row["model_version"] for row in predict("new.csv")} == {"2"}
    assert predict("new.csv", "--version", "1") == old
    done = nightfit("predict", "new.csv", "--version", "7")
    assert done.code == 65
    assert "7 is not among those it has: 1 to 2" in done.err


def test_a_rotten_head_falls_back(
    home: Path, rows: str, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """Where the head does not verify, the version before it answers, a line says so, and nothing is moved."""
    assert rows
    with (home / "data.csv").open("a") as file:
        file.write(make_rows(200, 600, header=False))
    assert nightfit("train", "--model", "deep").code == 0
    weights = home / "checkpoints" / "shop" / "deep" / "000002" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    done = nightfit("predict", "new.csv", "-o", "out.csv")
    assert done.code == 0
    assert "version 2 of shop/deep" in done.err
    assert done.err.count("\n") == 1
    assert {row["model_version"] for row in read("out.csv")} == {"1"}
    assert weights.exists()


def test_stdout_is_the_default(home: Path, rows: str, nightfit: Callable[..., Any]) -> None:
    """Without -o the CSV goes to standard output, and nothing else does."""
    assert rows
    done = nightfit("predict", "new.csv")
    nightfit("predict", "new.csv", "-o", "out.csv")
    assert done.out == (home / "out.csv").read_text()
    assert done.err == ""


def test_json_counts_what_was_scored(rows: str, nightfit: Callable[..., Any]) -> None:
    """With --json there is one object, and it needs -o, since the predictions would go to stdout too."""
    assert rows
    done = nightfit("predict", "new.csv", "-o", "out.csv", "--json")
    assert json.loads(done.out) == {
        "rows": 50, "unreadable": 0, "output": "out.csv", "model_version": 1, "device": "cpu (numpy)",
    }  # fmt: skip
    done = nightfit("predict", "new.csv", "--json")
    assert (done.code, json.loads(done.out)["exit_code"]) == (2, 2)


def test_unreadable_values_get_no_prediction(home: Path, nightfit: Callable[..., Any]) -> None:
    """A row with a value of another kind stays, without an answer, and is counted with an example."""
    (home / "new.csv").write_text(
        "id,price,colour,day\n1,abc,red,2026-01-01\n2,,violet,2026-01-02\n3,1.5,,2026-02-31\n4,1,red,2026-01-03\n"
    )
    done = nightfit("predict", "new.csv", "-o", "out.csv")
    assert done.code == 0
    assert "2 of 4 rows" in done.err
    assert "column 'price' has 'abc' in row 1" in done.err
    out = read("out.csv")
    assert [bool(row["prediction"]) for row in out] == [False, True, False, True]
    assert [bool(row["probability_yes"]) for row in out] == [False, True, False, True]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("id,price,colour\n1,2,red\n", 65, "has no 'day'"),
        ("id,price,colour,day,extra\n1,2,red,2026-01-01,x\n", 0, ""),
        ("day,price,colour\n2026-01-01,2,red\n", 0, ""),
        ("id,price,colour,day,prediction\n1,2,red,2026-01-01,x\n", 65, "must not have a column 'prediction'"),
        ("id,price,colour,day,probability_yes\n1,2,red,2026-01-01,x\n", 65, "'probability_yes'"),
        ("id,price,colour,day,model_version\n1,2,red,2026-01-01,x\n", 65, "'model_version'"),
        ("id,price,colour,day\n", 0, ""),
        ("", 65, "it is empty"),
        ("id;price;colour;day\n1;2;red;2026-01-01\n", 65, "columns seem to be separated by ';'"),
        ("id,price,colour,day\n1,2,red,2026-01-01\n2,3\n", 65, "row 2 of new.csv"),
        ('id,price,colour,day\n1,"2,red,2026-01-01\n', 65, "must be closed by a quote"),
    ],
)
def test_odd_inputs(home: Path, nightfit: Callable[..., Any], text: str, code: int, said: str) -> None:
    """More columns and another order are fine; what cannot be scored is one line, and leaves no output."""
    (home / "new.csv").write_text(text)
    done = nightfit("predict", "new.csv", "-o", "out.csv")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == (code != 0)
    assert (home / "out.csv").exists() == (code == 0)
    if code == 0:
        assert (
            (home / "out.csv")
            .read_text()
            .splitlines()[0]
            .endswith('"prediction","probability_no","probability_yes","model_version"')
        )


def test_files_of_one_input_must_agree(home: Path, rows: str, nightfit: Callable[..., Any]) -> None:
    """Files with different columns do not end in one CSV file whose rows mean different things."""
    (home / "parts").mkdir()
    (home / "parts" / "a.csv").write_text(rows)
    (home / "parts" / "b.csv").write_text("id,price,colour,day\n1,2,red,2026-01-01\n")
    done = nightfit("predict", "parts", "-o", "out.csv")
    assert done.code == 65
    assert "parts/b.csv differs from the first in 'bought'" in done.err
    assert not (home / "out.csv").exists()


def test_the_output_may_be_the_input(home: Path, rows: str, predict: Callable[..., list[dict[str, str]]]) -> None:
    """The input is read to its end before the output takes its place; a link stays a link."""
    expected = predict("new.csv")
    shutil.move("new.csv", "real.csv")
    (home / "out.csv").unlink()
    (home / "out.csv").symlink_to("real.csv")
    assert predict("real.csv") == expected
    assert (home / "out.csv").is_symlink()
    assert len((home / "real.csv").read_text().splitlines()) == len(rows.splitlines())


@pytest.mark.parametrize(
    ("output", "said"), [("none/out.csv", "No such file"), ("configs", "Is a directory"), ("data.csv/x", "Not a dir")]
)
def test_outputs_that_cannot_be(rows: str, nightfit: Callable[..., Any], output: str, said: str) -> None:
    """An output that cannot be written is named in one line."""
    assert rows
    done = nightfit("predict", "new.csv", "-o", output)
    assert done.code == 65
    assert f"the output must be writable, however {output}: {said}" in done.err


def test_a_device_file_is_written_to_and_not_replaced(home: Path, rows: str, nightfit: Callable[..., Any]) -> None:
    """-o names a pipe: the rows go through it, and it is still a pipe afterwards."""
    assert rows
    os.mkfifo(home / "pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True)
    assert nightfit("predict", "new.csv", "-o", "pipe").code == 0
    out, _ = reader.communicate(timeout=10)
    assert len(out.splitlines()) == 51
    assert (home / "pipe").is_fifo()


def test_more_than_one_chunk_keeps_order_and_header(home: Path, predict: Callable[..., list[dict[str, str]]]) -> None:
    """An input larger than a chunk has one header and all its rows in order."""
    n = 70_000
    (home / "big.csv").write_text("id,price,colour,day\n" + "".join(f"{i},{i % 7},red,2026-01-01\n" for i in range(n)))
    out = predict("big.csv")
    assert [int(row["id"]) for row in out] == list(range(n))
    assert len({row["probability_yes"] for row in out if row["price"] == "3"}) == 1


def test_it_needs_neither_torch_nor_sklearn(home: Path) -> None:
    """Scoring a file loads neither, as a real process shows (pandas is loaded by pyarrow itself, if installed)."""
    (home / "new.csv").write_text("id,price,colour,day\n1,2,red,2026-01-01\n")
    code = (
        "import sys\nsys.argv = ['nightfit', 'predict', 'new.csv', '-o', 'out.csv']\n"
        "from nightfit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sorted({'torch', 'sklearn', 'scipy', 'sqlalchemy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home)
    assert (done.stdout.strip(), done.stderr) == ("", "")
    assert len(read("out.csv")) == 1


@pytest.mark.usefixtures("rows")
def test_a_dropped_column_is_not_looked_at(home: Path, predict: Callable[..., list[dict[str, str]]]) -> None:
    """A column that schema.drop names since is missing to the model, in the input or not, as in training."""
    path = home / "configs" / "nightfit.toml"
    path.write_text(path.read_text() + '\n[schema]\ndrop = ["price"]\n')
    given = read("new.csv")
    with Path("narrow.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in given[0] if name != "price"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(given)
    answers = [[[row[name] for name in ANSWERS] for row in predict(name)] for name in ("new.csv", "narrow.csv")]
    assert answers[0] == answers[1]
