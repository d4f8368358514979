"""Write the golden folders of a format: what this nightfit keeps on disk, and what it answered.

A folder that is there stays as it is, for ever: tests/test_golden.py holds every later nightfit to reading it. Run this
once for a new format (`checkpoint.FORMAT`, `face.FORMAT`), before anything of that format is released:

    python scripts/make_golden.py
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from nightfit import IncrementalMLPClassifier, IncrementalMLPRegressor, checkpoint, face

TESTS = Path(__file__).resolve().parents[1] / "tests"
N_ROWS, N_NIGHTS = 60, 3

HEAD = """target = "y"
key = "id"
holdout = 0.2
label_wait = "5000w" # the rows that wait must do so for as long as this folder is read
[store]
path = "store"
keep = 1
[schema]
missing = ["", "-999"]
[[sources]]
url = "data.csv"
[models.deep]
d_hidden = 4
n_blocks = 1
d_embedding = 2
n_frequencies = 2
memory_rows = 40
[models.linear]
[models.chain]
estimator = "pca+sgd"
options = { pca = { n_components = 2 } }
"""
CLASSES = """[models.gnb]
[models.net] # of tests/own_models.py
module = "own_models:make"
options = { d_hidden = 4 }
[models.means]
estimator = "own_models:Means"
"""


def main() -> int:
    """Write what is missing; return 1 where nothing is."""
    wanted = {"checkpoint": (checkpoint.FORMAT, make_stores), "estimator": (face.FORMAT, make_estimators)}
    made = [write(f"{kind}-{number}", make) for kind, (number, make) in wanted.items()]
    return 0 if any(made) else 1


def write(name: str, make: Callable[[Path], None]) -> bool:
    """Make a folder that is not there yet; say what was done."""
    folder = TESTS / "golden" / name
    if folder.exists():
        print(f"a golden folder is written once, however {name} is there; raise the format first")
        return False
    folder.mkdir(parents=True)
    make(folder)
    print(f"wrote {name}: {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()):,} bytes")
    return True


def make_stores(folder: Path) -> None:
    """Write a pipeline of classes and one of a quantity, three nights each, and what every model answers afterwards.

    Their versions are of all sorts: pruned, one that forgot a row and, of `linear`, one that skipped rows.
    """
    for name, models in (("classes", CLASSES), ("quantity", "")):
        home = folder / name
        home.mkdir()
        (home / "nightfit.toml").write_text(f'name = "{name}"\n{HEAD}{models}', encoding="utf-8")
        for night in range(N_NIGHTS):
            append(home / "data.csv", rows(night, name))
            nightfit(home, "train", "--device", "cpu")
            if night == 1:
                nightfit(home, "rollback", "--skip-rows", "--model", "linear")
                nightfit(home, "forget", "7")
        append(home / "next.csv", rows(N_NIGHTS, name))
        for model in ("deep", "linear", "chain", *(("gnb", "net", "means") if models else ())):
            answers = str(home / f"answers-{model}.csv")
            nightfit(home, "predict", str(home / "next.csv"), "--model", model, "-o", answers)
        (home / "store" / name / ".lock").unlink(missing_ok=True)


def rows(night: int, name: str) -> pd.DataFrame:
    """Return a night's rows: a column of every kind, values and labels that are missing, a category that is new."""
    random = np.random.default_rng(night)
    price, n, colour = random.normal(size=N_ROWS).round(3), random.integers(0, 9, N_ROWS), random.integers(0, 3, N_ROWS)
    value = price + n / 4 + (colour == 1)
    level = np.select([value < 0.5, value < 1.5], ["low", "middle"], "high")  # noqa: PLR2004 - three classes
    at = np.datetime64("2026-01-01T00:00:00") + random.integers(0, 10**7, N_ROWS).astype("timedelta64[s]")
    table = pd.DataFrame(
        {
            "id": np.arange(N_ROWS) + night * N_ROWS,
            "price": price,
            "n": n,
            "colour": np.array(["red", "grün", f"new in night {night}"])[colour],
            "at": at,
            "fresh": np.where(random.random(N_ROWS) < 0.5, "true", "false"),  # noqa: PLR2004 - a fair coin
            "y": level if name == "classes" else value,
        }
    ).astype({"y": object, "n": object})
    table.loc[::10, "n"] = -999
    table.loc[::15, "price"] = np.nan
    table.loc[5::20, "y"] = np.nan
    return table


def append(path: Path, table: pd.DataFrame) -> None:
    """Append rows to a CSV file."""
    table.to_csv(path, mode="a", header=not path.exists(), index=False, lineterminator="\n")


def nightfit(home: Path, *typed: str) -> None:
    """Run a command on a pipeline, from the folder of its own models."""
    command = [sys.executable, "-m", "nightfit", *typed, "--config", str(home / "nightfit.toml")]
    subprocess.run(command, cwd=TESTS, check=True)


def make_estimators(folder: Path) -> None:
    """Write a classifier and a regressor as `save` does, the rows that they learned, and what they answer."""
    random = np.random.default_rng(0)
    x = pd.DataFrame(random.normal(size=(N_ROWS, 3)).round(3), columns=["a", "b", "c"])
    y = (x["a"] - x["b"]).round(3)
    classifier, regressor = (
        kind(d_hidden=4, n_blocks=1, n_frequencies=2, memory_rows=40, random_state=0, device="cpu")
        for kind in (IncrementalMLPClassifier, IncrementalMLPRegressor)
    )
    classifier.fit(x, np.where(y > 0, "up", "down")).save(folder / "classifier.safetensors")
    regressor.fit(x, y).save(folder / "regressor.safetensors")
    x.assign(y=y, up=classifier.predict_proba(x)[:, 1], value=regressor.predict(x)).to_csv(
        folder / "rows.csv", index=False, lineterminator="\n"
    )


if __name__ == "__main__":
    sys.exit(main())
