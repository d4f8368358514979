"""The layers: imports go one way, and heavy ones happen late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "nightfit"

LAYERS = [
    ["__init__", "ahead", "duration", "errors", "jsontypes", "lines", "tomltext", "values"],
    ["atomic", "disk", "hiding", "hints", "names", "tables"],
    ["described"],
    ["batch", "device", "notify.config", "sources.base", "toplevel", "tracking.config"],
    ["checkpoint"],
    ["ranks"],
    ["identity", "kinds", "known", "moments"],
    ["metrics", "tracking.run"],
    ["demands"],
    ["calibration", "detector", "mixture", "gate", "memory", "normaliser", "psi", "schema"],
    ["quantity", "sketch"],
    ["scorer"],
    ["learners", "sources"],
    ["drift", "fates"],
    ["pending", "settling"],
    ["cleaning", "dialects", "guesses", "inputs", "model"],
    ["following", "lock", "segments"],
    ["outputs"],
    ["versions"],
    ["store"],
    ["acts", "prune", "verify"],
    ["config", "standing", "version"],
    ["settings"],
    ["evidence", "face", "fresh", "resume"],
    ["estimators", "forget", "night", "predict", "init", "report", "schedule", "tracking.events"],
    ["diff", "nightly", "places", "testing"],
    ["doctor"],
    ["notify", "render"],
    ["explaining"],
    ["compare"],
    ["history"],
    ["reporting", "upkeep"],
    ["serving"],
    ["export"],
    ["tracking"],
    ["comparing"],
    ["commands", "scoring"],
    ["cli"],
    ["__main__"],
]


def rank(module: str) -> int:
    """Return a module's layer; a folder's files share that of the folder unless they are listed."""
    names = [module, module.partition(".")[0]]
    return next(i for name in names for i, layer in enumerate(LAYERS) if name in layer)


def imports(path: Path) -> set[str]:
    """Return the nightfit modules that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nightfit":
            rest = node.module.removeprefix("nightfit").lstrip(".")
            found |= {rest} if rest else {a.name if (SRC / f"{a.name}.py").exists() else "__init__" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("nightfit.") for a in node.names if a.name.startswith("nightfit.")}
    return found


MODULES = sorted(
    ".".join(p.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__") for p in SRC.rglob("*.py")
)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])  # which imports lazily: see below
def test_imports_go_down(module: str) -> None:
    """A file imports only from lower layers, or from its own folder."""
    path = SRC / f"{module.replace('.', '/')}.py"
    is_folder = not path.exists()
    path = SRC / module.replace(".", "/") / "__init__.py" if is_folder else path
    folder = module if is_folder else module.rpartition(".")[0]
    for name in imports(path):
        own = folder and (name == folder or name.startswith(f"{folder}."))
        assert rank(name) < rank(module) or own, f"{module} imports {name}"


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """Run a command and return the top-level modules that it loaded."""
    code = (
        "import sys, atexit\n"
        "names = lambda: sorted({m.partition('.')[0] for m in sys.modules})\n"
        "atexit.register(lambda: print('MODULES', *names(), file=sys.stderr))\n"
        f"sys.argv = ['nightfit', *{list(arguments)!r}]\n"
        "from nightfit.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["log"], ["show", "1"], ["verify", "--json"], ["doctor", "--json"], ["train", "--help"], ["report"]],
)
def test_looking_is_light(arguments: list[str], tmp_path: Path) -> None:
    """Commands that only look load neither torch, scikit-learn, pandas, pyarrow nor SQLAlchemy."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "nightfit.toml").write_text('name = "a"\ntarget = "y"\n[[sources]]\nurl = "a.csv"\n')
    heavy = {"torch", "sklearn", "pandas", "scipy", "pyarrow", "sqlalchemy"}
    assert not loaded(*arguments, cwd=tmp_path) & heavy


def test_the_package_is_light() -> None:
    """`import nightfit` loads nothing heavy; scikit-learn's face does, when it is first asked for."""
    code = (
        "import sys, nightfit\n"
        "heavy = {'torch', 'sklearn', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "nightfit.IncrementalMLPClassifier\n"
        "assert heavy <= set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
