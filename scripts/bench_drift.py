"""Measure plasticity and forgetting on generated streams whose concepts change, and come back.

usage: bench_drift.py [--nights 1000] [--seeds 0,1,2] [--write docs/quality.md]

A concept is a random teacher: two classes by the sign of a sum of a linear and a pairwise function of 8 standard normal
numbers and 2 categories, with noise. A night has 300 rows, a concept lasts 20 nights.

Plasticity: after so many nights of changing concepts a new one begins; after 5 nights of it the log loss on 5,000 fresh
rows is compared with that of a learner that has seen nothing but these 5 nights.

Forgetting: a concept holds for 50 nights, others for 200, then it returns. How far is its first night, before anything
of it is learned again, from its old level (its last five nights)? Where the features tell which concept holds (in half
of the streams two numbers shift with it) a memory can bring it back at once; where they do not nothing can, but a
memory still hedges. Compared: the default learner, and `memory_rows = 0`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench_quality import table, write
from nightfit.batch import Array, Batch, Rows
from nightfit.learners.base import MlpConfig
from nightfit.metrics import row_losses
from nightfit.model import Model
from nightfit.schema import Schema

D_NUM, N_CATEGORIES, N_ROWS, LENGTH = 8, 6, 300, 20
TOLD = 2
"""Numbers that shift with the concept where the features tell which one holds."""


@dataclass(frozen=True)
class Concept:
    """A teacher, and where its rows lie."""

    linear: Array
    pairs: Array
    categories: Array
    centre: Array

    @classmethod
    def draw(cls, random: np.random.Generator, *, told: bool) -> Concept:
        """Draw a teacher."""
        centre = np.zeros(D_NUM)
        if told:
            centre[:TOLD] = 1.5 * random.normal(size=TOLD)
        pairs = random.normal(size=(D_NUM, D_NUM)) / D_NUM
        return cls(random.normal(size=D_NUM), pairs, random.normal(size=(2, N_CATEGORIES)), centre)

    def night(self, random: np.random.Generator, schema: Schema, n: int = N_ROWS) -> Rows:
        """Draw a night's rows."""
        x, codes = random.normal(size=(n, D_NUM)), random.integers(0, N_CATEGORIES, (n, 2))
        score = x @ self.linear + np.einsum("ni,ij,nj->n", x, self.pairs, x)
        score += self.categories[0, codes[:, 0]] + self.categories[1, codes[:, 1]]
        y = (score + random.logistic(size=n) * 0.5 > 0).astype(np.int64)
        ids = np.array([list(column.categories.values()) for column in schema.categorical])
        x_cat = np.stack([ids[0][codes[:, 0]], ids[1][codes[:, 1]]], 1).astype(np.int32)
        return Rows([Batch(random.integers(0, 2**63, n).astype(np.uint64), x + self.centre, x_cat, y)])


def a_schema() -> Schema:
    """Return what all rows look like."""
    schema = Schema().with_columns({f"n{i}": "numeric" for i in range(D_NUM)})
    schema = schema.with_columns({"c0": "categorical", "c1": "categorical"})
    words = [str(i) for i in range(N_CATEGORIES)]
    return schema.with_categories({"c0": words, "c1": words}).with_classes(["0", "1"])


def a_model(schema: Schema, seed: int, **options: int) -> Model:
    """Return a learner that has seen nothing."""
    model = Model.fresh("mlp", MlpConfig(**options), seed=seed)
    model.grow(schema)
    return model


def live(model: Model, rows: Rows) -> float:
    """Do to a model what a night does; return its log loss before it learned."""
    loss = model.tally(rows).mean_loss
    model.learner.observe(rows)
    model.learn(rows, seed=0)
    return loss


def plasticity(n_nights: int, seed: int, *, told: bool) -> tuple[float, float]:
    """Return the log loss on a new concept after 5 nights of it, relative to a fresh learner's, and what nights cost.

    The cost is the CPU time of the last 50 nights, relative to that of nights 51 to 100.
    """
    random, schema = np.random.default_rng((seed, told)), a_schema()
    old, fresh = a_model(schema, seed), a_model(schema, seed)
    seconds = []
    for i in range(n_nights):
        if i % LENGTH == 0:
            concept = Concept.draw(random, told=told)
        rows = concept.night(random, schema)
        started = time.process_time()
        live(old, rows)
        seconds.append(time.process_time() - started)
    concept = Concept.draw(random, told=told)
    for _ in range(5):
        rows = concept.night(random, schema)
        live(old, rows)
        live(fresh, rows)
    test = concept.night(random, schema, 5000)
    losses = [float(row_losses(model.predict_rows(test), test.y).mean()) for model in (old, fresh)]
    return losses[0] / losses[1], sum(seconds[-50:]) / sum(seconds[50:100])


def forgetting(seed: int, *, told: bool, memory_rows: int) -> tuple[float, float]:
    """Return a concept's old level, and its log loss on the night when it returns."""
    random, schema = np.random.default_rng((seed, told)), a_schema()
    model = a_model(schema, seed, memory_rows=memory_rows)
    first = Concept.draw(random, told=told)
    level = statistics.fmean([live(model, first.night(random, schema)) for _ in range(50)][-5:])
    for i in range(200):
        if i % LENGTH == 0:
            concept = Concept.draw(random, told=told)
        live(model, concept.night(random, schema))
    return level, live(model, first.night(random, schema))


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--write", type=Path)
    typed = parser.parse_args()
    seeds = [int(seed) for seed in typed.seeds.split(",")]
    rows = []
    for told, name in ((True, "features tell which concept holds"), (False, "they do not")):
        runs = [plasticity(typed.nights, seed, told=told) for seed in seeds]
        ratio, cost = (statistics.fmean(column) for column in zip(*runs, strict=True))
        found = {m: [forgetting(seed, told=told, memory_rows=m) for seed in seeds] for m in (20_000, 0)}
        level, with_memory = (statistics.fmean(column) for column in zip(*found[20_000], strict=True))
        level_without, without = (statistics.fmean(column) for column in zip(*found[0], strict=True))
        closer = 1 - (with_memory - level) / (without - level_without)
        rows.append([
            name, f"{ratio:.3f}", f"{cost:.2f}", f"{level:.3f} -> {with_memory:.3f}",
            f"{level_without:.3f} -> {without:.3f}", f"{closer:.0%}",
        ])  # fmt: skip
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    head = (
        "stream", f"new concept after {typed.nights:,} nights, relative to a fresh learner",
        "CPU of the last 50 nights, relative to nights 51 to 100",
        "a concept returns, old level -> first night", "the same without memory", "closer to its old level by",
    )  # fmt: skip
    text = table(head, rows)
    print(text, end="")
    if typed.write:
        write(typed.write, text, "bench_drift")


if __name__ == "__main__":
    main()
