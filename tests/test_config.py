from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from nightfit.config import Config, ModelConfig, load, parse
from nightfit.errors import ConfigError
from nightfit.gate import GateConfig
from nightfit.learners.base import MlpConfig, PartialFitConfig
from nightfit.schema import SchemaConfig
from nightfit.sources.configs import FileConfig, SqlConfig

BASE = 'name = "p"\ntarget = "y"\n'
SOURCE = '[[sources]]\nurl = "a.csv"\n'
SECRET = "s3c/r@et"  # noqa: S105 - nobody's


def parsed(text: str, folder: Path = Path("/data")) -> Config:
    """Compose a config from TOML text."""
    return parse(tomllib.loads(text), folder)


def complaint(text: str) -> str:
    """Return what is said about a config that makes no sense."""
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return str(caught.value)


def test_the_smallest_config() -> None:
    """A name, a target and a source are enough: everything else has a default."""
    config = parsed(BASE + SOURCE)
    assert (config.name, config.rules.target, config.rules.key, config.seed) == ("p", "y", (), 0)
    assert config.rules.schema == SchemaConfig()
    assert (config.rules.holdout, config.rules.key_scope, config.rules.on_update) == (0.1, "pipeline", "reject")
    assert config.gate == GateConfig()
    assert config.models == {
        "deep": ModelConfig("mlp", MlpConfig()),
        "linear": ModelConfig("partial_fit", PartialFitConfig()),
    }
    assert (config.root, config.store) == (Path("/data"), Path("/data/checkpoints"))
    assert config.sources == (FileConfig(url="a.csv", name="a.csv"),)


def test_every_key_arrives() -> None:
    """Each key of each table ends where it is used."""
    config = parsed(
        """
        name = "p-1"
        target = "y"
        key = ["a", "b"]
        store = "s"
        root = ".."
        seed = 7
        holdout = 0.2
        key_scope = "source"
        on_update = "learn"
        fresh_every = 5
        [[sources]]
        url = "sqlite:///x.db"
        name = "db"
        table = "t"
        cursor = ["at", "id"]
        optional = true
        [[sources]]
        url = "sqlite:///x.db"
        query = "select 1"
        cursor = "n"
        [schema]
        categorical = ["c"]
        drop = ["d"]
        missing = ["", "n/a"]
        on_missing_column = "missing"
        max_reject_share = 0.5
        [gate]
        margin = 0.1
        forgetting_margin = 1
        min_rows = 20
        max_negative_flips = 0.1
        slices = ["country"]
        slice_margin = 0.2
        floors = { accuracy = 0.7 }
        [models.big]
        kind = "mlp"
        d_hidden = 128
        [models.linear]
        alpha = 0.01
        """,
        Path("/data/configs"),
    )
    rules = config.rules
    assert (rules.key, rules.holdout, rules.key_scope, rules.on_update) == (("a", "b"), 0.2, "source", "learn")
    assert rules.not_features == {"at", "id", "n"}
    assert rules.schema == SchemaConfig(("c",), ("d",), ("", "n/a"), "missing", 0.5)
    assert config.gate == GateConfig(0.1, 1, 20, 0.1, ("country",), 0.2, {"accuracy": 0.7})
    assert config.fresh_every == 5
    assert config.models["big"].learner == MlpConfig(d_hidden=128)
    assert config.models["linear"].learner == PartialFitConfig(alpha=0.01)
    assert (config.root, config.store, config.seed) == (Path("/data"), Path("/data/s"), 7)
    assert config.sources[0] == SqlConfig("sqlite:///x.db", "db", table="t", cursor=("at", "id"), optional=True)
    assert config.sources[1].name == "sqlite:///x.db#query"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{BASE}targett = "z"\n{SOURCE}', "unknown key 'targett'; did you mean 'target'?"),
        (f"{BASE}{SOURCE}[modells.deep]\n", "unknown key 'modells'; did you mean 'models'?"),
        (f"{BASE}{SOURCE}[schema]\ncategoricals = []\n", "'schema.categoricals'; did you mean 'categorical'?"),
        (f"{BASE}{SOURCE}[gate]\nmargins = 1\n", "'gate.margins'; did you mean 'margin'?"),
        (f"{BASE}[[sources]]\nurl = 'sqlite:///x.db'\ntabel = 't'\n", "'sources[0].tabel'; did you mean 'table'?"),
        (f"{BASE}{SOURCE}[models.deep]\nd_hiden = 3\n", "'models.deep.d_hiden'; did you mean 'd_hidden'?"),
        (f"{BASE}xyzzy = 3\n{SOURCE}", "unknown key 'xyzzy'; the keys here are "),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, said: str) -> None:
    """A key that is not there is an error with the nearest legal one, in every table."""
    assert said in complaint(text)


