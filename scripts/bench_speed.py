"""How fast nightfit learns, each figure beside a peer that is measured in the same run.

usage: bench_speed.py [loop] [peers] [night] [start] [growth] [--rounds 5] [--seconds 20] [--night-rows 1000000]
                      [--most-rows 1000000]

- `loop`: CPU seconds of the default deep learner's night beside those of the bare matrix products of its steps (all
  members, forward and backward, at the same shapes, in memory that is there already), by batch size: the floor.
- `peers`: rows a second through the default deep learner, replayed rows counted, and through one of a single network,
  beside one network of 64-64 by skorch (if it is installed), by scikit-learn's `MLPClassifier.partial_fit`, and by a
  plain PyTorch loop with a fused AdamW.
- `night`: `nightfit train`, deep and linear, on the second night from CSV, beside pandas.read_csv, StandardScaler and
  three epochs of `MLPClassifier.partial_fit` of the same batch size in a process of their own.
- `start`: `nightfit train` on a second night of 1,000 rows beside `python -c "import torch, sklearn.linear_model"`.
- `growth`: CPU seconds a row of learning, by rows of the night, numeric columns, and members of the ensemble.

One thread, 16 numbers and 4 categories unless it says otherwise; rounds are interleaved, medians compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench_predict import write_rows
from nightfit.batch import Array, Rows
from nightfit.learners.base import MlpConfig, PartialFitConfig
from nightfit.learners.mlp import n_frequencies
from nightfit.learners.replay import slices
from nightfit.learners.steps import Steps
from nightfit.model import Model
from nightfit.schema import Schema
from nightfit.scorer import groups
from nightfit.testing import random_night, schema_of

N_NUMBERS, N_CATEGORIES, N_VALUES, N_CLASSES = 16, 4, 10, 2
EPOCHS = 3
ONE = MlpConfig(n_members=1, n_frequencies=0, memory_rows=0)
"""As much like the peers' one network as the options make it; it has a linear model beside it all the same."""

Product = tuple[Callable[..., Any], torch.Tensor, torch.Tensor, torch.Tensor]


