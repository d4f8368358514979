"""The config: TOML in, frozen dataclasses out, and every mistake named with the nearest legal word.

Each table's dataclass lives beside the code that it configures; this file only composes them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

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
from nightfit.lines import Place, lines_of, nearest_line
from nightfit.names import NAME, is_import_path
from nightfit.notify.config import NotifyConfig
from nightfit.schema import Rules, SchemaConfig
from nightfit.sources.base import Dialect, SourceConfig
from nightfit.sources.configs import FileConfig
from nightfit.sources.make import kind_of
from nightfit.tables import build
from nightfit.toplevel import StoreConfig, TopConfig
from nightfit.tracking.config import MlflowConfig

DEFAULT_KINDS = {"deep": "mlp", "linear": "partial_fit", **dict.fromkeys(ESTIMATORS, "partial_fit")}
_KINDS_BY_KEY = {"estimator": "partial_fit", "module": "module"}


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

    @property
    def dialect(self) -> Dialect:
        """How the first source of files spells CSV, which is how other files are expected to."""
        return next((source.dialect for source in self.sources if isinstance(source, FileConfig)), Dialect())


TABLES: dict[str, type] = {
    "store": StoreConfig,
    "schema": SchemaConfig,
    "gate": GateConfig,
    "notify": NotifyConfig,
    "mlflow": MlflowConfig,
}
"""The tables that stand once, by their names; `[[sources]]` and `[models.*]` stand as often as they like."""

Tables: TypeAlias = dict[Place, Any]
"""Every table of a document, as the dataclass that it became, by its place; () is what stands above the tables."""


def load(path: Path) -> Config:
    """Read a config file.

    Raises `ConfigError` with the file's name, and the line, for one that is not there, is not TOML, or makes no sense.
    """
    text = text_of(path)
    with naming(path, text):
        return parse(tomllib.loads(text), path.parent)


def text_of(path: Path) -> str:
    """Read a config file's text; raises `ConfigError` where that cannot be."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"a config is needed, however {path} is not there; `nightfit init DATA --target COLUMN` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config must be a readable text file, however {path}: {error}") from None


@contextmanager
def naming(path: Path, text: str) -> Iterator[None]:
    """Put the file, and the line if it is known, before what is wrong with its text."""
    try:
        yield
    except tomllib.TOMLDecodeError as error:
        what, at_line, rest = str(error).partition(" (at line ")
        line = int(rest.partition(",")[0]) if at_line else text.rstrip("\n").count("\n") + 1
        raise ConfigError(f"{path}, line {line}: the config must be TOML, however: {what}; mend that line") from None
    except ConfigError as error:
        line = nearest_line(lines_of(text), error.at) if error.at else 0
        raise ConfigError(f"{path}{f', line {line}' if line else ''}: {error}", error.at) from None


def parse(document: dict[str, Any], folder: Path) -> Config:
    """Compose a config from a TOML document; `folder` is what a relative root is relative to."""
    tables = tables_of(document)
    top, store, schema, gate = tables[()], tables["store",], tables["schema",], tables["gate",]
    root = (folder / top.root).resolve()
    sources = tuple(table for place, table in tables.items() if place[:1] == ("sources",))
    _check_columns(top, schema, gate)
    _check_names([source.name for source in sources])
    return Config(
        name=top.name,
        rules=Rules(
            target=top.target,
            key=top.keys,
            task=None if top.task == "auto" else top.task,
            schema=schema,
            not_features=frozenset(column for source in sources for column in source.cursor_columns),
            holdout=top.holdout,
            key_scope=top.key_scope,
            on_update=top.on_update,
            label_wait=top.label_wait,
            label_wait_s=seconds(top.label_wait) or 0.0,
            pending_rows=top.pending_rows,
        ),
        sources=sources,
        models={str(place[1]): table for place, table in tables.items() if place[:1] == ("models",)},
        root=root,
        store=root / store.path,
        keep=store.keep,
        seed=top.seed,
        fresh_every=top.fresh_every,
        gate=gate,
        notify=tables["notify",],
        mlflow=tables["mlflow",],
    )


