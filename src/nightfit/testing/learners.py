"""The contract of a learner, as a check; and what drives a learner in a test: models, schemas, nights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightfit.batch import Array, Rows
    from nightfit.learners.base import Arrays, Learner
    from nightfit.model import Model
    from nightfit.normaliser import Normaliser
    from nightfit.schema import Schema, Task


def check_learner(make: Callable[[Normaliser], Learner], *, task: Task = "classification", seed: int = 0) -> None:
    """Check that a learner keeps the contract of `nightfit.learners.base.Learner`, on the CPU.

    `make(normaliser)` gives a learner for the task that has learned nothing, the same each time. `seed` chooses the
    rows. Raises `AssertionError` that states the rule which was broken.
    """
    for n_num, n_cat in ((3, 2), (3, 0), (0, 2), (0, 0)):
        schema = schema_of(n_num, n_cat, n_categories=4, n_classes=3, task=task)
        _check_resume(make, schema, seed)
        _check_odd_nights(make, schema, seed)
    _check_progress(make, task, seed)
    _check_forgetting(make, schema_of(3, 2, n_categories=4, n_classes=3, task=task), seed)
    for n_classes in (1, 2, 3) if task == "classification" else (0,):
        for declared in (False, True) if n_classes else (False,):
            _check_growth_of_learner(make, n_classes, seed, declared=declared)


def model_of(make: Callable[[Normaliser], Learner], task: Task = "classification") -> Model:
    """Return a model around a learner, which is how nightfit drives one."""
    from nightfit.memory import Memory
    from nightfit.model import Model
    from nightfit.normaliser import Normaliser
    from nightfit.schema import Schema

    normaliser = Normaliser(0)
    return Model("plugin", Schema(task=task), normaliser, make(normaliser), Memory(100))


def saved_and_loaded(model: Model, make: Callable[[Normaliser], Learner]) -> Model:
    """Return the model as it comes back from a checkpoint."""
    from nightfit.checkpoint import pack, unpack
    from nightfit.model import Model

    state, files = model.state()
    kept = json.loads(json.dumps(state, allow_nan=False))
    arrays = {name: unpack(pack(of_file)) for name, of_file in files.items()}
    return Model.restore(kept, arrays, lambda normaliser, _task: make(normaliser))


def schema_of(n_num: int, n_cat: int, *, n_categories: int, n_classes: int, task: Task = "classification") -> Schema:
    """Return a schema of numeric columns n0.., categorical columns c0.. and, unless it is a quantity, classes."""
    from nightfit.schema import Schema

    schema = Schema(task=task).with_columns({f"n{i}": "numeric" for i in range(n_num)})
    schema = schema.with_columns({f"c{i}": "categorical" for i in range(n_cat)})
    words = [f"w{i}" for i in range(n_categories)]
    schema = schema.with_categories({f"c{i}": words for i in range(n_cat)})
    return schema if task == "regression" else schema.with_classes(_labels(n_classes))


def random_night(schema: Schema, n: int, seed: int, *, classes: int | None = None) -> Rows:
    """Return n rows of the first `classes` classes, missing and unseen values among them; numbers tell a little.

    A quantity takes as many different values, and noise.
    """
    import numpy as np

    from nightfit.batch import Batch, Rows

    random = np.random.default_rng(seed)
    sizes = schema.sizes
    y = random.integers(0, classes or (3 if schema.task == "regression" else max(sizes.n_outputs, 1)), n)
    x_num = random.normal(size=(n, sizes.d_num)) + y[:, None]
    x_num[random.random(x_num.shape) < 0.1] = np.nan  # noqa: PLR2004 - a tenth is missing
    ids = [[c.missing_id, c.unseen_id, *c.categories.values()] for c in schema.categorical]
    x_cat = np.stack([random.choice(of_column, n) for of_column in ids], 1) if ids else np.zeros((n, 0))
    key_hash = random.integers(0, 2**63, n).astype(np.uint64)
    target = 1000 + 50 * y + random.normal(size=n) if schema.task == "regression" else y
    return Rows([Batch(key_hash, x_num, x_cat.astype(np.int32), target)])


def _labels(n: int) -> list[str]:
    """Name n classes; a later one sorts before those that are known."""
    return [f"{1000 - i}" for i in range(n)]


def _night(model: Model, rows: Rows) -> Array:
    """Do to a model what a night does, and return what it predicted before it learned."""
    predicted = model.predict_rows(rows)
    _check_predicted(predicted, len(rows), model.schema)
    model.learner.observe(rows)
    model.learn(rows, seed=7)
    _check_predicted(model.predict_rows(rows), len(rows), model.schema)
    return predicted


def _check_predicted(predicted: Array, n: int, schema: Schema) -> None:
    import numpy as np

    if schema.task == "classification":
        _check_proba(predicted, n, len(schema.classes))
        return
    assert predicted.shape == (n,), f"values of a quantity must be [n], however they are {predicted.shape}"
    assert predicted.dtype == np.float64, "values of a quantity must be float64"
    assert np.isfinite(predicted).all(), "values of a quantity must be finite"


def _check_proba(proba: Array, n: int, n_classes: int) -> None:
    import numpy as np

    assert proba.shape == (n, n_classes), f"probabilities must be [n, K], however they are {proba.shape}"
    assert proba.dtype == np.float64, "probabilities must be float64"
    assert np.isfinite(proba).all(), "probabilities must be finite"
    assert (proba >= 0).all(), "probabilities must not be negative"
    assert n_classes == 0 or np.allclose(proba.sum(1), 1, atol=1e-9), "probabilities of a row must sum to 1"


def _arrays(model: Model) -> Arrays:
    return {f"{file}/{name}": a for file, arrays in model.state()[1].items() for name, a in arrays.items()}


def _assert_same(one: Model, other: Model, why: str) -> None:
    import numpy as np

    a, b = _arrays(one), _arrays(other)
    assert a.keys() == b.keys(), f"{why}, however the arrays are {sorted(a)} and {sorted(b)}"
    differ = [name for name in a if a[name].dtype != b[name].dtype or not np.array_equal(a[name], b[name], True)]
    assert not differ, f"{why}, however {', '.join(differ)} differ"
    assert one.state()[0]["learner"] == other.state()[0]["learner"], f"{why}, however their JSON differs"


def _check_resume(make: Callable[[Normaliser], Learner], schema: Schema, seed: int) -> None:
    """Check that a break between nights changes no bit, and that the same seed gives the same bits."""
    import numpy as np

    straight, twin, broken = (model_of(make, schema.task) for _ in range(3))
    for night in range(4):
        tonight = schema if night > 1 else replace(schema, classes=schema.classes[:2])
        for model in (straight, twin, broken):
            model.grow(tonight)
        rows = random_night(tonight, 150, seed + night)
        kept = _arrays(straight)
        copies = {name: a.copy() for name, a in kept.items()}
        proba = _night(straight, rows)
        unchanged = all(np.array_equal(kept[name], copies[name], True) for name in kept)
        assert unchanged, "state() must be a snapshot, however learning changed what it had returned"
        _night(twin, rows)
        assert np.array_equal(_night(broken, rows), proba), "a break between nights must not change what is predicted"
        _assert_same(straight, twin, "the same rows and seed must give the same bits")
        broken = saved_and_loaded(broken, make)
        _assert_same(straight, broken, "resuming must give the same bits as the run without a break")
        assert np.array_equal(straight.predict_rows(rows), broken.predict_rows(rows)), "loading must keep predictions"


def _check_odd_nights(make: Callable[[Normaliser], Learner], schema: Schema, seed: int) -> None:
    """Check nights of no row, of one row, of one class, with a missing, a constant, an enormous column."""
    import numpy as np

    from nightfit.batch import Rows

    model = model_of(make, schema.task)
    model.grow(schema)
    for i, (n, classes) in enumerate([(0, 1), (1, 1), (40, 1), (120, 3), (0, 3), (1, 3), (120, 1), (120, 3)]):
        _night(model, random_night(schema, n, seed + i, classes=classes))
    for value in (np.nan, 5.0, 1e100, -1e100):
        (block,) = random_night(schema, 120, seed + 99).chunks()
        block.x_num[:] = value
        _night(model, Rows([block]))
        model = saved_and_loaded(model, make)
    assert not model.ailment(), "what a learner keeps must be finite, and of a size that makes sense"


def _check_forgetting(make: Callable[[Normaliser], Learner], schema: Schema, seed: int) -> None:
    """Check that a key which is to be forgotten is in no array, and that this changes no prediction."""
    import numpy as np

    model = model_of(make, schema.task)
    model.grow(schema)
    nights = [random_night(schema, 200, seed + night) for night in range(3)]
    for rows in nights:
        _night(model, rows)
    keys = np.concatenate([block.key_hash[::3] for rows in nights for block in rows.chunks()])
    before = model.predict_rows(nights[0])
    model.learner.forget(keys)
    held = [a for a in _arrays(model).values() if a.dtype == np.uint64]
    assert not any(np.isin(a, keys).any() for a in held), "forgotten keys must be in no array"
    memory = model.learner.memory()
    assert memory is None or not np.isin(memory.key_hash, keys).any(), "forgotten rows must not be replayed"
    assert memory is None or len(np.unique(memory.key_hash)) == len(memory), "memory() must hold each row once"
    assert model.learner.forget(keys) == 0, "what is forgotten cannot be forgotten again"
    assert np.array_equal(model.predict_rows(nights[0]), before), "forgetting rows must not change predictions"
    _night(model, random_night(schema, 200, seed + 9))


def _check_progress(make: Callable[[Normaliser], Learner], task: Task, seed: int) -> None:
    """Check that learning goes on from where it was: nights lower the loss, and one row more does not undo them."""
    import numpy as np

    from nightfit.metrics import row_hits, row_losses

    schema = schema_of(4, 1, n_categories=3, n_classes=3, task=task)
    model = model_of(make, task)
    test = random_night(schema, 1000, seed + 1000)

    def loss() -> float:
        answers = model.predict_rows(test)
        return float(np.mean(~row_hits(answers, test.y) if model.learner.votes else row_losses(answers, test.y)))

    model.grow(schema)
    for night in range(8):
        _night(model, random_night(schema, 400, seed + night))
    of_classes = 2 / 3 if model.learner.votes else np.log(3)
    trained, chance = loss(), float(of_classes if task == "classification" else np.var(test.y))
    assert trained < 0.9 * chance, f"nights must lower the loss, however it is {trained:.3f}"
    _night(model, random_night(schema, 1, seed + 2000))
    assert loss() < 0.75 * trained + 0.25 * chance, "learning must go on from where it was, never start again"


def _check_growth_of_learner(
    make: Callable[[Normaliser], Learner], n_classes: int, seed: int, *, declared: bool
) -> None:
    """Check that columns, categories and classes that are appended change no prediction on old rows."""
    import numpy as np

    task: Task = "classification" if n_classes else "regression"
    model = model_of(make, task)
    schema = schema_of(2, 1, n_categories=2, n_classes=n_classes, task=task)
    if declared:
        model.declare(schema.classes)
        schema = model.schema.with_columns({c.name: c.kind for c in schema.columns})
    model.grow(schema)
    for night in range(4):
        rows = random_night(schema, 120, seed + night)
        _night(model, rows)
        before = model.predict_rows(rows)
        schema = schema.with_columns({f"n-{night}": "numeric", f"c-{night}": "categorical"})
        schema = schema.with_categories({c.name: [f"new-{night}", "other"] for c in schema.categorical})
        if n_classes:
            schema = schema.with_classes(_labels(n_classes + night // 2 + 1))
        model.grow(schema)
        after = model.predict_rows(widened(rows, schema))
        if not n_classes:
            assert np.allclose(after, before, rtol=1e-6, atol=0), "growth must not change predictions on old rows"
            continue
        n_old = before.shape[1]
        assert np.abs(after[:, :n_old] - before).max() <= 1e-6, "growth must not change predictions on old rows"  # noqa: PLR2004
        assert (after[:, n_old:] == 0).all(), "a class that was never learned must have no share"


def widened(rows: Rows, schema: Schema) -> Rows:
    """Return the rows as a schema that has grown since would encode them: what they lack is missing."""
    from nightfit.batch import Rows
    from nightfit.memory import Memory

    blocks = []
    for block in rows.chunks():
        memory = Memory(len(block), block)
        memory.grow(schema.sizes.d_num, schema.new_cat_ids)
        blocks.append(memory.batch)
    return Rows(blocks)
