"""The command that writes the page of a pipeline's life. It reads manifests alone, and loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

from nightfit.config import load
from nightfit.errors import UsageError
from nightfit.history import lineages
from nightfit.render import print_json
from nightfit.render import show as display


def report(
    output: Path | None, name: str | None, figures: Path | None, tensorboard: Path | None, path: Path, *, as_json: bool
) -> None:
    """Write the page of every model of a pipeline, or of one."""
    config = load(path)
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"--output must name a file in a folder that is there, however it is {output}")
    from nightfit.report.files import save, write_page
    from nightfit.report.life import Life
    from nightfit.report.lifepage import figures as drawn
    from nightfit.report.lifepage import lives

    manifests = {model: [*lineage.newest_first()][::-1] for model, lineage in lineages(config, name).items()}
    models = [Life.of(model, of_model) for model, of_model in manifests.items()]
    target = output or Path(f"{config.name}.html")
    write_page(lives(config.name, models), target, "--output")
    written = save(drawn(models), figures) if figures is not None else []
    events = []
    if tensorboard is not None:
        from nightfit.tracking.events import write_events

        events = [write_events(of_model, tensorboard / model) for model, of_model in manifests.items()]
    if as_json:
        told = {model.name: model.to_json() for model in models}
        files = {"figures": [*map(str, written)], "events": [*map(str, events)]}
        print_json({"report": str(target), **files, "models": told})
        return
    places = {"report": target, "figures": figures, "events": tensorboard}
    display(*(f"{what}: {where}" for what, where in places.items() if where is not None))
