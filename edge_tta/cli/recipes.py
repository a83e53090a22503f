"""``edge-tta recipes``: the packaged training recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Show or copy the packaged training recipes.", rich_markup_mode=None)


@app.command("ls")
def list_all(
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the packaged recipes."""
    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require

    require("torch", "train", "training")
    from edge_tta.train.recipes import list_recipes

    recipes = list_recipes()
    if json_output:
        say_json({"schema": "recipes/1", "recipes": recipes})
    else:
        for name, description in recipes.items():
            say(f"{name:24s} {description}")


@app.command("cp")
def copy(
    name: Annotated[str, typer.Argument(help="Name of a packaged recipe.")],
    destination: Annotated[Path, typer.Argument(help="File or folder to copy it to.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Copy a recipe, to change it."""
    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require

    require("torch", "train", "training")
    from edge_tta.train.recipes import copy_recipe

    target = copy_recipe(name, destination)
    if json_output:
        say_json({"schema": "recipes-cp/1", "recipe": name, "path": str(target)})
    else:
        say(str(target))
