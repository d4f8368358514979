from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nightfit import nightly
from nightfit.checkpoint import Manifest
from nightfit.errors import ConfigError, DataError, UsageError
from nightfit.night import Night
from nightfit.sources.files import FileSource
from nightfit.sources.increment import Cut, read_increment
from nightfit.verify import verify
from pipe import CONFIG, Pipe, Row, make_rows

TWO = CONFIG + '[models.other]\nkind = "partial_fit"\nalpha = 0.001\n'
GATED = CONFIG + "[gate]\nmin_rows = 100\n"


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Give a pipeline with the linear model, and no data yet."""
    return Pipe(tmp_path)


@pytest.fixture
def trained(pipe: Pipe) -> Pipe:
    """Give a pipeline that has learned two honest nights, with 300 held-out rows or so in its memory."""
    for i in range(2):
        pipe.append(make_rows(1500, start=10_000 * i, seed=i))
        assert pipe.night().status == "accepted"
    return pipe


def poison(n: int, start: int) -> list[Row]:
    """Make a night whose labels are flipped."""
    return make_rows(n, start=start, flipped=True)


def reason(manifest: Manifest) -> str:
    """Return the gate's rule that decided."""
    gate: Any = manifest.night["gate"]
    return str(gate["reason"])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Count the increments that are read."""
    done: list[Path] = []
    read = read_increment

    def counted(sources: Any, after: Any, folder: Path, **more: Any) -> Any:  # noqa: ANN401
        done.append(folder)
        return read(sources, after, folder, **more)

    monkeypatch.setattr(nightly, "read_increment", counted)
    return done


def test_equal_cursors_share_one_read(pipe: Pipe, reads: list[Path]) -> None:
    """Two models at the same place share a read; one that is added later catches up from the start by its own."""
    pipe.append(make_rows(100))
    pipe.config = TWO
    assert {name: result.rows.read for name, result in pipe.nights().items()} == {"linear": 100, "other": 100}
    assert len(reads) == 1
    pipe.append(make_rows(50, start=1000))
    pipe.config = TWO + '[models.late]\nkind = "partial_fit"\n'
    results = pipe.nights()
    assert len(reads) == 3
    assert list(results) == ["linear", "other", "late"], "results come in the order that was asked for"
    assert {name: result.rows.read for name, result in results.items()} == {"linear": 50, "other": 50, "late": 150}
    assert results["late"].version == 1
    assert pipe.head("late").parent is None
    assert pipe.head("late").cursors == pipe.head().cursors
    pipe.nights()
    assert len(reads) == 4, "from then on all three stand at the same place"


def test_only_what_all_models_know_as_numbers_is_read_as_numbers(pipe: Pipe, reads: list[Path]) -> None:
    """A column that one model of a shared read knows as categories comes as text: "05" is another one than "5"."""
    pipe.append(make_rows(60, z="1"))
    pipe.nights()
    pipe.config = TWO + '[schema]\ncategorical = ["z"]\n'
    pipe.nights()
    pipe.config = TWO
    pipe.append([*make_rows(60, start=100, z="05"), *make_rows(60, start=200, z="5")])
    assert {name: result.rows.read for name, result in pipe.nights().items()} == {"linear": 120, "other": 120}
    assert len(reads) == 4, "the last night was one read for both"
    schemas: list[Any] = [pipe.head(name).state["schema"] for name in ("linear", "other")]
    of_linear, of_other = ({column["name"]: column for column in schema["columns"]}["z"] for schema in schemas)
    assert of_linear["kind"] == "numeric"
    assert set(of_other["categories"]) == {"1", "05", "5"}


def test_one_model_that_fails_leaves_the_others_right(pipe: Pipe) -> None:
    """A model whose night fails is told of, after every other one has had its night and was committed."""
    pipe.config = CONFIG.replace("[models.linear]", "[models.deep]\n[models.linear]")
    pipe.append(make_rows(60))
    pipe.nights()
    pipe.config = pipe.config.replace("[models.deep]", "[models.deep]\nd_hidden = 8")
    pipe.append(make_rows(60, start=100))
    with pytest.raises(ConfigError, match="shape"):
        pipe.nights()
    assert (pipe.head("deep").version, pipe.head("linear").version) == (1, 2)
    pipe.config = pipe.config.replace("d_hidden = 8", "")
    results = pipe.nights()
    assert (results["deep"].rows.read, results["linear"].status) == (60, "nothing")
    assert pipe.counts("deep") == pipe.counts("linear")


def test_a_night_that_dies_leaves_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before the commit leaves no version and nothing in staging; the next run does the night again."""
    pipe.append(make_rows(60))

    def dies(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(Night, "_draft", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            pipe.night()
    lineage = pipe.lineage()
    assert lineage.head() is None
    assert not lineage.pipeline.leftovers()
    (lineage.pipeline.staging() / "of a killed run").touch()
    assert pipe.night().rows.read == 60
    assert not lineage.pipeline.leftovers()
    assert not verify(lineage)


def test_nothing_new_makes_no_version(pipe: Pipe) -> None:
    """Without a new row there is no new version, and the result says since when."""
    pipe.append(make_rows(60))
    pipe.night()
    result = pipe.night()
    assert (result.status, result.version) == ("nothing", None)
    assert result.verdict == "nothing new since version 1 of 2026-11-01T02:00:00+00:00"
    assert len(pipe.lineage().entries()) == 1


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_honest_nights_are_rarely_refused(pipe: Pipe, name: str) -> None:
    """Of 8 small nights of one world at most 2 are refused, for a learner that did get worse, and none for good."""
    pipe.config = CONFIG.replace("linear", name)
    refused = []
    for i in range(8):
        pipe.append(make_rows(500, start=10_000 * i, seed=i))
        refused.append(pipe.night().status == "refused")
    assert sum(refused) <= 2
    assert not any(refused[i] and refused[i + 1] for i in range(7))
    manifests = [entry.manifest for entry in pipe.lineage(name).entries() if entry.manifest]
    assert {reason(manifest) for manifest in manifests} <= {"first", "accepted", "worse"}


@pytest.mark.parametrize("name", ["deep", "linear"])
def test_both_learners_are_kept_from_poison(pipe: Pipe, name: str) -> None:
    """A night of flipped labels is refused whatever learns, and the honest rows of the next do not let it in."""
    pipe.config = CONFIG.replace("linear", name)
    for i in range(2):
        pipe.append(make_rows(1500, start=10_000 * i, seed=i))
        pipe.night()
    pipe.append(poison(1500, 50_000))
    assert pipe.night().status == "refused"
    pipe.append(make_rows(100, start=60_000))
    assert pipe.night().status == "refused", "100 rows do not decide yet"
    pipe.append(make_rows(400, start=70_000))
    assert pipe.night().status == "refused", "500 rows speak against it"
    assert pipe.head(name).version == 2
    assert pipe.night(exclude=3).status == "accepted"
    assert pipe.counts(name)["excluded"] == 1500


def test_a_poisoned_night_is_refused_and_read_again(trained: Pipe) -> None:
    """Flipped labels are refused; without new rows the verdict is repeated, with new ones all rows are read again."""
    pipe, cursors = trained, trained.head().cursors
    pipe.append(poison(1500, 50_000))
    result = pipe.night()
    assert (result.status, result.version) == ("refused", 3)
    assert reason(pipe.lineage().manifest(3)) == "forgetting"
    assert pipe.head().version == 2
    assert pipe.head().cursors == cursors
    for _ in range(4):
        again = pipe.night()
        assert (again.status, again.version) == ("refused", 3)
        assert again.verdict.startswith("no rows beyond version 3: refused for now: it is better")
    assert len(pipe.lineage().entries()) == 3, "a repeated verdict is no refusal, and learns nothing"
    pipe.append(make_rows(500, start=60_000))
    result = pipe.night()
    assert (result.status, result.rows.read) == ("refused", 2000)
    assert reason(pipe.lineage().manifest(4)) == "forgetting"
    kept: Any = pipe.lineage().manifest(4).night["gate"]
    assert kept["kept"]["n"] == 500, "the kept candidate was tried on all rows that it had not seen"
    assert kept["kept"]["mean"] > 0


def test_a_real_change_is_accepted_a_night_later(trained: Pipe) -> None:
    """A change of the world looks like poison on its first night, and is accepted once the next one confirms it."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    assert pipe.night().status == "refused"
    pipe.append(poison(400, 60_000))
    result = pipe.night()
    assert (result.status, result.version, result.rows.read) == ("accepted", 4, 1900)
    assert result.verdict.startswith("accepted: the change is real")
    assert pipe.head().parent == 2
    assert pipe.counts()["read"] == 4900


def test_three_refusals_name_the_ways_out(trained: Pipe) -> None:
    """The third refusal in a row says what a person can do, and every repetition of it too."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    said = []
    for i in range(3):
        said.append(pipe.night().verdict)
        pipe.append(make_rows(50, start=60_000 + 1000 * i))
    assert "--accept" not in said[0] + said[1]
    assert "refused 3 times in a row: look at the rows, then with --model linear either --accept" in said[2]
    assert said[2].endswith("or --exclude 3 to leave out the rows of the first refused night")


def test_a_person_may_accept_a_refused_night(trained: Pipe) -> None:
    """`--accept WHY` commits what the gate refuses, without new rows as well, and keeps the reason."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    pipe.night()
    result = pipe.night(accept="labels were swapped upstream")
    assert (result.status, result.version) == ("accepted", 4)
    assert result.verdict.startswith("accepted by hand (labels were swapped upstream), against the gate: ")
    assert pipe.night().status == "nothing"
    assert pipe.counts()["read"] == 4500


def test_an_excluded_night_is_left_out(trained: Pipe) -> None:
    """`--exclude V` counts the rows that V was the first to read as excluded, that night and ever after."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    pipe.night()
    good = make_rows(500, start=60_000)
    pipe.append(good)
    assert pipe.night().status == "refused"
    result = pipe.night(exclude=3)
    assert (result.status, result.rows.excluded) == ("accepted", 1500)
    assert (result.rows.read, result.rows.learned + result.rows.held_out) == (2000, 500)
    assert pipe.head().excluded == [3]
    pipe.append([*poison(1500, 50_000)[:100], *good[:10], *make_rows(50, start=70_000)])
    rows = pipe.night().rows
    assert (rows.excluded, rows.duplicate, rows.read) == (100, 10, 160)
    assert pipe.head().excluded == [3]
    with pytest.raises(UsageError, match="has learned version 5's rows"):
        pipe.night(exclude=5)


def test_an_exclusion_outlives_its_version(trained: Pipe) -> None:
    """The excluded keys travel with the lineage, so that nothing of the excluded version is needed any more."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    pipe.night()
    pipe.append(make_rows(200, start=60_000))
    refused = pipe.night(exclude=3)
    assert refused.rows.excluded == 1500
    manifest = pipe.lineage().manifest(3)
    for name in manifest.files:
        (pipe.lineage().path(3) / name).unlink()
    pipe.lineage().segments.file(manifest.segments[0]).unlink()
    pipe.append([*poison(1500, 50_000)[:100], *make_rows(50, start=70_000)])
    assert pipe.night().rows.excluded == 100


def test_only_the_rows_first_read_are_excluded(trained: Pipe) -> None:
    """A refused version that also read an older refused night's rows names its own rows only."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    pipe.night()
    pipe.append(poison(100, 60_000))
    assert pipe.night().status == "refused"
    pipe.append(make_rows(10, start=70_000))
    assert pipe.night(exclude=4).rows.excluded == 100


def test_an_exclusion_repeats_no_verdict_twice(trained: Pipe) -> None:
    """Asking again for what is excluded already, with nothing new, repeats the verdict and learns nothing."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    pipe.night()
    pipe.append(poison(1000, 60_000))
    first = pipe.night(exclude=3)
    assert (first.status, first.rows.excluded) == ("refused", 1500)
    n = len(pipe.lineage().entries())
    assert pipe.night(exclude=3).status == "refused"
    assert len(pipe.lineage().entries()) == n


def test_nights_of_rows(pipe: Pipe) -> None:
    """A long history of a file and a table is learned in nights of N rows of each, to the end."""
    pipe.config = CONFIG + '[[sources]]\nurl = "sqlite:///b.db"\ntable = "t"\n'
    pipe.append(make_rows(100))
    pipe.insert(make_rows(70, start=1000))
    done = pipe.backfill(Cut(n_rows=40))
    assert [(result.status, result.rows.read) for result in done] == [
        ("accepted", 80),
        ("accepted", 70),
        ("accepted", 20),
        ("nothing", 0),
    ]
    assert pipe.counts()["read"] == 170


def test_a_backfill_goes_on_where_it_was_cut_off(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill that dies after some nights goes on behind the last one that was committed, to the same bits."""
    twin = Pipe(pipe.root / "twin")
    twin.root.mkdir()
    for each in (pipe, twin):
        each.append(make_rows(200))
    run, n_runs = nightly.run, 0

    def runs_twice(*arguments: Any) -> Any:  # noqa: ANN401
        nonlocal n_runs
        n_runs += 1
        if n_runs == 3:
            raise KeyboardInterrupt
        return run(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(nightly, "run", runs_twice)
        with pytest.raises(KeyboardInterrupt):
            pipe.backfill(Cut(n_rows=50))
    assert pipe.head().version == 2
    assert [result.rows.read for result in pipe.backfill(Cut(n_rows=50))] == [50, 50, 0]
    twin.backfill(Cut(n_rows=50))
    assert pipe.weights() == twin.weights()


def test_nights_of_time(pipe: Pipe) -> None:
    """With a column of times, nights end with its days, in step over several sources."""
    pipe.config = CONFIG + '[[sources]]\nurl = "sqlite:///b.db"\ntable = "t"\n[schema]\ndrop = ["at"]\n'
    for i in range(4):
        rows = make_rows(20 + i, start=100 * i, at=f"2026-11-0{i + 1} 10:00:00")
        pipe.append(rows[:15])
        pipe.insert(rows[15:])
    reads = [result.rows.read for result in pipe.backfill(Cut(column="at"))]
    assert reads == [20, 21, 22, 23, 0]


def test_a_refused_night_joins_the_next(pipe: Pipe) -> None:
    """In a backfill the rows of a refused night come again with the next night's, and are accounted for once."""
    pipe.config = GATED
    for rows in (make_rows(1500), make_rows(1500, start=5000), poison(1500, 10_000), poison(1500, 15_000)):
        pipe.append(rows)
    done = pipe.backfill(Cut(n_rows=1500))
    assert [(result.status, result.rows.read) for result in done] == [
        ("accepted", 1500),
        ("accepted", 1500),
        ("refused", 1500),
        ("accepted", 3000),
        ("nothing", 0),
    ]
    assert pipe.counts()["read"] == 6000
    assert len(pipe.keys()) == len(set(pipe.keys())) == 6000


def test_three_refusals_end_a_backfill(pipe: Pipe) -> None:
    """After three refusals in a row a backfill ends and says the ways out; started again, it ends after one more."""
    for rows in (make_rows(1500), make_rows(1500, start=5000), poison(1500, 10_000), make_rows(6000, start=20_000)):
        pipe.append(rows)
    done = pipe.backfill(Cut(n_rows=1500))
    assert [result.status for result in done] == ["accepted", "accepted", "refused", "refused", "refused"]
    assert [result.rows.read for result in done] == [1500, 1500, 1500, 3000, 4500]
    assert "refused 3 times in a row" in done[-1].verdict
    assert [result.status for result in pipe.backfill(Cut(n_rows=1500))] == ["refused"]


def test_a_bad_source_is_told_before_anything(pipe: Pipe) -> None:
    """A file that is not there ends the run with 65; nothing was learned, and what was staged is cleared next time."""
    with pytest.raises(DataError, match=r"a\.csv is not there"):
        pipe.night()
    pipe.append(make_rows(10))
    assert pipe.night().status == "accepted"


def test_a_source_that_is_read_twice_is_counted_once(pipe: Pipe) -> None:
    """Reading a source for its periods, as nights of time need, stages nothing twice."""
    pipe.append(make_rows(10, at="2026-11-01"))
    source = FileSource(name="a.csv", path="a.csv", root=pipe.root)
    assert sum(len(chunk.rows) for chunk in source.read(None, lambda _: None)) == 10
    assert pipe.backfill(Cut(column="at"))[0].rows.read == 10


def exported(pipe: Pipe, rows: list[dict[str, Any]]) -> None:
    """Overwrite the file, as a nightly export does."""
    (pipe.root / "a.csv").unlink(missing_ok=True)
    pipe.append(rows)


def test_a_new_column_makes_no_new_rows(pipe: Pipe) -> None:
    """A full export that has one more column holds the same rows: duplicates, tonight and on later nights."""
    rows = make_rows(60)
    exported(pipe, rows)
    pipe.night()
    wider = [{**row, "z": i} for i, row in enumerate([*rows, *make_rows(20, start=100)])]
    for n_new in (20, 30):
        exported(pipe, wider[::-1] if n_new == 20 else wider)
        counts = pipe.night().rows
        assert (counts.rejected, counts.duplicate, counts.learned + counts.held_out) == (0, len(wider) - n_new, n_new)
        wider += [{**row, "z": 7} for row in make_rows(30, start=200)]


def test_a_column_that_is_dropped_makes_no_new_rows(pipe: Pipe) -> None:
    """A row whose column is dropped from the config since is the same row."""
    rows = make_rows(60)
    exported(pipe, rows)
    pipe.night()
    pipe.config += '[schema]\ndrop = ["c"]\n'
    exported(pipe, [*make_rows(20, start=100), *rows])
    counts = pipe.night().rows
    assert (counts.rejected, counts.duplicate, counts.learned + counts.held_out) == (0, 60, 20)


def test_a_value_that_is_its_columns_name_is_a_value(pipe: Pipe) -> None:
    """A cell that was empty and now holds its column's own name is another value: a conflict, not a duplicate."""
    rows = make_rows(60)
    exported(pipe, [{**row, "c": "" if row["id"] == 5 else row["c"]} for row in rows])
    pipe.night()
    exported(pipe, [{**row, "c": "c" if row["id"] == 5 else row["c"]} for row in rows])
    counts = pipe.night().rows
    assert (counts.rejected, counts.duplicate) == (1, 59)


def test_spelling_makes_no_new_class(pipe: Pipe) -> None:
    """Labels and categories that come back as 1.0, as pandas writes them beside a null, are those of before."""
    pipe.append([{**row, "c": row["id"] % 3} for row in make_rows(60)])
    pipe.night()
    pipe.append([{**row, "c": f"{row['id'] % 3}.0", "y": f"{row['y']}.0"} for row in make_rows(60, start=100)])
    assert pipe.night().rows.rejected == 0
    state: Any = pipe.head().state
    assert state["schema"]["classes"] == ["0", "1"]


def test_a_changed_setting_asks_the_gate_again(trained: Pipe) -> None:
    """A verdict is repeated without learning only while the model's options and the gate's are the same."""
    pipe = trained
    pipe.append(poison(1500, 50_000))
    assert pipe.night().status == "refused"
    n = len(pipe.lineage().entries())
    assert (pipe.night().status, len(pipe.lineage().entries())) == ("refused", n)
    pipe.config += "[gate]\nmargin = 1000.0\nforgetting_margin = 1000.0\n"
    assert (pipe.night().status, len(pipe.lineage().entries())) == ("accepted", n + 1)


def test_a_gap_that_was_skipped_is_behind(pipe: Pipe) -> None:
    """A cursor that was moved over a gap is committed although no row came: what comes next is read, and only that."""
    source = 'url = "sqlite:///b.db"\ntable = "t"\non_gap = "skip"'
    pipe.config = CONFIG.replace('url = "a.csv"', source)
    pipe.insert(make_rows(100))
    pipe.night()
    with sqlite3.connect(pipe.root / "b.db") as connection:
        connection.execute("delete from t where id >= 50")  # restored from an older backup
    connection.close()
    skipped = pipe.night()
    assert (skipped.status, skipped.version, skipped.rows.read) == ("accepted", 2, 0)
    assert pipe.night().status == "nothing"
    pipe.insert(make_rows(10, start=200))
    assert pipe.night().rows.read == 10
