"""The config: TOML in, frozen dataclasses out, and every mistake named with the nearest legal word.

Each table's dataclass lives beside the code that it configures; this file only composes them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from nightfit.duration import seconds
from nightfit.errors import ConfigError
from nightfit.gate import GateConfig
from nightfit.learners.base import (
    ESTIMATORS,
    KINDS,
    REFERENCE,
    LearnerConfig,
    ModuleConfig,
    PartialFitConfig,
    is_estimator,
    reference,
)
from nightfit.names import NAME, is_import_path
from nightfit.notify.config import NotifyConfig
from nightfit.schema import TASKS, Rules, SchemaConfig
from nightfit.sources.base import SourceConfig
from nightfit.sources.make import kind_of
from nightfit.tracking.config import MlflowConfig

T = TypeVar("T")

_DEFAULT_KINDS = {"deep": "mlp", "linear": "partial_fit", **dict.fromkeys(ESTIMATORS, "partial_fit")}
_KINDS_BY_KEY = {"estimator": "partial_fit", "module": "module"}
_SEEDS = 2**32


@dataclass(frozen=True)
class ModelConfig:
    """One `[models.*]` table: the kind of learner, and its options."""

    kind: str
    learner: LearnerConfig


@dataclass(frozen=True)
class Config:
    """A whole config file. Relative paths are relative to `root`."""

    name: str
    rules: Rules
    sources: tuple[SourceConfig, ...]
    models: Mapping[str, ModelConfig]
    root: Path
    store: Path
    keep: int = 30
    seed: int = 0
    fresh_every: int = 30
    gate: GateConfig = field(default_factory=GateConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)


@dataclass(frozen=True)
class StoreConfig:
    """The `[store]` table; a text in its place is the path."""

    path: str = "checkpoints"
    keep: int = 30
    """Versions of each model whose tensors are kept; manifests are kept for ever."""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"keep must be at least 1, however it is {self.keep}")


@dataclass(frozen=True)
class _Top:
    """The keys that stand above the tables, as TOML spells them."""

    name: str
    target: str
    key: str | tuple[str, ...] = ()
    task: str = "auto"
    root: str = "."
    seed: int = 0
    holdout: float = 0.1
    key_scope: str = "pipeline"
    on_update: str = "reject"
    label_wait: str = "30d"
    pending_rows: int = 100_000
    fresh_every: int = 30

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 of a-z, 0-9, _ and -, however it is '{self.name}'; it names a folder"
            )
        if not self.target or self.target in _tuple(self.key):
            raise ValueError(f"target must be a column that is no key, however it is '{self.target}'")
        if self.task not in ("auto", *TASKS):
            raise ValueError(f"task must be 'auto', {' or '.join(map(repr, TASKS))}, however it is '{self.task}'")
        if not 0 <= self.seed < _SEEDS:
            raise ValueError(f"seed must lie between 0 and {_SEEDS - 1}, however it is {self.seed}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must lie between 0 and 1, however it is {self.holdout}")
        if self.key_scope not in {"pipeline", "source"}:
            raise ValueError(f"key_scope must be 'pipeline' or 'source', however it is '{self.key_scope}'")
        if self.on_update not in {"reject", "learn"}:
            raise ValueError(f"on_update must be 'reject' or 'learn', however it is '{self.on_update}'")
        if seconds(self.label_wait) is None:
            raise ValueError(f"label_wait must be a number and one of s, m, h, d, w, however it is '{self.label_wait}'")
        for name in (name for name in ("pending_rows", "fresh_every") if getattr(self, name) < 0):
            raise ValueError(f"{name} must be at least 0, however it is {getattr(self, name)}")


def load(path: Path) -> Config:
    """Read a config file.

    Raises `ConfigError` with the file's name for one that is not there, is not TOML, or says what makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"a config is needed, however {path} is not there; `nightfit init DATA --target COLUMN` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config must be a readable text file, however {path}: {error}") from None
    try:
        return parse(tomllib.loads(text), path.parent)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the config must be TOML, however {path}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(document: dict[str, Any], folder: Path) -> Config:
    """Compose a config from a TOML document; `folder` is what a relative root is relative to."""
    tables = {"store", "sources", "schema", "models", "gate", "notify", "mlflow"}
    top = build(_Top, {k: v for k, v in document.items() if k not in tables}, "", also=tables)
    kept = document.get("store", {})
    store = build(StoreConfig, {"path": kept} if isinstance(kept, str) else kept, "store.")
    root = (folder / top.root).resolve()
    sources = document.get("sources", [])
    if not isinstance(sources, list) or not sources:
        raise ConfigError("at least one [[sources]] table is needed, however there is none; add one with a url")
    built = tuple(_source(table, f"sources[{i}].") for i, table in enumerate(sources))
    names = [source.name for source in built]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise ConfigError(f"sources must have different names, however '{double}' stands twice; set name")
    schema = build(SchemaConfig, document.get("schema", {}), "schema.")
    for name in {top.target, *_tuple(top.key)} & set(schema.drop):
        raise ConfigError(
            f"schema.drop must leave the target and the key, however it names '{name}'; take it out there"
        )
    gate = build(GateConfig, document.get("gate", {}), "gate.")
    for name in {top.target, *_tuple(top.key), *schema.drop} & set(gate.slices):
        raise ConfigError(f"gate.slices must name features, however '{name}' is none; take it out there")
    return Config(
        name=top.name,
        rules=Rules(
            target=top.target,
            key=_tuple(top.key),
            task=None if top.task == "auto" else top.task,  # type: ignore[arg-type]
            schema=schema,
            not_features=frozenset(column for source in built for column in source.cursor_columns),
            holdout=top.holdout,
            key_scope=top.key_scope,
            on_update=top.on_update,
            label_wait=top.label_wait,
            label_wait_s=seconds(top.label_wait) or 0.0,
            pending_rows=top.pending_rows,
        ),
        sources=built,
        models=_models(document.get("models", {"deep": {}, "linear": {}})),
        root=root,
        store=root / store.path,
        keep=store.keep,
        seed=top.seed,
        fresh_every=top.fresh_every,
        gate=gate,
        notify=build(NotifyConfig, document.get("notify", {}), "notify."),
        mlflow=build(MlflowConfig, document.get("mlflow", {}), "mlflow."),
    )


