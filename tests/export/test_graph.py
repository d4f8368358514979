from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightfit.batch import Array, Batch, Rows
from nightfit.checkpoint import Draft, Manifest, RowCounts, pack, seal
from nightfit.disk import FileHash
from nightfit.errors import DataError
from nightfit.export.check import TOLERANCE, answers, check, encoded, opened
from nightfit.export.model import onnx_model
from nightfit.export.preprocessing import spellings
from nightfit.export.rows import edges, remembered
from nightfit.learners.base import KINDS, LearnerConfig, MlpConfig, PartialFitConfig
from nightfit.model import Model
from nightfit.schema import Schema, SchemaConfig, Task, time_features
from nightfit.values import LIMIT
from nightfit.version import load_scorer, parts_of

CONFIGS = [
    MlpConfig(d_hidden=16, n_epochs=1),
    MlpConfig(n_blocks=1, n_members=2, n_epochs=1),
    MlpConfig(d_hidden=8, n_blocks=3, n_frequencies=0, n_epochs=1),
    PartialFitConfig(),
]
LEARNERS = [CONFIGS[0], CONFIGS[-1]]
TASKS: tuple[Task, ...] = ("classification", "regression")

MISSING = SchemaConfig(missing=("", "NA", "-999"), drop=("gone", "gone too"))

Files = dict[str, bytes]


def every_kind(task: Task, labels: tuple[str, ...] = ("a", "b", "c")) -> Schema:
    """Give a schema with two columns of each kind, mixed, and two that the config has dropped since."""
    kinds: Any = {
        "gone": "numeric", "at": "datetime", "price": "numeric", "colour": "categorical", "fresh": "boolean",
        "until": "datetime", "size (cm)": "numeric", "größe": "categorical", "gone too": "categorical", "/x": "boolean",
    }  # fmt: skip
    words = {"colour": ["red", "5", "true", "a b"], "größe": ["groß", "-3", "x" * 200], "gone too": ["y"]}
    return Schema(task=task).with_columns(kinds).with_categories(words).with_classes(labels)


def night(schema: Schema, n: int, seed: int, n_classes: int = 3) -> Rows:
    """Give rows whose columns hold what their kind may hold, some of it missing or unseen."""
    random = np.random.default_rng(seed)
    y, numbers = random.integers(0, max(n_classes, 1), n), list[Array]()
    for column in schema.numeric:
        values = {
            "numeric": random.normal(size=n) * 5 + y,
            "boolean": (random.random(n) < 0.5).astype(float),
            "datetime": 1.6e9 + 3e8 * random.random(n),
        }[column.kind]
        values[random.random(n) < 0.1] = np.nan
        numbers += time_features(values) if column.kind == "datetime" else [values]
    ids = [random.choice([c.missing_id, c.unseen_id, *c.categories.values()], n) for c in schema.categorical]
    x_num = np.stack(numbers, 1) if numbers else np.zeros((n, 0))
    x_cat = np.stack(ids, 1).astype(np.int32) if ids else np.zeros((n, 0), np.int32)
    target = 1000.0 + 50 * y + random.normal(size=n) if schema.task == "regression" else y
    return Rows([Batch(random.integers(0, 2**63, n).astype(np.uint64), x_num, x_cat, target)])


def learned(config: LearnerConfig, schema: Schema, *, nights: int = 3, seed: int = 0, n_classes: int = 3) -> Model:
    """Give a model after some nights."""
    kind = next(kind for kind, of in KINDS.items() if isinstance(config, of))
    model = Model.fresh(kind, config, task=schema.task)
    model.grow(schema)
    for i in range(nights):
        rows = night(schema, 200, seed + i, n_classes)
        model.learner.observe(rows)
        model.learn(rows, seed=seed)
        for block in rows.chunks():
            model.holdout.add(block)
    return model


