"""``edge-tta train``: run a training recipe."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_tta.cli.options import Quiet

if TYPE_CHECKING:
    from edge_tta.train.data_summary import DataSummary
    from edge_tta.train.progress import Progress as LoopProgress


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a TOML file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set loop.steps=1000. May be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; runs/NAME by default.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check recipe and data, say what would be learnt from, train nothing."
        ),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a part of the model by a recipe. The command "recipes ls" shows the packaged ones."""
    from edge_tta.cli.console import note, say, say_json
    from edge_tta.cli.extras import require

    require("torch", "train", "training")
    from edge_tta.train.processes import is_main_process
    from edge_tta.train.run import run_recipe

    with _Display(quiet or not is_main_process(), say_data=not dry_run) as display:
        outcome = run_recipe(
            recipe,
            list(overrides or []),
            resume,
            output,
            dry_run,
            on_progress=display.on_progress,
            on_preparation=display.on_preparation,
            on_data=display.on_data,
        )
    if not is_main_process():
        return
    if json_output:
        say_json({"schema": "train/1", **outcome})
    else:
        for name, value in outcome.items():
            if value is not None and name != "data":
                say(f"{name:14s} {value}")
        if dry_run:
            for line in display.data:
                say(line)
    if not dry_run and not outcome["finished"]:
        note(f"edge-tta: stopped at step {outcome['step']}; the same command with --resume goes on")
        # As a process that the signal had ended; another rank's signal is told to all as one to terminate.
        raise typer.Exit(128 + (outcome["stopped_by"] or signal.SIGTERM))


class _Display:
    """A progress bar with the time that is left, and the newest figures, on standard error."""

    def __init__(self, quiet: bool, say_data: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), disable=quiet)
        self._tasks: dict[str, Any] = {}
        self._say_data = say_data and not quiet
        self.data: list[str] = []
        """What is learnt from, by lines."""

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        # Without a bar there would be an empty line.
        if self._tasks:
            self._bars.stop()

    def on_data(self, data: DataSummary) -> None:
        """What is learnt from; said above the bars."""
        self.data = [f"{name:14s} {text}" for name, text in data.lines()]
        for line in self.data if self._say_data else ():
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def on_preparation(self, what: str, done: int, total: int) -> None:
        """Decoding and encoding of data."""
        self._show(what, done, total, "")

    def on_progress(self, progress: LoopProgress) -> None:
        """One report of the loop."""
        figures = " ".join(f"{name} {value:.4g}" for name, value in list(progress.values.items())[:5])
        minutes, seconds = divmod(round(progress.eta_seconds), 60)
        note = f"{minutes // 60:d}:{minutes % 60:02d}:{seconds:02d} left  {figures}"
        self._show("training", progress.step, progress.steps, note)

    def _show(self, what: str, done: int, total: int, note: str) -> None:
        if not self._tasks:
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, note=note)
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)
