"""``edge-tta evaluate-novelty``: whether generated sounds replay training clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.judging import progress_bar, show_report
from edge_tta.cli.options import Threads


def evaluate_novelty(
    sounds: Annotated[Path, typer.Argument(help="Folder of generated sounds, as of evaluate --audio.")],
    reference: Annotated[Path, typer.Option(help="Folder of real clips with a metadata.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report and picture.")] = Path(
        "evaluation"
    ),
    threads: Threads = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare sounds with every training clip: is any of them a replay, and how near do new recordings come."""
    from edge_tta.evaluate.novelty import evaluate_novelty as judge
    from edge_tta.evaluate.novelty import novelty_markdown

    with progress_bar("reading sounds") as progress:
        report = judge(sounds, reference, output, threads=threads, on_progress=progress)
    show_report(report, novelty_markdown, output, json_output)
