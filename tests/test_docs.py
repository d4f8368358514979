"""The docs say what the program does, and what they show runs."""

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nightfit import config, errors
from nightfit.cli import edge
from nightfit.gate import GateConfig
from nightfit.learners.base import KINDS
from nightfit.notify.config import NotifyConfig
from nightfit.schema import SchemaConfig
from nightfit.sources import make
from nightfit.sources.base import SourceConfig
from nightfit.tracking.config import MlflowConfig

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md"), *PROJECT.glob("scripts/*/README.md")])
CONFIGS = sorted(PROJECT.glob("configs/*.toml"))
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCES = {kind.config.__name__: kind.config for kind in [*make._KINDS.values(), make.kind_of("sqlite:///x.db")]}
TABLES = {
    "": config._Top, "store": config.StoreConfig, "sources": SourceConfig, "schema": SchemaConfig, "gate": GateConfig,
    "notify": NotifyConfig, "mlflow": MlflowConfig,
    **KINDS,
}  # fmt: skip


def script(name: str) -> ModuleType:
    """Load one of the project's scripts, which are no package."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(*languages: str) -> list[Any]:
    """Return the code blocks of all pages in a language, named by page and number."""
    found = [
        pytest.param(text, id=f"{page.name}-{i}")
        for page in PAGES
        for i, (language, text) in enumerate(
            re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        )
        if language in languages
    ]
    return found or [pytest.param("", id="none")]


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    """Load the script that puts the program's words into the docs."""
    return script("update_docs")


def test_every_command_and_option_is_documented(docs: ModuleType) -> None:
    """Every command has a section in docs/commands.md, and every option of it stands there."""
    sections = re.split(r"^## `nightfit (\w+)`$", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    by_command = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert by_command.keys() == docs.commands().keys()
    for command, options in docs.commands().items():
        for option in options:
            assert option in by_command[command], f"{command} {option}"


def test_help_texts_are_the_programs_own(docs: ModuleType) -> None:
    """What docs/commands.md shows as help is what `--help` prints; `python scripts/update_docs.py` mends it."""
    page = (DOCS / "commands.md").read_text()
    assert docs.with_help(page) == page


def test_the_readmes_session_is_real(docs: ModuleType, tmp_path: Path) -> None:
    """Each line of README's session ends with 0 and prints what README shows, but for numbers and their widths."""
    session = docs.SESSION.findall((PROJECT / "README.md").read_text())[0]
    assert words(docs.with_output(session, tmp_path)) == words(session)


def words(session: str) -> list[str]:
    """Return the words of a session without figures and device, which differ from machine to machine."""
    lines = [line for line in session.splitlines() if not line.startswith("learned on ")]
    return re.sub(r"[\d.,:%+─-]+", " ", "\n".join(lines)).split()


@pytest.mark.parametrize("table", TABLES)
def test_every_config_key_is_documented(table: str) -> None:
    """Every key stands in docs/config.md with its default, and in configs/nightfit.toml."""
    page, example = (DOCS / "config.md").read_text(), (PROJECT / "configs" / "nightfit.toml").read_text()
    for field in fields(TABLES[table]):
        row = re.search(rf"^\| `{field.name}` \| (.*?) \|", page, re.MULTILINE)
        assert row, f"docs/config.md has no row for {table}.{field.name}"
        assert re.search(rf"^(?:# )?{field.name} = ", example, re.MULTILINE), (
            f"configs/nightfit.toml has no {table}.{field.name}"
        )


@pytest.mark.parametrize("kind", SOURCES)
def test_every_key_of_a_source_is_documented(kind: str) -> None:
    """Every key that a kind of source has of its own stands in docs/sources.md, with its default."""
    shared, page = {field.name for field in fields(SourceConfig)}, (DOCS / "sources.md").read_text()
    for field in (field for field in fields(SOURCES[kind]) if field.name not in shared):
        row = re.search(rf"^\| `{field.name}` \| (.*?) \|", page, re.MULTILINE)
        assert row, f"docs/sources.md has no row for {kind}.{field.name}"


def written_defaults() -> Iterator[tuple[str, str, list[object], object]]:
    """Yield what docs/config.md says the default of each plain key is, with what it is."""
    page = (DOCS / "config.md").read_text() + (DOCS / "sources.md").read_text()
    for table, cls in (TABLES | SOURCES).items():
        for field in fields(cls):
            written = re.findall(rf"^\| `{field.name}` \| `(.*?)` \|", page, re.MULTILINE)
            if written:  # of two kinds of learner each may have its own
                made = field.default if field.default_factory is MISSING else field.default_factory()
                default = list(made) if isinstance(made, tuple) else made
                yield table, field.name, [tomllib.loads(f"x = {text}")["x"] for text in written], default


def test_documented_defaults_are_the_defaults() -> None:
    """The defaults that docs/config.md names are those of the code."""
    found = list(written_defaults())
    assert len(found) > 20
    for table, key, written, default in found:
        assert default in written, f"{table}.{key}"


def test_the_example_has_the_defaults() -> None:
    """configs/nightfit.toml changes nothing but where the data is: its other keys have their defaults."""
    example = config.load(PROJECT / "configs" / "nightfit.toml")
    plain = config.parse({"name": "example", "target": "TARGET", "key": "ID", "sources": [{"url": "x"}]}, PROJECT)
    assert example.models == plain.models
    assert example.gate == plain.gate
    assert (example.notify, example.mlflow) == (plain.notify, plain.mlflow)
    assert example.rules.schema == plain.rules.schema
    assert (example.seed, example.rules.holdout, example.store) == (plain.seed, plain.rules.holdout, plain.store)
    assert (example.rules.label_wait, example.rules.pending_rows) == (plain.rules.label_wait, plain.rules.pending_rows)
    assert [source.optional for source in example.sources] == [True, True]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_load(path: Path) -> None:
    """Every config that is shipped is legal."""
    assert config.load(path).sources


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_are_configs(text: str) -> None:
    """A TOML block of the docs is a config that loads, or sources of one; a package's pyproject is neither."""
    document = tomllib.loads(text)
    if document and "project" not in document:
        assert config.parse({"name": "n", "target": "t", "key": "k"} | document, PROJECT).sources


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_parse(text: str) -> None:
    """A Python block of the docs is Python."""
    ast.parse(text)


@pytest.mark.parametrize("text", blocks("console", "sh"))
def test_commands_in_blocks_exist(text: str, docs: ModuleType) -> None:
    """A nightfit command in a block of the docs exists, and so do its options."""
    for line in text.splitlines():
        for command, rest in re.findall(r"(?:^\$ |^|; |\| )nightfit (\w+)([^|;\n]*)", line):
            assert command in docs.commands()
            for option in re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest):
                assert option in docs.commands()[command], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """A relative link leads to a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target


def exit_codes() -> set[int]:
    """Return every code that the program can end with on purpose."""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.NightfitError)]
    return {0, errors.REFUSED, edge.INTERRUPTED, edge.TERMINATED, *(c.exit_code for c in classes)}


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_exit_codes_are_complete(page: str) -> None:
    """The table of exit codes has every code that the program ends with, and no other."""
    rows = re.findall(r"^\| ([\d, ]+) \|", (PROJECT / page).read_text(), re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(", ")} == exit_codes()
