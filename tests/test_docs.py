"""The docs say what the program does, and what they show runs."""

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import config_tables
import pages
import update_docs
from nightfit import cli, config, errors
from nightfit.cli import edge
from nightfit.demands import SCORE_NAMES
from nightfit.learners.base import KINDS
from nightfit.sources.base import SourceConfig
from nightfit.toplevel import TopConfig

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md"), *PROJECT.glob("scripts/*/README.md")])
CONFIGS = sorted(PROJECT.glob("configs/*.toml"))
TABLES = {
    "": TopConfig, "sources": SourceConfig, **config.TABLES,
    **KINDS,
}  # fmt: skip


def blocks(language: str, *, without: str = "") -> list[Any]:
    """Return the code blocks of all pages (but one) in a language, named by page and number."""
    found = [
        pytest.param(block, id=f"{page.name}-{i}")
        for page in PAGES
        for i, block in enumerate(pages.blocks(page.read_text()))
        if block.language == language and page.name != without
    ]
    assert found
    return found


def test_every_command_and_option_is_documented() -> None:
    """Every command has a section in docs/commands.md, and every option of it stands there."""
    sections = re.split(r"^## `nightfit (\w+)`$", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    by_command = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert by_command.keys() == update_docs.commands().keys()
    for command, options in update_docs.commands().items():
        for option in options:
            assert option in by_command[command], f"{command} {option}"


def test_help_texts_are_the_programs_own() -> None:
    """What docs/commands.md shows as help is what `--help` prints; `python scripts/update_docs.py` mends it."""
    page = (DOCS / "commands.md").read_text()
    assert update_docs.with_help(page) == page


def test_the_readmes_first_screen_has_all() -> None:
    """README's first 45 lines, of 120 columns at most, have the problem, a session, the install and where to go on."""
    screen = "\n".join((PROJECT / "README.md").read_text().splitlines()[:45])
    session, install = pages.blocks(screen)
    assert session.text.count("$ nightfit train") == 2
    assert "scripts/install" in install.text
    assert "(docs/tutorial.md)" in screen
    shown = re.sub(r"\]\(\S+\)", "]", screen)  # where a link leads is not shown
    assert max(len(line) for line in shown.splitlines()) <= 120


@pytest.mark.parametrize("table", TABLES)
def test_every_config_key_is_in_the_example(table: str) -> None:
    """Every key stands in configs/nightfit.toml."""
    example = (PROJECT / "configs" / "nightfit.toml").read_text()
    for field in fields(TABLES[table]):
        assert re.search(rf"^(?:# )?{field.name} = ", example, re.MULTILINE), (
            f"configs/nightfit.toml has no {table}.{field.name}"
        )


@pytest.mark.parametrize("name", ["config.md", "sources.md"])
def test_tables_of_keys_are_the_codes_own(name: str) -> None:
    """Every table of keys says what stands beside the fields; `python scripts/config_tables.py` mends it."""
    page = (DOCS / name).read_text()
    assert config_tables.with_keys(page) == page


def test_every_table_of_keys_is_marked() -> None:
    """No class of keys is left out."""
    text = "".join((DOCS / name).read_text() for name in ("config.md", "sources.md"))
    assert set(re.findall(r"<!-- keys of (\w+) -->", text)) == config_tables.CLASSES.keys()


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


CHECKED = {"console", "python", "sh", "toml", "json", "text"}
"""Languages of blocks that are checked: sessions and Python are run by test_sessions.py, the rest is read below."""


def test_no_block_stays_unchecked() -> None:
    """Every block of the docs is in a language that a test knows what to do with."""
    found = {block.language for page in PAGES for block in pages.blocks(page.read_text())}
    assert found == CHECKED
    for page in PAGES:
        assert page.read_text().count("```") == 2 * len(pages.blocks(page.read_text())), f"{page.name}: odd fences"


@pytest.mark.parametrize("block", blocks("toml", without="source.md"))  # test_own_source.py installs what those need
def test_toml_blocks_are_configs(block: pages.Block) -> None:
    """A TOML block of the docs is a config that loads, or sources of one."""
    assert config.parse({"name": "n", "target": "t", "key": "k"} | tomllib.loads(block.text), PROJECT).sources


@pytest.mark.parametrize("block", blocks("text"))
def test_text_blocks_are_help(block: pages.Block) -> None:
    """Plain text is what `--help` prints, and nothing that nobody holds against the program."""
    assert block.note in {f'title="nightfit {command} --help"' for command in update_docs.commands()}


def answer_keys(document: object) -> Iterator[str]:
    """Yield the keys of a JSON document, inner ones too."""
    for key, value in document.items() if isinstance(document, dict) else ():
        yield key
        yield from answer_keys(value)
    for value in document if isinstance(document, list) else ():
        yield from answer_keys(value)


@pytest.mark.parametrize("block", blocks("json"))
def test_json_blocks_name_what_the_program_writes(block: pages.Block) -> None:
    """A JSON block is JSON, and each of its keys stands in the source as one that is written."""
    source = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.py"))
    keys = set(answer_keys(json.loads(block.text)))
    assert keys
    for key in keys - set(SCORE_NAMES):
        assert re.search(rf"\b{key}\b", source), key


@pytest.mark.parametrize("block", blocks("sh"))
def test_shell_blocks_can_be_typed(block: pages.Block) -> None:
    """Bash can read a shell block, what it runs of the project is there, and nightfit understands its commands."""
    subprocess.run(["bash", "-n", "-c", block.text], check=True)
    for words in simple_commands(block.text):
        typed = after_nightfit(words)
        if typed:
            understood(typed)
        for word in words:
            if word.startswith("scripts/"):
                assert (PROJECT / word).exists(), word


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in lexer:
            if set(word) <= set(";|&()"):
                yield words
                words = []
            else:
                words.append(word)
        yield words


def after_nightfit(words: list[str]) -> list[str]:
    """Return what is typed after `nightfit`, or after `-m nightfit`; nothing if the command is another one."""
    if words[:1] == ["nightfit"]:
        return words[1:]
    is_module = "-m" in words and words[words.index("-m") + 1] == "nightfit"
    return words[words.index("-m") + 2 :] if is_module else []


def understood(typed: list[str]) -> None:
    """Let the command line read what was typed, and do nothing; raises what it raises for what makes no sense."""
    group: Any = typer.main.get_command(cli.app)
    group.commands[typed[0]].make_context(typed[0], list(typed[1:]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """A relative link leads to a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert page.parent != DOCS or path.resolve().is_relative_to(DOCS), f"{target} is no page of the site"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target


def exit_codes() -> set[int]:
    """Return every code that the program can end with on purpose."""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.NightfitError)]
    return {0, errors.REFUSED, edge.INTERRUPTED, edge.TERMINATED, *(c.exit_code for c in classes)}


def test_exit_codes_are_complete() -> None:
    """The table of exit codes has every code that the program ends with, and no other."""
    rows = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "commands.md").read_text(), re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(", ")} == exit_codes()
