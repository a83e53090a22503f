"""``edge-tta evaluate-codec``: judge what the codec loses, by recognition and by distance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.judging import progress_bar, show_report
from edge_tta.cli.options import Threads


def evaluate_codec(
    reference: Annotated[Path, typer.Option(help="Folder of real clips with a metadata.csv.")],
    checkpoint: Annotated[Path, typer.Argument(help="Model checkpoint that holds the codec.")] = Path(
        "checkpoints/edge-10m"
    ),
    tagger: Annotated[Path, typer.Option(help="Folder of the sound tagger.")] = Path("checkpoints/tagger"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report and pictures.")] = Path(
        "evaluation"
    ),
    threads: Threads = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge a codec on validation clips: what a tagger still recognises, and spectral distances."""
    from edge_tta.cli.extras import require

    require("torch", "eval", "judging a codec")
    from edge_tta.evaluate.report import codec_markdown
    from edge_tta.evaluate.run import evaluate_codec as judge
    from edge_tta.model.reconstruct import open_codec

    reconstruct = open_codec(checkpoint)
    with progress_bar("reconstructing") as progress:
        report = judge(
            reconstruct,
            reference,
            tagger,
            output,
            subject=checkpoint.name,
            threads=threads,
            on_progress=lambda done, total: progress("reconstructing", done, total),
        )
    show_report(report, codec_markdown, output, json_output)
