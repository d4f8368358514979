"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    Path, typer.Option("--config", metavar="FILE", envvar="NIGHTFIT_CONFIG", help="The pipeline's config.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]
OnlyModel = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Only this model; all of them if not given.")
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="A model; the config's first if not given.")
]
SkipRows = Annotated[
    bool, typer.Option("--skip-rows", help="Leave out the rows that came after it, instead of reading them again.")
]
DeviceName = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps.")]
Figures = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the page's figures there, as SVG and PNG.")
]
DEFAULT_CONFIG = Path("configs/nightfit.toml")