def tables_of(document: dict[str, Any]) -> Tables:
    """Make every table of a document, those that it leaves out with their defaults."""
    names = {*TABLES, "sources", "models"}
    above = {key: value for key, value in document.items() if key not in names}
    store = document.get("store", {})
    written = document | {"store": {"path": store} if isinstance(store, str) else store}
    return {
        (): build(TopConfig, above, also=names),
        **{(name,): build(cls, written.get(name, {}), (name,)) for name, cls in TABLES.items()},
        **_sources(document.get("sources", [])),
        **_models(document.get("models", {"deep": {}, "linear": {}})),
    }


def _check_columns(top: TopConfig, schema: SchemaConfig, gate: GateConfig) -> None:
    for name in {top.target, *top.keys} & set(schema.drop):
        raise ConfigError(
            f"schema.drop must leave the target and the key, however it names '{name}'; take it out there",
            ("schema", "drop"),
        )
    for name in {top.target, *top.keys, *schema.drop} & set(gate.slices):
        raise ConfigError(
            f"gate.slices must name features, however '{name}' is none; take it out there", ("gate", "slices")
        )


def _check_names(names: list[str]) -> None:
    double = next((i for i, name in enumerate(names) if name in names[:i]), None)
    if double is not None:
        raise ConfigError(
            f"sources must have different names, however '{names[double]}' stands twice; set name", ("sources", double)
        )


def _sources(tables: Any) -> Tables:  # noqa: ANN401 - what TOML holds
    if not isinstance(tables, list) or not tables:
        raise ConfigError(
            "at least one [[sources]] table is needed, however there is none; add one with a url", ("sources",)
        )
    return {("sources", i): _source(table, ("sources", i)) for i, table in enumerate(tables)}


def _source(table: Any, at: Place) -> SourceConfig:  # noqa: ANN401 - what TOML holds
    """Build a source's table by the kind of its url, and name it after its place if it has no name."""
    url = table.get("url") if isinstance(table, dict) else None
    if not isinstance(url, str):
        return build(SourceConfig, table, at)  # says what is wrong
    if not url:
        raise ConfigError("a source's url must be a path or a URL, however one is empty", (*at, "url"))
    source = build(kind_of(url).config, table, at)
    return (
        source if source.name else replace(source, name="#".join(filter(None, (_without_password(url), source.part))))
    )


def _without_password(url: str) -> str:
    """Return the url without user, password and options: names end in manifests and messages."""
    kind, mark, rest = url.partition("://")
    if not mark or rest.startswith("/"):  # a path, also SQLite's, may hold an "@"
        return url.partition("?")[0] if mark else url
    return f"{kind}://{rest.rpartition('@')[2].partition('?')[0]}"


def _models(tables: Any) -> Tables:  # noqa: ANN401 - what TOML holds
    if not isinstance(tables, dict) or not tables:
        raise ConfigError(
            "[models] must hold at least one table, however it holds none; add [models.deep]", ("models",)
        )
    return {("models", name): _model(name, table, ("models", name)) for name, table in tables.items()}


def _model(name: str, table: Any, at: Place) -> ModelConfig:  # noqa: ANN401 - what TOML holds
    if not NAME.fullmatch(name):
        raise ConfigError(f"a model's name must be 1 to 64 of a-z, 0-9, _ and -, however one is '{name}'", at)
    if not isinstance(table, dict):
        raise ConfigError(f"models.{name} must be a table, however it is {table!r}; write [models.{name}]", at)
    options = dict(table)
    by_key = next((kind for key, kind in _KINDS_BY_KEY.items() if key in options), None)
    kind = options.pop("kind", by_key or DEFAULT_KINDS.get(name))
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(
            f"models.{name}.kind must be one of {', '.join(KINDS)}, however it is {kind!r}", (*at, "kind")
        )
    if kind == "partial_fit" and name in ESTIMATORS:
        options = {"estimator": name, **options}
    return ModelConfig(kind, build(KINDS[kind], options, at))


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
