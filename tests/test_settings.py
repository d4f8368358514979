"""What `nightfit config` shows and explains."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightfit.config import TABLES
from nightfit.described import keys_of
from nightfit.explaining import KINDS_OF_SOURCES, entries_of
from nightfit.learners.base import KINDS
from nightfit.settings import hidden
from nightfit.tomltext import toml
from nightfit.toplevel import TopConfig

CLASSES: list[type[Any]] = [TopConfig, *TABLES.values(), *KINDS.values(), *KINDS_OF_SOURCES]
SECRETS = ("s3cret", "k3y", "t0ken", "h3ader", "p4th", "u53r")
CONFIG = """\
name = "p"
target = "y"
store = "s"

[[sources]]
url = "postgresql+psycopg://u53r:s3cret@db/shop?password=k3y&sslkey=${PW}"
table = "t"
cursor = "id"

[[sources]]
url = "https://u53r:s3cret@api.example/rows?key=k3y"
name = "api"
headers = { Authorization = "Bearer ${TOKEN}", X = "h3ader" }
timeout_s = 5

[gate]
margin = 0.02

[notify]
webhook = "https://hooks.example/p4th/${HOOK}"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the config, and set one of the names that it needs."""
    monkeypatch.setenv("TOKEN", "t0ken")
    for name in ("PW", "HOOK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "n.toml").write_text(CONFIG)
    return tmp_path / "n.toml"


def test_every_key_has_its_value_and_its_origin(path: Path, nightfit: Callable[..., Any]) -> None:
    """A line of the file, the environment or the default: all keys of all tables are there, as one JSON object."""
    told = json.loads(nightfit("config", "--config", path, "--json").out)
    settings = {at: (setting["value"], setting["from"]) for at, setting in told["settings"].items()}
    assert (told["config"], told["from"]) == (str(path), "--config")
    assert settings["name"] == ("p", "line 1")
    assert settings["store.path"] == ("s", "line 3")
    assert settings["store.keep"] == (30, "default")
    assert settings["gate.margin"] == (0.02, "line 17")
    assert settings["gate.slices"] == ([], "default")
    assert settings["sources[1].timeout_s"] == (5, "line 14")
    assert settings["sources[1].headers"][1] == "line 13, environment ${TOKEN}"
    assert settings["notify.webhook"][1] == "line 20, environment ${HOOK} (not set)"
    assert settings["models.deep.kind"] == ("mlp", "default")
    of = [TopConfig, *TABLES.values(), KINDS["mlp"], KINDS["partial_fit"], KINDS_OF_SOURCES[1], KINDS_OF_SOURCES[2]]
    assert len(settings) == sum(len(keys_of(cls)) for cls in of) + 2


@pytest.mark.parametrize("options", [[], ["--json"], ["--explain", "sources.url"], ["--explain", "notify.webhook"]])
def test_no_secret_is_shown(path: Path, nightfit: Callable[..., Any], options: list[str]) -> None:
    """Neither users, passwords and options of urls, nor headers, nor what the environment holds."""
    done = nightfit("config", "--config", path, *options)
    assert done.code == 0
    assert not any(secret in done.out + done.err for secret in SECRETS)
    assert "${" in done.out


@given(st.text("a@:/?#=&%", max_size=8), st.text("a@:/?#=&%", max_size=8))
def test_whatever_a_password_is_made_of(before: str, after: str) -> None:
    """Signs that mean something in a url do not let a password be seen."""
    assert "s3cret" not in hidden(f"postgresql://u53r:{before}s3cret{after}@db/shop", is_url=True)
    assert "s3cret" not in hidden(f"https://u53r:{before}s3cret{after}@hooks.example/x")


@pytest.mark.parametrize("url", ["data/a@b.csv", "sqlite:///data@home.db", "kafka://h:9092/topic", ""])
def test_what_is_no_secret_is_shown(url: str) -> None:
    """A path and a place are shown as they are."""
    assert hidden(url, is_url=True) == url


def test_people_get_a_table(path: Path, nightfit: Callable[..., Any]) -> None:
    """The file, why it is that one, and a line for each key."""
    said = nightfit("config", "--config", path).out
    assert said.startswith(f"{path} (--config)")
    assert ["gate.margin", "0.02", "line", "17"] in [line.split() for line in said.splitlines()]


def test_the_file_may_come_from_the_environment(
    path: Path, nightfit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said which config is read, and why."""
    monkeypatch.setenv("NIGHTFIT_CONFIG", str(path))
    assert json.loads(nightfit("config", "--json").out)["from"] == "NIGHTFIT_CONFIG"