def test_every_unknown_key_is_named() -> None:
    """Whatever key of any table is mistyped by one letter, the right one is proposed."""
    tables: dict[str, type[Any]] = {"schema": SchemaConfig, "gate": GateConfig, "models.deep": MlpConfig}
    for table, cls in tables.items():
        for key in (f.name for f in fields(cls)):
            assert f"did you mean '{key}'" in complaint(f"{BASE}{SOURCE}[{table}]\n{key}x = 1\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'target = "y"\n{SOURCE}', "'name' is needed, however it is not there; add it"),
        (f'name = "p"\n{SOURCE}', "'target' is needed"),
        (f'{BASE}[[sources]]\nname = "x"\n', "'sources[0].url' is needed"),
        (BASE, "at least one [[sources]] table is needed"),
        (f"sources = 5\n{BASE}", "at least one [[sources]] table is needed"),
        (f'sources = ["a.csv"]\n{BASE}', "sources[0] must be a table, however it is a str"),
        (f"schema = 5\n{BASE}{SOURCE}", "schema must be a table, however it is a int"),
        (f"models = {{}}\n{BASE}{SOURCE}", "[models] must hold at least one table"),
        (f"{BASE}{SOURCE}[models]\ndeep = 5\n", "models.deep must be a table, however it is 5"),
        (
            f"{BASE}{SOURCE}[models.tree]\n",
            "models.tree.kind must be one of mlp, partial_fit, module, however it is None",
        ),
        (f'{BASE}{SOURCE}[models.tree]\nkind = ["mlp"]\n', "models.tree.kind must be one of mlp, partial_fit"),
        (f'{BASE}{SOURCE}[models."A b"]\nkind = "mlp"\n', "a model's name must be 1 to 64 of a-z"),
        (f'name = "P/.."\ntarget = "y"\n{SOURCE}', "name must be 1 to 64 of a-z, 0-9, _ and -, however it is 'P/..'"),
        (f"name = 5\ntarget = 'y'\n{SOURCE}", "name: Expected `str`, got `int`"),
        (f"{BASE}holdout = 1.0\n{SOURCE}", "holdout must lie between 0 and 1, however it is 1.0"),
        (f"{BASE}holdout = nan\n{SOURCE}", "holdout must lie between 0 and 1"),
        (f"{BASE}holdout = true\n{SOURCE}", "holdout: Expected `float`, got `bool`"),
        (f"{BASE}seed = -1\n{SOURCE}", "seed must lie between 0 and 4294967295, however it is -1"),
        (f"{BASE}key_scope = 'all'\n{SOURCE}", "key_scope must be 'pipeline' or 'source', however it is 'all'"),
        (f"{BASE}key_scope = 'sourc'\n{SOURCE}", "however it is 'sourc'; did you mean 'source'?"),
        (f"{BASE}key_scope = 5\n{SOURCE}", "key_scope: Expected `str`, got `int`"),
        (f"{BASE}on_update = 'drop'\n{SOURCE}", "on_update must be 'reject' or 'learn', however it is 'drop'"),
        (f"{BASE}key = ['id', 'y']\n{SOURCE}", "target must be a column that is no key, however it is 'y'"),
        (f'name = "p"\ntarget = ""\n{SOURCE}', "target must be a column"),
        (f"{BASE}{SOURCE}[gate]\nmargin = nan\n", "gate.margin must be at least 0, however it is nan"),
        (f"{BASE}{SOURCE}[gate]\nslice_margin = -1\n", "gate.slice_margin must be at least 0"),
        (f"{BASE}{SOURCE}[gate]\nmax_negative_flips = 5\n", "max_negative_flips must lie between 0 and 1"),
        (f"{BASE}{SOURCE}[gate.floors]\nacuracy = 0.7\n", "floors has 'acuracy'; did you mean 'accuracy'?"),
        (f"{BASE}{SOURCE}[gate]\nslices = ['y']\n", "gate.slices must name features, however 'y' is none"),
        (f"{BASE}fresh_every = -1\n{SOURCE}", "fresh_every must be at least 0, however it is -1"),
        (f"{BASE}pending_rows = -1\n{SOURCE}", "pending_rows must be at least 0, however it is -1"),
        (f"{BASE}{SOURCE}[schema]\nmax_reject_share = 2\n", "max_reject_share must lie between 0 and 1"),
        (f"{BASE}{SOURCE}[schema]\ndrop = 'c'\n", "schema.drop: Expected `array`, got `str`"),
        (f"{BASE}{SOURCE}[models.deep]\nn_epochs = 0\n", "n_epochs must be at least 1, however it is 0"),
        (f'{BASE}{SOURCE}[models.linear]\nestimator = "svm"\n', "estimator must be one of sgd, pa, gnb, "),
        (f"{BASE}{SOURCE}{SOURCE}", "sources must have different names, however 'a.csv' stands twice; set name"),
        (f'{BASE}[[sources]]\nurl = "postgres://h/x"\ntable = "t"\n', "did you mean postgresql://?"),
        (
            f'{BASE}[[sources]]\nurl = "amqp://h/x"\n',
            "a scheme that is known (http, https, kafka, mariadb, mssql, mysql",
        ),
        (f'{BASE}{SOURCE}delimiter = ";;"\n', """delimiter must be one character such as "," ";" or "\\t", however"""),
        (f'{BASE}{SOURCE}decimal = ";"\n', "decimal must be '.' or ',', however it is ';'"),
        (f'{BASE}[[sources]]\nurl = ""\n', "a source's url must be a path or a URL, however one is empty"),
        (
            f'{BASE}{SOURCE}table = "t"\n',
            "unknown key 'sources[0].table'; the keys here are decimal, delimiter, name, on_gap, optional, rotated",
        ),
        (
            f'{BASE}[[sources]]\nurl = "sqlite:///a.db"\n',
            "a database source needs a table or a query, however it has both or none",
        ),
    ],
)
def test_a_mistake_is_said_precisely(text: str, said: str) -> None:
    """What is missing, of a wrong type or makes no sense is an error that names the place and the fact."""
    assert said in complaint(text)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"postgresql+psycopg://me:{SECRET}@db:5432/shop", "postgresql+psycopg://db:5432/shop#t"),
        (f"postgresql://db/shop?user=me&password={SECRET}", "postgresql://"),
        (f"mysql://me:{SECRET}@db/shop?ssl_key={SECRET}", "mysql://"),
        ("sqlite:///data@home.db", "sqlite:///data@home.db#t"),
        ("sqlite:////abs/x.db?mode=ro", "sqlite:////abs/x.db#t"),
    ],
)
def test_a_password_stays_out_of_names(url: str, name: str) -> None:
    """A source's name, which ends in manifests and messages, never holds what a URL says of users and options."""
    config = parsed(f'{BASE}[[sources]]\nurl = "{url}"\ntable = "t"\ncursor = "id"\n')
    assert config.sources[0].name.startswith(name)
    assert not any(part in config.sources[0].name for part in ("s3c", "r@et", "me:", "password"))


