from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score

from nightfit.compare import entrant
from nightfit.compare.bench import Bench
from nightfit.compare.nights import Piece, nights
from nightfit.model import Model
from nightfit.schema import Rules
from nightfit.sources.increment import Cut

KEYS = {"log_loss", "accuracy", "macro_f1", "calibration_error", "learn_cpu_s", "predict_cpu_s", "rows"}
Events: TypeAlias = list[tuple[str, Any, Any]]


class Spy:
    """A learner that tells what it was asked and what it answered."""

    def __init__(self, learner: Any, events: Events) -> None:  # noqa: ANN401 - any learner
        self._learner, self._events = learner, events

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the learner's
        return getattr(self._learner, name)

    def predict(self, batch: Any) -> Any:  # noqa: ANN401
        """Note what was predicted, and what was true."""
        proba = self._learner.predict(batch)
        self._events.append(("predict", proba.copy(), batch.y.copy()))
        return proba

    def observe(self, rows: Any) -> None:  # noqa: ANN401
        """Note how many outcomes were observed."""
        self._events.append(("observe", len(rows), None))
        self._learner.observe(rows)

    def learn(self, rows: Any, *, seed: int) -> None:  # noqa: ANN401
        """Note how many rows were learned."""
        self._events.append(("learn", len(rows), None))
        self._learner.learn(rows, seed=seed)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Events]:
    """Give what the models of the next comparison are asked and answer, one list for each model."""
    told: list[Events] = []
    fresh = entrant.fresh

    def spied(*arguments: Any) -> Model:  # noqa: ANN401
        model = fresh(*arguments)
        told.append([])
        model.learner = Spy(model.learner, told[-1])
        return model

    monkeypatch.setattr(entrant, "fresh", spied)
    return told


@pytest.fixture
def data(tmp_path: Path, make_rows: Callable[..., str]) -> Path:
    """Give a file of 250 rows: nights of 100 rows are two and a half."""
    path = tmp_path / "data.csv"
    path.write_text(make_rows(250))
    return path


@pytest.fixture
def run(nightfit: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Give what compares, in this process, and returns the JSON."""

    def compared(data: object, *options: object) -> dict[str, Any]:
        done = nightfit("compare", data, "--target", "bought", "--jobs", "1", *options, "--json")
        assert done.code == 0, done.err
        result: dict[str, Any] = json.loads(done.out)
        return result

    return compared


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out what no seed can repeat: seconds and memory, and what is said of them."""

    def timeless(scores: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in scores.items() if not k.endswith("_s") and k != "peak_mib"}

    models = {name: timeless(scores) for name, scores in result["models"].items()}
    nights = [
        {**night, "models": {name: timeless(scores) for name, scores in night["models"].items()}}
        for night in result["per_night"]
    ]
    said = {"costs", "verdict", "command", "staging_cpu_s"}
    return {k: v for k, v in result.items() if k not in said} | {"models": models, "per_night": nights}


def answers(told: Events) -> list[tuple[Any, Any]]:
    """Return what a model said of each scored night, and the truth; not what it said when it looked back at the first.

    It does so twice: right after it has learned that night, and at the end.
    """
    said = [(proba, y) for what, proba, y in told if what == "predict"]
    return said[1:-1]


def test_the_json_has_the_keys_of_the_design(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """Task, rows, nights, models, per_night; rows and nights count the scored ones."""
    result = run(data, "--key", "id", "--night-rows", "100")
    assert {"task", "rows", "nights", "models", "per_night"} <= set(result)
    assert (result["task"], result["rows"], result["nights"]) == ("classification", 150, 2)
    assert list(result["models"]) == ["deep", "linear"]
    for scores in result["models"].values():
        assert set(scores) >= KEYS
        assert scores["rows"] == 150
        assert scores["learn_cpu_s"] > 0
    assert [(n["night"], n["rows"]) for n in result["per_night"]] == [(2, 100), (3, 50)]


def test_each_night_is_predicted_whole_before_it_is_learned(
    run: Callable[..., dict[str, Any]], data: Path, events: list[Events]
) -> None:
    """The first night is only learned; every later one is predicted, all of it, then learned.

    The first is looked back at when it has been learned, and at the end.
    """
    run(data, "--night-rows", "100")
    for told in events:
        seen = [(what, len(a) if what == "predict" else a) for what, a, _ in told]
        nights = [[(what, n) for what in ("predict", "observe", "learn")] for n in (100, 50)]
        assert seen == [("learn", 100), ("predict", 100), *nights[0], *nights[1], ("predict", 100)]


@pytest.mark.parametrize("classes", ["declared", "observed"])
def test_scores_are_those_of_an_independent_count(
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    events: list[Events],
    classes: str,
    make_rows: Callable[..., str],
) -> None:
    """Pooled over all predicted rows: clip at 1e-6, renormalise; F1 is scikit-learn's; a late class costs the clip."""
    late = make_rows(250).splitlines()
    late[180] = late[180].rsplit(",", 1)[0] + ",maybe"
    path = tmp_path / "late.csv"
    path.write_text("\n".join(late) + "\n")
    result = run(path, "--night-rows", "100", "--classes", classes)
    for scores, told in zip(result["models"].values(), events, strict=True):
        pairs = answers(told)
        y = np.concatenate([y for _, y in pairs])
        width = max(proba.shape[1] for proba, _ in pairs)
        p = np.concatenate([np.pad(proba, ((0, 0), (0, width - proba.shape[1]))) for proba, _ in pairs])
        p = np.clip(p, 1e-6, None)
        p /= p.sum(1, keepdims=True)
        guess = p.argmax(1)
        assert scores["log_loss"] == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), abs=2e-6)
        assert scores["accuracy"] == pytest.approx((guess == y).mean())
        assert scores["macro_f1"] == pytest.approx(f1_score(y, guess, average="macro"))
        (i,) = np.flatnonzero(y == 2) if classes == "observed" else np.flatnonzero(y == 0)
        if classes == "observed":
            assert -math.log(p[i, 2]) == pytest.approx(-math.log(1e-6), abs=1e-4)
        else:
            assert p[i, 0] > 5e-5  # one pseudo-count in some hundred, a hundredth of it mixed in


