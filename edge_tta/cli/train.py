"""``edge-tta train``: run a training recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a TOML file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set loop.steps=1000. May be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; the recipe's own by default.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe and build the modules, train nothing.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Train a part of the model by a recipe; `edge-tta recipes ls` shows the packaged ones."""
    from edge_tta.cli.console import say_json
    from edge_tta.cli.extras import require

    require("torch", "train", "train")
    from edge_tta.train.run import run_recipe

    run_recipe(recipe, list(overrides or []), resume, output, dry_run)
    if json_output:
        say_json({"schema": "train/1", "recipe": recipe, "output": None if output is None else str(output)})