def version(model: Model) -> tuple[Manifest, Files]:
    """Give a model as a version: its manifest, and its files."""
    state, arrays = model.state()
    files = {f"{name}.safetensors": pack(of_file) for name, of_file in arrays.items()}
    draft = Draft(
        parent=None, status="accepted", created_at="2026-11-01T02:00:00+00:00", cursors={}, rows=RowCounts(),
        prequential={}, verdict="", night={}, state=state,
    )  # fmt: skip
    hashes = {name: FileHash("0" * 64, len(data)) for name, data in files.items()}
    return seal(draft, hashes, pipeline="shop", model="deep", version=7), files


def graph_of(model: Model, config: SchemaConfig = MISSING) -> tuple[bytes, Manifest, Files]:
    """Give a model's graph, and the version that it is of."""
    manifest, files = version(model)
    return onnx_model(manifest, files, config).SerializeToString(), manifest, files


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_column(config: LearnerConfig, task: Task) -> None:
    """Numbers, booleans, times and categories are encoded as nightfit does; dropped columns are missing."""
    graph, manifest, files = graph_of(learned(config, every_kind(task)))
    agreement = check(graph, manifest, files, MISSING)
    assert agreement.rows > 1_500
    assert agreement.difference <= TOLERANCE
    names = [given.name for given in opened(graph).get_inputs()]
    assert names == ["at", "price", "colour", "fresh", "until", "size (cm)", "größe", "/x"]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@settings(deadline=None, max_examples=15)
@given(
    kinds=st.lists(st.sampled_from(["numeric", "boolean", "datetime", "categorical"]), min_size=1, max_size=5),
    classes=st.tuples(st.integers(1, 4), st.integers(0, 2)),
    seed=st.integers(0, 1000),
    task=st.sampled_from(TASKS),
)
def test_any_schema(config: LearnerConfig, kinds: list[Any], classes: tuple[int, int], seed: int, task: Task) -> None:
    """Any columns, one class or more, classes that were declared or met and never learned, columns that came late."""
    n_classes, n_known = classes
    labels = [f"k{i}" for i in range(n_classes)]
    schema = Schema(task=task).with_columns({f"c{i}": kind for i, kind in enumerate(kinds)})
    schema = schema.with_categories({f"c{i}": ["x", "y"] for i in range(len(kinds))}).with_classes(labels)
    model = learned(config, schema, nights=2, seed=seed, n_classes=n_classes)
    model.grow(model.schema.with_columns({"late": "numeric", "later": "categorical"}).with_classes(["never"]))
    if n_known:
        model.declare([f"known{i}" for i in range(n_known)])
    graph, manifest, files = graph_of(model, SchemaConfig())
    assert check(graph, manifest, files, SchemaConfig()).difference <= TOLERANCE


@pytest.fixture(scope="module", params=LEARNERS, ids=["deep", "linear"])
def exported(request: pytest.FixtureRequest) -> tuple[bytes, Manifest, Files]:
    """Give the graph of a model with every kind of column."""
    return graph_of(learned(request.param, every_kind("classification")))


numbers = st.none() | st.floats(-LIMIT, LIMIT) | st.sampled_from([-999.0, 0.0, -0.0, 5e-324, 1e9 + 1])
truths = st.sampled_from([None, 0.0, 1.0])
times = st.none() | st.floats(-6.2e10, 2.5e11)
words = st.sampled_from(
    ["", "NA", "-999", "red", "5", "5.0", "True", "TRUE", "true", "a b", "violet", "Red", "x" * 200]
)
texts = words | st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), max_size=5)
A_ROW = {
    "at": times, "price": numbers, "colour": texts, "fresh": truths, "until": times, "size (cm)": numbers,
    "größe": texts, "/x": truths,
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.fixed_dictionaries(A_ROW), min_size=1, max_size=20))
def test_any_row(exported: tuple[bytes, Manifest, Files], rows: list[dict[str, Any]]) -> None:
    """Whatever a row holds (huge, tiny, missing by any spelling, never seen), the graph answers as nightfit."""
    graph, manifest, files = exported
    schema = Schema.from_json(manifest.state["schema"])  # type: ignore[arg-type]
    raw = {
        column.name: np.array(
            [row[column.name] for row in rows], object if column.kind == "categorical" else np.float64
        )
        for column in schema.columns
        if column.name in rows[0]
    }
    wanted = load_scorer(manifest, files).score(*encoded(schema, MISSING, raw))
    found = answers(opened(graph), raw)
    assert np.abs(found["probability"] - wanted).max() <= TOLERANCE
    assert found["prediction"].shape == (len(rows), 1)
    chosen = [schema.classes.index(label) for label in found["prediction"][:, 0]]
    assert (wanted[np.arange(len(rows)), chosen] >= wanted.max(1) - TOLERANCE).all()


