"""``edge-tta couples``: let a trained generator make couples of noise and data, and store them for reflow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.options import Quiet


def couples(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the couples.")],
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Recipe that will train on them, packaged or a TOML file: its teacher makes them."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="In place of a recipe: model checkpoint whose generator makes them.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe. May be repeated.")
    ] = None,
    count: Annotated[int, typer.Option(help="Couples in all.", min=1)] = 4096,
    guidance: Annotated[
        str | None, typer.Option(help="One scale such as 4, or a range such as 2:6; the recipe's, or 3.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Euler steps; the recipe's, or 24.", min=1)] = None,
    anchored: Annotated[
        bool,
        typer.Option("--anchored", help="Hold the null embedding near the unguided way; 15 times as slow."),
    ] = False,
    reflowed: Annotated[
        bool, typer.Option("--reflowed", help="The generator has its guidance as an input: one pass a step.")
    ] = False,
    captions: Annotated[
        str | None, typer.Option(help="Caption grammar: captions, digits or a TOML file; the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of captions, noise and scales.", min=0)] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda and so on; an accelerator if there is one.")
    ] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make couples of noise and data with a trained generator. Run again, it goes on where it was stopped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.errors import ConfigError

    require("torch", "train", "training")
    from edge_tta.train.couple_plan import CouplePlan, change_simulation, plan_of_recipe
    from edge_tta.train.couples import make_couples
    from edge_tta.train.recipes import load_recipe

    if (recipe is None) == (checkpoint is None):
        raise ConfigError("give a recipe or --checkpoint, one of the two")
    if checkpoint is not None and overrides:
        raise ConfigError("--set changes a recipe; with --checkpoint there is none")
    if recipe is not None:
        plan = plan_of_recipe(load_recipe(recipe, list(overrides or [])))
    else:
        plan = CouplePlan(checkpoint=str(checkpoint))
    simulation = change_simulation(plan.simulation, steps, guidance, anchored, reflowed)
    plan = dataclasses.replace(plan, simulation=simulation, seed=seed, captions=captions or plan.captions)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        task = bars.add_task("making couples", total=count, note="")

        def show(done: int, total: int, left: float) -> None:
            minutes, seconds = divmod(round(left), 60)
            note = f"{minutes // 60:d}:{minutes % 60:02d}:{seconds:02d} left"
            bars.update(task, completed=done, total=total, note=note)

        outcome = make_couples(plan, output, count, device, show)
    if json_output:
        say_json({"schema": "couples/1", **outcome})
    else:
        for name, value in outcome.items():
            say(f"{name:14s} {value}")
