from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nightfit.config import TABLES, load
from nightfit.described import keys_of
from nightfit.dialects import dialect_of
from nightfit.learners.base import KINDS
from nightfit.sources.base import Dialect
from nightfit.sources.configs import FileConfig, SqlConfig
from nightfit.toplevel import TopConfig

CONFIG = Path("configs/nightfit.toml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_rows: Callable[..., str]) -> Path:
    """Stand in a folder with data.csv."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(make_rows(120))
    return tmp_path


def test_what_it_guesses(here: Path, nightfit: Callable[..., Any]) -> None:
    """The key, the kinds, the share of missing values, classes and rows, as one JSON object."""
    assert here
    done = nightfit("init", "data.csv", "--target", "bought", "--json")
    guess = json.loads(done.out)
    assert done.code == 0
    assert (guess["key"], guess["name"], guess["n_classes"], guess["n_rows"]) == ("id", "data", 2, 120)
    assert guess["kinds"] == {
        "id": "numeric", "price": "numeric", "colour": "categorical", "day": "datetime", "bought": "categorical",
    }  # fmt: skip
    assert set(guess["missing"].values()) == {0.0}


def test_the_config_trains_as_written(here: Path, nightfit: Callable[..., Any]) -> None:
    """What init writes loads, trains and predicts without a change."""
    assert nightfit("init", "data.csv", "--target", "bought").code == 0
    config = load(CONFIG)
    assert (config.root, config.rules.key, list(config.models)) == (here, ("id",), ["deep", "linear"])
    assert nightfit("train").code == 0
    assert nightfit("predict", "data.csv", "-o", "out.csv").code == 0
    assert (here / "checkpoints" / "data" / "linear" / "000001").is_dir()


def test_it_never_overwrites_unasked(here: Path, nightfit: Callable[..., Any]) -> None:
    """A config that is there stays, unless --force is said."""
    CONFIG.parent.mkdir()
    CONFIG.write_text("mine")
    done = nightfit("init", "data.csv", "--target", "bought")
    assert done.code == 78
    assert "however configs/nightfit.toml is there" in done.err
    assert CONFIG.read_text() == "mine"
    assert nightfit("init", "data.csv", "--target", "bought", "--force").code == 0
    assert load(CONFIG).root == here


@pytest.mark.parametrize("folder", ["configs", ".", "a/b/c", "../elsewhere"])
def test_it_works_from_any_folder(
    here: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Wherever the config lies, its root is the folder that DATA was typed from."""
    (here / "work").mkdir()
    (here / "data.csv").rename(here / "work" / "data.csv")
    monkeypatch.chdir(here / "work")
    path = Path(folder) / "n.toml"
    assert nightfit("init", "data.csv", "--target", "bought", "--config", path).code == 0
    config = load(path)
    assert config.root == here / "work"
    assert config.store == here / "work" / "checkpoints"


@pytest.mark.parametrize(
    "column",
    ['with "quotes"', "名前", "two\nlines", "tab\there", "back\\slash", "[x]", "# no", "a\x7fb", "é" * 300, "="],
)
def test_odd_column_names_are_written_so_that_they_read_back(
    here: Path, nightfit: Callable[..., Any], column: str
) -> None:
    """Any column name can be the target, the key or a text feature, and the config still loads."""
    quoted = '"' + column.replace('"', '""') + '"'
    rows = "".join(f"{i},{'a' if i % 2 else 'b'}\n" for i in range(20))
    (here / "odd.csv").write_text(f"x,{quoted}\n{rows}")
    assert nightfit("init", "odd.csv", "--target", column, "--config", "t.toml").code == 0
    assert load(Path("t.toml")).rules.target == column
    assert nightfit("init", "odd.csv", "--target", "x", "--config", "f.toml").code == 0
    assert load(Path("f.toml")).rules.target == "x"


@pytest.mark.parametrize(
    ("header", "values", "key"),
    [
        ("order_id", range(30), "order_id"),
        ("ID", range(30), "ID"),
        ("uuid", range(30), "uuid"),
        ("id", [1] * 30, ""),
        ("id", ["", *range(29)], ""),
        ("paid", range(30), ""),
        ("price", range(30), ""),
    ],
)
def test_a_key_is_named_like_one_and_differs_from_row_to_row(
    here: Path, nightfit: Callable[..., Any], header: str, values: list[object], key: str
) -> None:
    """No key is guessed from a column that repeats, has holes, or is called something else."""
    (here / "k.csv").write_text(f"{header},y\n" + "".join(f"{v},{i % 2}\n" for i, v in enumerate(values)))
    guess = json.loads(nightfit("init", "k.csv", "--target", "y", "--json").out)
    assert guess["key"] == key
    assert load(CONFIG).rules.key == ((key,) if key else ())


def test_a_database_table(here: Path, nightfit: Callable[..., Any]) -> None:
    """A URL and a table make a config whose cursor is the key; it trains as written."""
    rows = [line.split(",") for line in (here / "data.csv").read_text().splitlines()[1:]]
    with closing(sqlite3.connect("new.db")) as db:
        db.execute("create table new_rows (id integer primary key, price real, colour text, day text, bought text)")
        db.executemany("insert into new_rows values (?, ?, ?, ?, ?)", rows)
        db.commit()
    assert nightfit("init", "sqlite:///new.db", "--table", "new_rows", "--target", "bought").code == 0
    source = load(CONFIG).sources[0]
    assert isinstance(source, SqlConfig)
    assert (source.table, source.cursor_columns) == ("new_rows", ("id",))
    assert nightfit("train", "--model", "linear").code == 0
    log = json.loads(nightfit("log", "--json").out)
    assert log["models"]["linear"][0]["rows"]["read"] == 120


def test_a_folder_whose_files_differ(here: Path, nightfit: Callable[..., Any]) -> None:
    """All columns of all files are looked at; what a file has not is missing there."""
    (here / "parts").mkdir()
    (here / "parts" / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (here / "parts" / "b.csv").write_text("x,z,y\n3,q,a\n4,r,b\n")
    guess = json.loads(nightfit("init", "parts", "--target", "y", "--json").out)
    assert guess["missing"] == {"x": 0.0, "y": 0.0, "z": 0.5}


@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        ("id,y\n1,a\n", ["--target", "Y"], 65, "did you mean 'y'?"),
        ("id,y\n1,\n", ["--target", "y"], 65, "the target must have values"),
        ("id,y\n", ["--target", "y"], 65, "init needs rows"),
        ("", ["--target", "y"], 65, "it is empty"),
        ("y\n" + "".join(f"v{i}\n" for i in range(1500)), ["--target", "y"], 65, "at most 1000 values"),
        ("id,price\n" + "".join(f"{i},{i}.5\n" for i in range(60)), [], 2, "say --target, one of id, price"),
        ("id,y\n1,a\n", ["--target", "y", "--name", "Bad Name"], 78, "name must be"),
        ("id,y\n1,a\n", ["--target", "y", "--config", "bad.csv/x.toml"], 78, "the config must be writable"),
    ],
)
def test_what_cannot_be_guessed_from_is_said_in_a_line(  # noqa: PLR0917 - fixtures and parameters
    here: Path, nightfit: Callable[..., Any], text: str, options: list[str], code: int, said: str
) -> None:
    """One line, the exit code of its kind, and no config."""
    (here / "bad.csv").write_text(text)
    done = nightfit("init", "bad.csv", *options)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not CONFIG.exists()


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("https://me:s3cret@h/rows", "https"), ("kafka://h:1/t", "kafka"), ("redis://:s3cret@h", "redis")],
)
def test_what_is_neither_file_nor_database_is_named(
    here: Path, nightfit: Callable[..., Any], url: str, scheme: str
) -> None:
    """Init cannot look at an API or a broker, and says what to do instead, without the url's secrets."""
    assert here
    done = nightfit("init", url)
    assert (done.code, f"however this is {scheme}://; let it look" in done.err) == (2, True)
    assert "s3cret" not in done.err