def _source(table: Any, where: str) -> SourceConfig:  # noqa: ANN401 - what TOML holds
    """Build a source's table by the kind of its url, and name it after its place if it has no name."""
    url = table.get("url") if isinstance(table, dict) else None
    if not isinstance(url, str):
        return build(SourceConfig, table, where)  # says what is wrong
    if not url:
        raise ConfigError("a source's url must be a path or a URL, however one is empty")
    source = build(kind_of(url).config, table, where)
    return (
        source if source.name else replace(source, name="#".join(filter(None, (_without_password(url), source.part))))
    )


def _without_password(url: str) -> str:
    """Return the url without user, password and options: names end in manifests and messages."""
    kind, mark, rest = url.partition("://")
    if not mark or rest.startswith("/"):  # a path, also SQLite's, may hold an "@"
        return url.partition("?")[0] if mark else url
    return f"{kind}://{rest.rpartition('@')[2].partition('?')[0]}"


def _models(tables: Any) -> dict[str, ModelConfig]:  # noqa: ANN401 - what TOML holds
    if not isinstance(tables, dict) or not tables:
        raise ConfigError("[models] must hold at least one table, however it holds none; add [models.deep]")
    models = {}
    for name, table in tables.items():
        if not NAME.fullmatch(name):
            raise ConfigError(f"a model's name must be 1 to 64 of a-z, 0-9, _ and -, however one is '{name}'")
        if not isinstance(table, dict):
            raise ConfigError(f"models.{name} must be a table, however it is {table!r}; write [models.{name}]")
        options = dict(table)
        by_key = next((kind for key, kind in _KINDS_BY_KEY.items() if key in options), None)
        kind = options.pop("kind", by_key or _DEFAULT_KINDS.get(name))
        if not isinstance(kind, str) or kind not in KINDS:
            raise ConfigError(f"models.{name}.kind must be one of {', '.join(KINDS)}, however it is {kind!r}")
        if kind == "partial_fit" and name in ESTIMATORS:
            options = {"estimator": name, **options}
        models[name] = ModelConfig(kind, build(KINDS[kind], options, f"models.{name}."))
    return models


def short_named(name: str) -> ModelConfig | None:
    """Return the model that a name stands for where no table has it.

    That is an estimator with its defaults, a reference, or what an import path names. Raises `ConfigError` for a path
    that leads to no model.
    """
    if found := reference(name):
        return ModelConfig(REFERENCE, found)
    if is_import_path(name):
        from nightfit.learners.importing import is_estimator_class

        if is_estimator_class(name):
            return ModelConfig("partial_fit", PartialFitConfig(estimator=name))
        return ModelConfig("module", ModuleConfig(name))
    return ModelConfig("partial_fit", PartialFitConfig(estimator=name)) if is_estimator(name) else None


def build(cls: type[T], table: Any, where: str, *, also: set[str] | None = None) -> T:  # noqa: ANN401 - what TOML holds
    """Make a dataclass of a TOML table, with every key and every type checked.

    Raises `ConfigError` for an unknown key (naming the nearest legal one), a missing one, and a wrong type or value.
    """
    import msgspec

    if not isinstance(table, dict):
        raise ConfigError(f"{where.rstrip('.')} must be a table, however it is a {type(table).__name__}")
    legal = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in legal:
            raise ConfigError(f"unknown key '{where}{key}'{_nearest(key, [*legal, *(also or ())])}")
    for key, f in legal.items():
        if key not in table and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"'{where}{key}' is needed, however it is not there; add it")
    try:
        return msgspec.convert(table, cls)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        raise ConfigError(f"{where}{at.strip('.`')}: {what}".replace(".:", ":").lstrip(": ")) from None


def _nearest(key: str, legal: list[str]) -> str:
    near = get_close_matches(key, legal, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; the keys here are {', '.join(sorted(legal))}"


def _tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else value