def interleaved(runs: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """Return the median of what each run returns, taken in turns."""
    times = [[run() for run in runs] for _ in range(rounds)]
    return [median(each) for each in zip(*times, strict=True)]


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def schema(d_num: int = N_NUMBERS, d_cat: int = N_CATEGORIES) -> Schema:
    """Return the schema of a generated stream."""
    return schema_of(d_num, d_cat, n_categories=N_VALUES, n_classes=N_CLASSES)


def warm(config: MlpConfig | PartialFitConfig, of: Schema, n_rows: int) -> Model:
    """Return a model that has learned a night."""
    kind = "mlp" if isinstance(config, MlpConfig) else "partial_fit"
    model = Model.fresh(kind, config)
    model.grow(of)
    model.learn(random_night(of, n_rows, 0), seed=0)
    return model


def counted(model: Model, night: Rows) -> list[Any]:
    """Let a model learn a night; return how many rows of each pool every step had."""
    steps, take = list[Any](), Steps.take

    def noting(self: Steps, mix: Any, kind: Any) -> None:  # noqa: ANN401
        steps.extend(counts.own for counts in mix.counts)
        take(self, mix, kind)

    Steps.take = noting  # type: ignore[method-assign]
    try:
        model.learn(night, seed=1)
    finally:
        Steps.take = take  # type: ignore[method-assign]
    return steps


def products(counts: Any, config: MlpConfig, d_num: int, d_cat: int) -> list[Product]:  # noqa: ANN401
    """Return the matrix products of a step: of each layer forward, of its weights and of its inputs backward."""
    h, d_dense = config.d_hidden, d_num + config.d_embedding * d_cat
    d_waves, found = 2 * n_frequencies(config, d_num) * d_num, list[Product]()

    def product(*shape: int) -> None:
        *many, n, inner, m = shape
        left, right, into = (torch.randn(*many, *of) for of in ((n, inner), (inner, m), (n, m)))
        found.append((torch.bmm if many else torch.mm, left, right, into))

    for group, rows in zip(groups(config.n_members), slices(counts, config.n_members), strict=True):
        m, n = len(group), rows.stop - rows.start
        for d_in, d_out in ((d_dense, m * h), (d_waves, h)):
            product(n, d_in, d_out)
            product(d_in, n, d_out)
        product(n, m * h, config.d_embedding * d_cat)
        for d_out in [h] * (config.n_blocks - 1) + [N_CLASSES]:
            product(m, n, h, d_out)
            product(m, h, n, d_out)
            product(m, n, d_out, h)
    return found


def loop(rounds: int, seconds: float) -> None:
    """Print what the steps of the default learner cost beside their products."""
    print("| batch | a night's CPU ms a step | bare products, ms | share of the floor |\n|---:|---:|---:|---:|")
    for batch_size in (256, 1_024):
        config, of = MlpConfig(batch_size=batch_size), schema()
        n_rows = 20 * batch_size
        model, night = warm(config, of, config.memory_rows), random_night(of, n_rows, 1)
        steps = counted(model, night)
        bare = products(steps[len(steps) // 2], config, N_NUMBERS, N_CATEGORIES)

        def multiply(bare: list[Product] = bare, n: int = len(steps)) -> None:
            for _ in range(n):
                for function, left, right, into in bare:
                    function(left, right, out=into)

        runs = [partial(cpu, partial(model.learn, night, seed=1)), partial(cpu, multiply)]
        once = sum(run() for run in runs)
        learned, floor = interleaved(runs, max(rounds, int(seconds / once)))
        ms = [1_000 * each / len(steps) for each in (learned, floor)]
        print(f"| {batch_size:,} | {ms[0]:.2f} | {ms[1]:.2f} | {floor / learned:.0%} |")


def peers(rounds: int, seconds: float) -> None:
    """Print rows a second through the default learner and through single networks of peers."""
    of, n_rows = schema(), 10_000
    night, rows, runs = random_night(of, n_rows, 1), dict[str, int](), dict[str, Callable[[], float]]()
    for name, config in (("nightfit, deep", MlpConfig()), ("nightfit, one network", ONE)):
        model = warm(config, of, MlpConfig.memory_rows)
        rows[name], runs[name] = sum(map(sum, counted(model, night))), partial(cpu, partial(model.learn, night, seed=1))
    random = np.random.default_rng(0)
    x = random.normal(size=(n_rows, N_NUMBERS + N_CATEGORIES * N_VALUES)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    for name, make in (("scikit-learn", of_scikit_learn), ("PyTorch, fused AdamW", plainly), ("skorch", of_skorch)):
        if fit := make(x, y):
            runs[name], rows[name] = partial(cpu, fit), EPOCHS * n_rows
    once = sum(run() for run in runs.values())
    medians = interleaved([*runs.values()], max(rounds, int(seconds / once)))
    print("| learner | rows a second | the default is | one network is |\n|---|---:|---:|---:|")
    speeds = {name: rows[name] / each for name, each in zip(runs, medians, strict=True)}
    deep, one, *_ = speeds.values()
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} | {deep / speed:.2f}x | {one / speed:.2f}x |")


def of_scikit_learn(x: Array, y: Array) -> Callable[[], None]:
    """Return three epochs of scikit-learn's network."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((64, 64), batch_size=256)

    def fit() -> None:
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=[0, 1])

    fit()
    return fit


def network(d_in: int) -> torch.nn.Sequential:
    """Return one network of 64-64."""
    nn = torch.nn
    return nn.Sequential(nn.Linear(d_in, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, N_CLASSES))


def plainly(x: Array, y: Array) -> Callable[[], None]:
    """Return three epochs of a plain loop over shuffled index slices."""
    net, xs, ys = network(x.shape[1]), torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, fused=True)

    def fit() -> None:
        for _ in range(EPOCHS):
            for index in torch.split(torch.randperm(len(xs)), 256):
                optimiser.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(net(xs[index]), ys[index])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()

    fit()
    return fit


def of_skorch(x: Array, y: Array) -> Callable[[], None] | None:
    """Return three epochs of skorch, if it is installed."""
    try:
        skorch = import_module("skorch")  # which is no dependency
    except ImportError:
        return None
    model = skorch.NeuralNetClassifier(
        network(x.shape[1]), criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=2e-3, batch_size=256,
        max_epochs=EPOCHS, train_split=None, verbose=0, iterator_train__shuffle=True, classes=[0, 1],
    )  # fmt: skip
    model.partial_fit(x, y)
    return partial(model.partial_fit, x, y)


CONFIG = 'name = "b"\ntarget = "bought"\nkey = "id"\n[[sources]]\nurl = "rows.csv"\n[models.deep]\n[models.linear]\n'

PEER = """
import pandas, numpy
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
rows = pandas.read_csv("second.csv")
y = (rows.pop("bought") == "yes").to_numpy()
x = pandas.get_dummies(rows.drop(columns="id")).to_numpy(numpy.float32)
x = StandardScaler().fit_transform(x)
model = MLPClassifier((64, 64), batch_size=256)
for _ in range(3):
    model.partial_fit(x, y, classes=[False, True])
"""


def wall(command: Sequence[str], folder: Path) -> float:
    """Return the seconds that a command takes by the clock."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def second_nights(folder: Path, n_rows: int, n_nights: int) -> Callable[[], float]:
    """Make a pipeline whose first night is learned; return what learns the next night of n rows, up to so many."""
    (folder / "nightfit.toml").write_text(CONFIG)
    for night in range(n_nights + 1):
        write_rows(folder / f"night{night}.csv", n_rows, night, first=night * n_rows)
    (folder / "second.csv").write_bytes((folder / "night1.csv").read_bytes())
    nights = iter(range(n_nights + 1))
    command = [sys.executable, "-m", "nightfit", "train", "--device", "cpu", "--config", "nightfit.toml"]

    def learn() -> float:
        night = next(nights)
        with (folder / "rows.csv").open("ab") as file:
            text = (folder / f"night{night}.csv").read_bytes()
            file.write(text if not night else text.partition(b"\n")[2])
        return wall(command, folder)

    learn()
    return learn


def night(rounds: int, n_rows: int) -> None:
    """Print what a second night takes, to the commit, beside what people would write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learn = second_nights(folder, n_rows, rounds)
        ours, theirs = interleaved([learn, partial(wall, [sys.executable, "-c", PEER], folder)], rounds)
        print(f"night 2 of {n_rows:,} rows: {ours:.1f} s; pandas and scikit-learn {theirs:.1f} s: {ours / theirs:.2f}x")


def start(rounds: int) -> None:
    """Print what a small night takes beside the imports that it needs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learn = second_nights(folder, 1_000, rounds)
        imports = partial(wall, [sys.executable, "-c", "import torch, sklearn.linear_model"], folder)
        ours, theirs = interleaved([learn, imports], rounds)
        print(f"night 2 of 1,000 rows: {ours:.2f} s; its imports {theirs:.2f} s: {ours / theirs:.2f}x")


def growth(most_rows: int) -> None:
    """Print how learning grows with rows, with columns and with members."""
    rows = [n for n in (10_000, 100_000, 1_000_000, 10_000_000) if n <= most_rows]
    members = MlpConfig.n_members
    cases = [(n, N_NUMBERS, members) for n in rows] + [(10_000, d, members) for d in (3, 100, 500)]
    print("| rows | columns | members | deep, us a row | linear, us a row |\n|---:|---:|---:|---:|---:|")
    for n_rows, d_num, n_members in [*cases, *((10_000, N_NUMBERS, m) for m in (1, 2, 4, 16))]:
        of = schema(d_num, 0)
        night, costs = random_night(of, n_rows, 1), list[str]()
        for config in (MlpConfig(n_members=n_members), PartialFitConfig()):
            model = warm(config, of, MlpConfig.memory_rows)
            costs.append(f"{1e6 * cpu(partial(model.learn, night, seed=1)) / n_rows:.1f}")
        print(f"| {n_rows:,} | {d_num} | {n_members} | {' | '.join(costs)} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["loop", "peers", "night", "start", "growth"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--night-rows", type=int, default=1_000_000)
    parser.add_argument("--most-rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    runs: dict[str, Callable[[], None]] = {
        "loop": partial(loop, asked.rounds, asked.seconds),
        "peers": partial(peers, asked.rounds, asked.seconds),
        "night": partial(night, asked.rounds, asked.night_rows),
        "start": partial(start, asked.rounds),
        "growth": partial(growth, asked.most_rows),
    }
    for what in asked.what:
        print(f"\n## {what}", flush=True)
        runs[what]()


if __name__ == "__main__":
    main()