EUROPEAN = "id;price;place;day;bought\r\n" + "".join(
    f'{i};{i % 50},{i % 10}0;"Köln; Süd";2026-03-01;{"ja" if i % 50 > 20 else "nein"}\r\n' for i in range(600)
)


def test_semicolons_and_decimal_commas_are_guessed_and_written(here: Path, nightfit: Callable[..., Any]) -> None:
    """What init writes reads the file: nights, doctor and predict take the config's word for how CSV is spelled."""
    (here / "eu.csv").write_bytes(EUROPEAN.encode("utf-8-sig"))
    done = nightfit("init", "eu.csv", "--target", "bought")
    assert "it cuts all of the first 601 lines into 5 columns" in done.out
    assert "the numbers of 'price' have it" in done.out
    assert load(CONFIG).dialect == Dialect(";", ",")
    assert nightfit("train", "--model", "linear").code == 0
    log = json.loads(nightfit("log", "--json").out)["models"]["linear"][0]["rows"]
    assert (log["read"], log["rejected"]) == (600, 0)
    done = nightfit("predict", "eu.csv", "--model", "linear", "-o", "out.csv")
    assert (done.code, done.err) == (0, "")
    first = (here / "out.csv").read_text().splitlines()[12]
    assert first.startswith('"11","11.10","Köln; Süd","2026-03-01","nein",')
    done = nightfit("compare", "eu.csv", "--config", CONFIG, "--night-rows", "200", "--models", "linear", "--jobs", "1")
    assert (done.code, done.err) == (0, "")