def changed(text: str, first: int, how: Callable[[list[str]], list[str]]) -> str:
    """Change the fields of the rows from one on."""
    header, *rows = text.splitlines()
    rows[first:] = [",".join(how(row.split(","))) for row in rows[first:]]
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    ("first", "n_same", "how"),
    [
        (100, 100, lambda f: [*f[:-1], {"yes": "no", "no": "yes"}[f[-1]]]),
        (200, 100, lambda f: [f[0], "1e6", "violet", "2031-01-01", f[-1]]),
        (249, 149, lambda f: [f[0], "abc", "", "", f[-1]]),
    ],
    ids=["labels of night 2", "rows of night 3", "the last row"],
)
def test_nothing_of_a_night_leaks_into_its_own_prediction(  # noqa: PLR0917 - fixtures and parameters
    data: Path,
    run: Callable[..., dict[str, Any]],
    events: list[Events],
    first: int,
    n_same: int,
    how: Callable[[list[str]], list[str]],
) -> None:
    """Other labels of a night, or other rows of a later one, change no bit of what was said before."""
    run(data, "--night-rows", "100")
    data.write_text(changed(data.read_text(), first, how))
    run(data, "--night-rows", "100")
    before, after = events[:2], events[2:]
    for told, again in zip(before, after, strict=True):
        a, b = (np.concatenate([p for p, _ in answers(t)]) for t in (told, again))
        assert np.array_equal(a[:n_same], b[:n_same])
        assert len(a) == len(b) == 150