def test_rows_without_limits(exported: tuple[bytes, Manifest, Files]) -> None:
    """Infinite numbers, which nightfit refuses, are answered as the largest that it takes; infinite times are none."""
    graph, _, _ = exported
    texts = {name: np.array(["red"] * 4, object) for name in ("colour", "größe")}
    rest = {name: np.full(4, 1.0) for name in ("fresh", "/x", "size (cm)", "until")}
    raw = {"price": np.array([np.inf, LIMIT, 1, 1]), "at": np.array([0, 0, np.inf, np.nan]), **texts, **rest}
    proba = answers(opened(graph), raw)["probability"]
    assert proba[[0, 2]] == pytest.approx(proba[[1, 3]], abs=1e-6)


@pytest.mark.parametrize("config", LEARNERS, ids=["deep", "linear"])
@pytest.mark.parametrize("task", TASKS)
def test_before_the_first_row_was_learned(config: LearnerConfig, task: Task) -> None:
    """A version that knows the classes alone answers with their prior, and of a quantity with its mean."""
    model = learned(config, every_kind(task), nights=0)
    if task == "classification":
        model.declare(["a", "b"])
    model.n_nights = 1
    graph, manifest, files = graph_of(model)
    assert check(graph, manifest, files, MISSING).difference == 0


def test_the_graph_says_what_it_is(exported: tuple[bytes, Manifest, Files]) -> None:
    """Version, model, pipeline, task, classes and kinds of columns are in it, where every runtime shows them."""
    graph, manifest, _ = exported
    session = opened(graph)
    meta = session.get_modelmeta()
    about: Mapping[str, str] = meta.custom_metadata_map
    assert meta.version == 7
    assert meta.producer_name == "nightfit"
    assert {name: about[name] for name in ("pipeline", "model", "model_version", "task", "created_at")} == {
        "pipeline": "shop", "model": "deep", "model_version": "7", "task": "classification",
        "created_at": manifest.created_at,
    }  # fmt: skip
    assert json.loads(about["classes"]) == ["a", "b", "c"]
    assert json.loads(about["columns"])["until"] == "datetime"
    shapes = {given.name: (given.type, given.shape) for given in session.get_inputs() + session.get_outputs()}
    assert shapes["at"] == ("tensor(double)", ["rows", 1])
    assert shapes["größe"] == ("tensor(string)", ["rows", 1])
    assert shapes["prediction"] == ("tensor(string)", ["rows", 1])
    assert shapes["probability"] == ("tensor(double)", ["rows", 3])


def test_only_standard_operators(exported: tuple[bytes, Manifest, Files]) -> None:
    """The graph is of opset 13 and IR 7, as the docs say, and passes the strict checker with its shapes."""
    import onnx

    model = onnx.load_from_string(exported[0])
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 7
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 13, "ai.onnx.ml": 2}
    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}


def test_equal_versions_give_equal_bytes() -> None:
    """An export depends on the version alone."""
    model = learned(PartialFitConfig(), every_kind("classification"))
    assert graph_of(model)[0] == graph_of(model)[0]


