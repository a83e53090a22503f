"""``edge-tta evaluate-novelty``: whether generated sounds replay training clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate_novelty(
    sounds: Annotated[Path, typer.Argument(help="Folder of generated sounds, as of evaluate --audio.")],
    reference: Annotated[Path, typer.Option(help="Folder of real clips with a metadata.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report and picture.")] = Path(
        "evaluation"
    ),
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare sounds with every training clip: is any of them a replay, and how near do new recordings come."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.progress import Progress

    from edge_tta.evaluate.novelty import evaluate_novelty as judge
    from edge_tta.evaluate.novelty import novelty_markdown
    from edge_tta.evaluate.report import report_json

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading sounds", total=None)
        report = judge(
            sounds,
            reference,
            output,
            on_progress=lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    if json_output:
        typer.echo(report_json(report), nl=False)
    else:
        Console().print(Markdown(novelty_markdown(report)))
        typer.echo(f"Written to {output}")