def test_a_password_stays_out_of_messages() -> None:
    """What is wrong with a source is said without its URL."""
    for text in (
        f'{BASE}[[sources]]\nurl = "postgresql://me:{SECRET}@db/shop"\n',
        f'sources = ["postgresql://me:{SECRET}@db/shop"]\n{BASE}',
        f'{BASE}[[sources]]\nurl = "postgresql://me:{SECRET}@db/shop"\ntable = 5\n',
        BASE + 2 * f'[[sources]]\nurl = "postgresql://me:{SECRET}@db/shop"\ntable = "t"\n',
    ):
        said = complaint(text)
        assert not any(part in said for part in ("s3c", "r@et"))


def test_an_empty_key_is_no_key() -> None:
    """`key = ""`, as `init` may write it, means that rows have none."""
    assert parsed(f'{BASE}key = ""\n{SOURCE}').rules.key == ()


def test_a_file_is_named_in_every_error(tmp_path: Path) -> None:
    """A config that is missing, no text, no TOML or senseless is an error that names the file."""
    path = tmp_path / "n.toml"
    with pytest.raises(ConfigError, match=r"n\.toml is not there; `nightfit init DATA --target COLUMN` writes one"):
        load(path)
    with pytest.raises(ConfigError, match="readable text file"):
        load(tmp_path)
    for data, named in ((b"\xff\xfe", "n.toml: "), (b"name = ", "n.toml, line 1: "), (b"name = 5\n", "n.toml: ")):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=re.escape(named)):
            load(path)
    path.write_text(BASE + SOURCE)
    assert load(path).root == tmp_path.resolve()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{BASE}{SOURCE}[gate]\ntolerence = 1\n", "line 6: unknown key 'gate.tolerence'; the keys here are "),
        (f"{BASE}{SOURCE}[gate]\n\nmargn = 1\n", "line 7: unknown key 'gate.margn'; did you mean 'margin'?"),
        (f"{BASE}gate.margn = 1\n{SOURCE}", "line 3: unknown key 'gate.margn'"),
        (f'{BASE}gate = {{ "margn" = 1 }}\n{SOURCE}', "line 3: unknown key 'gate.margn'"),
        (
            f"{BASE}sources = [\n  {{ url = 'a' }},\n  {{ ulr = 'b' }},\n]\n",
            "line 5: unknown key 'sources[1].ulr'",
        ),
        (f"{BASE}{SOURCE}\n[[sources]]\nname = 'x'\n", "line 6: 'sources[1].url' is needed"),
        (f"{BASE}{SOURCE}\n[[sources]]\nurl = 'b'\noptionl = 1\n", "line 8: unknown key 'sources[1].optionl'"),
        (f"{BASE}{SOURCE}[models.deep]\nn_epochs = 0\n", "line 6: models.deep.n_epochs must be at least 1"),
        (f"{BASE}{SOURCE}[models.deep]\nn_epochs = 'x'\n", "line 6: models.deep.n_epochs: Expected `int`"),
        (f"{BASE}{SOURCE}[models.tree]\n", "line 5: models.tree.kind must be one of"),
        (f"{BASE}{SOURCE}{SOURCE}", "line 5: sources must have different names"),
        (
            f"{BASE}{SOURCE}[gate.floors]\nacuracy = 1\n",
            "line 5: gate: a floor must be a score's, ",
        ),
        (f"{BASE}holdout = 2\n{SOURCE}", "line 3: holdout must lie between 0 and 1"),
        (f"{BASE}x = \n{SOURCE}", "line 3: the config must be TOML, however: Invalid value; mend that line"),
        (f"{BASE}x = [\n1,\n", "line 4: the config must be TOML, however: "),
        (f"{BASE}{SOURCE}name = 'x'\nname = 'y'\n", "line 6: the config must be TOML, however: Cannot overwrite"),
    ],
)
def test_a_mistake_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong in a file is said with the line of its key, or of its table where the key is missing."""
    path = tmp_path / "n.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {said}")