@pytest.mark.parametrize("config", LEARNERS, ids=["deep", "linear"])
@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_graph_is_found(config: LearnerConfig, task: Task) -> None:
    """A graph with any one constant or category moved does not pass."""
    import onnx
    from onnx import numpy_helper

    model = learned(config, every_kind(task))
    _, manifest, files = graph_of(model)
    whole = onnx_model(manifest, files, MISSING)
    moved = 0
    for i, constant in enumerate(whole.graph.initializer):
        array = numpy_helper.to_array(constant)
        if array.dtype.kind != "f" or np.isnan(array).any():  # a NaN that is moved is NaN
            continue
        if constant.name.endswith("of_learned_classes.1"):  # what all shares are multiplied by cancels
            continue
        wrong = onnx.ModelProto()
        wrong.CopyFrom(whole)
        wrong.graph.initializer[i].CopyFrom(numpy_helper.from_array(array * 1.1 + array.dtype.type(0.1), constant.name))
        moved += 1
        with pytest.raises(DataError, match=r"must answer as nightfit does.*nothing was written"):
            check(wrong.SerializeToString(), manifest, files, MISSING)
    assert moved > 10
    for i, node in enumerate(whole.graph.node):
        if node.op_type == "LabelEncoder":
            wrong = onnx.ModelProto()
            wrong.CopyFrom(whole)
            values = next(a for a in wrong.graph.node[i].attribute if a.name == "values_int64s")
            values.ints[:] = values.ints[1:] + values.ints[:1]
            with pytest.raises(DataError, match="must answer as nightfit does"):
                check(wrong.SerializeToString(), manifest, files, MISSING)


def test_swapped_labels_are_found() -> None:
    """A graph whose labels stand in another order does not pass, though its probabilities are right."""
    model = learned(PartialFitConfig(), every_kind("classification"))
    _, manifest, files = graph_of(model)
    wrong = onnx_model(manifest, files, MISSING)
    labels = next(c for c in wrong.graph.initializer if c.string_data)
    labels.string_data[:] = labels.string_data[::-1]
    with pytest.raises(DataError, match="must answer as nightfit does"):
        check(wrong.SerializeToString(), manifest, files, MISSING)


@pytest.mark.parametrize(
    ("kinds", "drop", "said"),
    [
        ({}, (), "reads no column"),
        ({"a": "numeric"}, ("a",), "reads no column"),
        ({"prediction": "numeric"}, (), "'prediction'"),
        ({"a": "numeric", "probability": "categorical"}, (), "'probability'"),
        ({"": "numeric"}, (), "called ''"),
    ],
)
def test_columns_that_cannot_be_inputs(kinds: dict[str, Any], drop: tuple[str, ...], said: str) -> None:
    """A graph without inputs, or with one that is named as an output, is refused with the reason."""
    model = learned(PartialFitConfig(), Schema().with_columns(kinds).with_classes(["a", "b"]), n_classes=2)
    manifest, files = version(model)
    with pytest.raises(DataError, match=said):
        onnx_model(manifest, files, SchemaConfig(drop=drop))


def test_what_it_is_tried_on() -> None:
    """The rows that a version remembers come back as they were, and every category of every column is tried."""
    schema = every_kind("classification")
    model = learned(MlpConfig(d_hidden=8, n_epochs=1), schema)
    manifest, files = version(model)
    assert len(remembered(schema, files)["price"]) > 600
    known = Schema.from_json(manifest.state["schema"])  # type: ignore[arg-type]
    kept = model.holdout.batch
    only = {"memory.safetensors": pack({f"holdout.{name}": a for name, a in model.holdout.arrays().items()})}
    x_num, x_cat = encoded(known, SchemaConfig(missing=MISSING.missing), remembered(schema, only))
    plain = [i for i, name in enumerate(schema.feature_names) if "week" not in name and "day" not in name]
    assert np.allclose(x_num[:, plain], kept.x_num[:, plain], atol=1e-9, equal_nan=True)
    assert (x_cat == kept.x_cat).all()
    edge = edges(schema, MISSING, parts_of(files)[0])
    for column in schema.columns:
        held = edge[column.name]
        assert {*column.categories} <= {*held.tolist()}
        first = held[0]
        assert first == "" if column.kind == "categorical" else math.isnan(first)
    assert (edge["price"][1], edge["price"][2]) == (LIMIT, -LIMIT)


def test_spellings() -> None:
    """Numbers and truth values among categories are known as pandas spells them, too."""
    assert spellings("5") == ["5", "5.0"]
    assert spellings("true") == ["true", "True", "TRUE"]
    assert spellings("5.5") == ["5.5"]