def test_a_broken_config_is_said_with_its_line(path: Path, nightfit: Callable[..., Any]) -> None:
    """It has no settings to show; a key of it can be explained still."""
    path.write_text(CONFIG.replace("margin =", "margn ="))
    done = nightfit("config", "--config", path)
    assert (done.code, "line 17: unknown key 'gate.margn'; did you mean 'margin'?" in done.err) == (78, True)
    done = nightfit("config", "--config", path, "--explain", "gate.margin", "--json")
    (told,) = json.loads(done.out)["keys"]
    assert (done.code, told["default"], "line 17" in told["unknown"]) == (0, 0.01, True)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gate.margin", ["worse before", "a number", "0.01", "[gate]", "margin = 0.01", "0.02 (line 17)"]),
        ("key_scope", ['"pipeline", "source"', "key_scope = "]),
        ("name", ["none: it is needed", 'name = "bookings"']),
        ("models.deep.batch_size", ["Rows of a step", "a whole number", "[models.deep]"]),
        ("models.linear.kind", ['"mlp", "partial_fit", "module"']),
        ("sources[1].url", ["${NAME}, and export NAME", "sources[0].url = ", "sources[1].url = "]),
        ("overlap_rows", ["sources.overlap_rows", "[[sources]]", "1000"]),
    ],
)
def test_a_key_is_explained(path: Path, nightfit: Callable[..., Any], word: str, said: list[str]) -> None:
    """Type, default, legal words, what it does, an example, how a secret is kept out, and what it is now."""
    done = nightfit("config", "--config", path, "--explain", word)
    assert done.code == 0
    assert all(part in " ".join(done.out.split()) for part in said), done.out


def test_a_key_of_several_kinds_is_explained_for_those_in_use(path: Path, nightfit: Callable[..., Any]) -> None:
    """An API's `timeout_s` is not Kafka's; without a source of either, all are explained."""
    (told,) = json.loads(nightfit("config", "--config", path, "--explain", "sources.timeout_s", "--json").out)["keys"]
    assert [one["value"] for one in told["set"]] == [5]
    assert told["of"].startswith("JSON over GET")
    assert len(entries_of("sources.timeout_s", [])) == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gate.margn", "'gate.margn' is none; did you mean 'gate.margin'?"),
        ("marginn", "did you mean 'gate.margin'?"),
        ("gate.xyzzy", "there are gate.margin, gate.forgetting_margin"),
        ("xyzzy", "`nightfit config` lists them"),
        ("timeout_s", "'timeout_s' is notify.timeout_s, sources.timeout_s; say which"),
        ("models.deep.batchsize", "did you mean 'models.deep.batch_size'?"),
    ],
)
def test_an_unknown_key_names_the_nearest(path: Path, nightfit: Callable[..., Any], word: str, said: str) -> None:
    """A word that means no key, or several, is a mistake (2) that says what might have been meant."""
    done = nightfit("config", "--config", path, "--explain", word)
    assert (done.code, said in done.err) == (2, True), done.err


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_key_has_its_words(cls: type[Any]) -> None:
    """A sentence beside the field, and an example wherever the default shows nothing, which TOML reads back."""
    for key in keys_of(cls).values():
        assert key.text[:1].isupper() or key.text.startswith("librdkafka")
        assert key.text.endswith(".")
        assert key.example not in (None, "", [], {}), f"{cls.__name__}.{key.name}"
        assert tomllib.loads(f"x = {toml(key.example)}")["x"] == key.example
        assert key.brief


def test_what_secrets_are() -> None:
    """The keys whose value may name the environment are those where nightfit looks there."""
    secrets = {(cls.__name__, key.name) for cls in CLASSES for key in keys_of(cls).values() if key.is_secret}
    urls = {(cls.__name__, "url") for cls in KINDS_OF_SOURCES}
    headers = {("HttpConfig", "headers"), ("KafkaConfig", "properties"), ("NotifyConfig", "headers")}
    assert secrets == urls | headers | {("NotifyConfig", "webhook"), ("MlflowConfig", "uri")}


JSON = st.recursive(
    st.one_of(st.text(max_size=5), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(JSON)
def test_toml_reads_back(value: Any) -> None:  # noqa: ANN401 - any value
    """Whatever we write as a value is read as it was."""
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value