def test_a_night_guesses_no_delimiter(here: Path, nightfit: Callable[..., Any]) -> None:
    """Where the config does not say that a file has semicolons, the error names the option."""
    (here / "eu.csv").write_text(EUROPEAN)
    assert nightfit("init", "data.csv", "--target", "bought").code == 0
    CONFIG.write_text(CONFIG.read_text().replace('"data.csv"', '"eu.csv"'))
    done = nightfit("train", "--model", "linear")
    assert (done.code, """seem to be separated by ';': say delimiter = ";" in""" in done.err) == (65, True), done.err


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a\tb\n1,5\tx\n2\ty\n", Dialect("\t", ",")),
        ("a|b\n1.5|x\n", Dialect("|")),
        ("a;b\n1.5;x\n1,5;y\n", Dialect(";")),
        ("a,b\n1;2,x\n3;4,y\n", Dialect()),
        ('a,"b;c;d"\n1,x\n', Dialect()),
        ("a;b,c;d\n1;2,5;3\n", Dialect(";", ",")),
        ("a;b\n1;2\n3\n", Dialect()),
        ("a\n1\n", Dialect()),
        ("", Dialect()),
    ],
)
def test_the_dialect_is_what_cuts_all_lines_alike(tmp_path: Path, text: str, dialect: Dialect) -> None:
    """A delimiter is guessed where every line has as many columns, a decimal comma where a column has no other."""
    (tmp_path / "x.csv").write_text(text)
    assert dialect_of(tmp_path / "x.csv")[0] == dialect


def test_the_dialect_of_what_is_no_csv_is_the_default(tmp_path: Path) -> None:
    """Neither a file that is not there nor JSON lines are looked at."""
    (tmp_path / "x.jsonl").write_text('{"a;b": 1}\n')
    assert dialect_of(tmp_path / "x.jsonl") == dialect_of(tmp_path / "none.csv") == (Dialect(), {})


def test_a_database_needs_one_table_and_an_order(here: Path, nightfit: Callable[..., Any]) -> None:
    """With several tables, or without a column that could be the cursor, init says what to do."""
    with closing(sqlite3.connect(here / "new.db")) as db:
        db.execute("create table t (price real, y text)")
        db.execute("insert into t values (1, 'a')")
        db.commit()
    done = nightfit("init", "sqlite:///new.db")
    assert (done.code, "set cursor" in done.err) == (2, True)
    with closing(sqlite3.connect(here / "new.db")) as db:
        db.execute("create table other (id integer)")
    done = nightfit("init", "sqlite:///new.db", "--target", "y")
    assert (done.code, "the database has other, t; name one with --table" in done.err) == (2, True)
    done = nightfit("init", "sqlite:///new.db", "--table", "t", "--target", "y")
    assert (done.code, "set cursor" in done.err) == (2, True)
    assert not CONFIG.exists()


def test_every_other_key_is_a_comment(here: Path, nightfit: Callable[..., Any]) -> None:
    """Whatever may be set stands there with its default, which changes nothing when the # is taken away."""
    assert here
    assert nightfit("init", "data.csv").code == 0
    text = CONFIG.read_text()
    before = load(CONFIG)
    CONFIG.write_text(re.sub(r"^# (\w+ = .*)", r"\1", text, flags=re.MULTILINE))
    assert load(CONFIG) == before
    there = set(re.findall(r"^(?:# )?(\w+) = ", text, re.MULTILINE))
    for cls in (TopConfig, *TABLES.values(), FileConfig, KINDS["mlp"], KINDS["partial_fit"]):
        assert keys_of(cls).keys() <= there


def test_the_target_may_be_guessed(here: Path, nightfit: Callable[..., Any]) -> None:
    """What was guessed is shown with its reason, and what to run next with the nights of the history."""
    assert here
    done = nightfit("init", "data.csv")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "target bought is the last column with 2 to 50 different values" in said
    assert "key id is named like a key, and differs in all 120 rows" in said
    assert load(CONFIG).rules.target == "bought"