def test_a_seed_repeats_a_comparison_bit_for_bit(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """Equal seeds give equal figures, different ones do not."""
    results = [without_times(run(data, "--night-rows", "100", "--seed", seed)) for seed in (3, 3, 4)]
    assert results[0] == results[1]
    assert results[0]["models"]["deep"] != results[2]["models"]["deep"]


def test_rows_without_a_target_are_left_out_before_nights_are_cut(
    run: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    """Unlabelled rows change nothing but a count, and only the empty string is missing unless `--missing`."""
    whole = run(data, "--key", "id", "--night-rows", "100")
    lines = data.read_text().splitlines()
    lines[50:50] = ["7777,1.0,red,2026-01-01,"] * 30
    lines[:0] = []
    holes = tmp_path / "holes.csv"
    holes.write_text("\n".join(lines) + "\n")
    result = run(holes, "--key", "id", "--night-rows", "100")
    assert (result.pop("left_out"), whole.pop("left_out")) == (30, 0)
    assert without_times(result) == without_times(whole)
    holes.write_text("\n".join(lines).replace("01-01,\n", "01-01,NA\n"))
    declared = run(holes, "--key", "id", "--night-rows", "100")
    assert declared["rows"] == 180
    result = run(holes, "--key", "id", "--night-rows", "100", "--missing", "NA")
    assert without_times(result) == without_times(whole) | {"left_out": 30}


def test_what_is_no_number_counts_as_missing(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """An unreadable number scores as an empty one: no reject, no missing row."""
    text = data.read_text()
    results = []
    for value in ("abc", ""):
        data.write_text(changed(text, 240, lambda f, value=value: [f[0], value, *f[2:]]))  # type: ignore[misc]
        results.append(without_times(run(data, "--night-rows", "100")))
    assert results[0] == results[1]
    assert results[0]["rows"] == 150


def test_columns_can_be_named(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """A key or a dropped column is no feature; one named as a category is read as one."""
    plain, key, drop, cat = (
        without_times(run(data, "--night-rows", "100", *options))["models"]["linear"]["log_loss"]
        for options in ([], ["--key", "id"], ["--drop", "id"], ["--categorical", "id"])
    )
    assert key == drop
    assert plain not in {key, cat}


def test_nights_by_a_column_of_times(run: Callable[..., dict[str, Any]], data: Path) -> None:
    """A night is a period of the column; its default length is a day."""
    sizes = [100, 50]
    assert [n["rows"] for n in run(data, "--night-column", "day")["per_night"]] == sizes
    assert [n["rows"] for n in run(data, "--night-column", "day", "--every", "2d")["per_night"]] == [50]


def test_models_can_be_chosen(run: Callable[..., dict[str, Any]], data: Path, events: list[Events]) -> None:
    """Only the models that are named run, in their order."""
    assert list(run(data, "--night-rows", "100", "--models", "linear")["models"]) == ["linear"]
    assert len(events) == 1


def test_a_pipeline_compares_on_its_own_data(
    home: Path, nightfit: Callable[..., Any], make_rows: Callable[..., str]
) -> None:
    """With --config, or with nothing, the config's sources, target, key and models are taken; nothing is stored."""
    before = sorted((home / "checkpoints").rglob("*"))
    results = []
    for options in ([], ["--config", home / "configs" / "nightfit.toml"]):
        done = nightfit("compare", "--night-rows", "300", "--models", "linear", *options, "--json")
        assert done.code == 0, done.err
        results.append(without_times(json.loads(done.out)))
    assert results[0] == results[1]
    assert results[0]["rows"] == 300
    (home / "other.csv").write_text(make_rows(100, 5000))
    done = nightfit(
        "compare",
        "other.csv",
        "--config",
        "configs/nightfit.toml",
        "--night-rows",
        "50",
        "--models",
        "linear",
        "--json",
    )
    assert json.loads(done.out)["rows"] == 50
    assert sorted((home / "checkpoints").rglob("*")) == before


def test_a_folder_and_a_table_are_data_too(
    run: Callable[..., dict[str, Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of parts, the last line without a newline, and a database table score as the file does."""
    whole = without_times(run(data, "--night-rows", "100", "--models", "linear"))
    header, *rows = data.read_text().splitlines()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.csv").write_text("\n".join([header, *rows[:130]]))
    (tmp_path / "parts" / "b.csv").write_text("\n".join([header, *rows[130:]]))
    assert without_times(run(tmp_path / "parts", "--night-rows", "100", "--models", "linear")) == whole
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("data.db")) as db:
        db.execute("create table t (id integer, price real, colour text, day text, bought text)")
        db.executemany("insert into t values (?, ?, ?, ?, ?)", [row.split(",") for row in rows])
        db.commit()
    assert without_times(run("sqlite:///data.db", "--table", "t", "--night-rows", "100", "--models", "linear")) == whole


def test_the_report_is_written(run: Callable[..., dict[str, Any]], data: Path, tmp_path: Path) -> None:
    """`--report` writes the page, and the JSON is what it is without."""
    run(data, "--night-rows", "100", "--models", "linear", "--report", tmp_path / "page.html")
    assert "linear" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "needs nights"),
        (["--night-rows", "0"], 2, "--night-rows >= 1"),
        (["--night-rows", "9999"], 65, "two nights at least"),
        (["--night-rows", "9", "--night-column", "day"], 2, "both"),
        (["--night-column", "nope"], 78, "must name a column"),
        (["--night-column", "day", "--every", "soon"], 2, "--every must be a number"),
        (["--every", "1d"], 2, "--every needs --night-column"),
        (
            ["--night-rows", "9", "--models", "forest"],
            78,
            "--models must name deep, linear, a scikit-",
        ),
        (["--night-rows", "9", "--task", "ranking"], 2, "--task must be auto, classification or regression"),
        (["--night-rows", "9", "--task", "regression"], 65, "no value of 'bought' reads as a number"),
        (["--night-rows", "9", "--classes", "some"], 2, "--classes must be"),
        (["--night-rows", "9", "--seed", "-1"], 2, "--seed must lie"),
        (["--night-rows", "9", "--drop", "pric"], 65, "did you mean 'price'"),
        (["--night-rows", "9", "--categorical", "nope"], 65, "--categorical must name columns"),
        (["--night-rows", "9", "--device", "gpu"], 78, "a device must be"),
        (["--night-rows", "9", "--report", "none/x.html"], 2, "--report must name a file"),
        (["--night-rows", "9", "--target", "nope"], 65, "the target must be a column"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(
    nightfit: Callable[..., Any], data: Path, options: list[str], code: int, said: str
) -> None:
    """Wrong options end at once with one line and the exit code of their kind; with --json also with one object."""
    target = [] if "--target" in options else ["--target", "bought"]
    done = nightfit("compare", data, *target, *options, "--json")
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1
    assert json.loads(done.out)["exit_code"] == code


@dataclass(frozen=True)
class Held(Piece):
    """A piece whose table lies in memory."""

    held: Any

    @property
    def table(self) -> Any:  # noqa: ANN401
        """The rows."""
        return self.held.slice(self.start, self.num_rows)

    def slice(self, start: int, n: int | None = None) -> Held:
        """Return a part of it."""
        return Held(self.path, self.start + start, self.num_rows - start if n is None else n, self.held)


def tables_of(*columns: list[float]) -> list[Any]:
    """Give one table for each list of days."""
    tables = [pa.table({"day": [f"2026-01-{int(d):02d}" if d == d else None for d in days]}) for days in columns]  # noqa: PLR0124
    return [Held(Path(), 0, len(table), table) for table in tables]


def sizes(sources: list[list[Any]], cut: Cut) -> list[int]:
    """Count the rows of each night."""
    return [sum(piece.num_rows for piece in pieces) for pieces in nights(sources, cut)]


def test_nights_of_several_sources_are_cut_side_by_side() -> None:
    """N rows of each source make a night, or the same days of all of them."""
    a, b = tables_of([1, 1, 2], [2, 3]), tables_of([2, 2, 2, 4])
    assert sizes([a, b], Cut(n_rows=2)) == [4, 4, 1]
    assert sizes([a, b], Cut(column="day")) == [2, 5, 1, 1]


def test_a_late_row_belongs_to_the_night_in_which_it_comes() -> None:
    """Rows of earlier days, and rows without a time, never open a night."""
    nan = float("nan")
    assert sizes([tables_of([2, 1, nan, 3, 2, nan])], Cut(column="day")) == [3, 3]
    assert sizes([tables_of([nan, nan], [1, 2])], Cut(column="day")) == [3, 1]
    assert sizes([tables_of([nan], [nan])], Cut(column="day")) == [2]
    assert sizes([[], tables_of([])], Cut(n_rows=3)) == []


def test_a_bench_needs_only_models_rules_and_a_cut() -> None:
    """The defaults are those of the command line: declared classes, the CPU, seed 0."""
    bench = Bench({}, Rules("y"), Cut(n_rows=1))
    assert (bench.protocol.classes, bench.device, bench.seeds) == ("declared", "cpu", (0,))
