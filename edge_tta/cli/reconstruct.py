"""``edge-tta reconstruct``: a sound through the codec, to hear what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Sound file (WAV, FLAC, Ogg, MP3).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.wav, .flac).")],
    checkpoint: Annotated[Path, typer.Option(help="Folder of the model checkpoint.")] = Path(
        "checkpoints/edge-10m"
    ),
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Encode and decode a sound with the codec of a checkpoint."""
    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require

    require("torch", "train", "the codec")
    from edge_tta.model.reconstruct import reconstruct_file

    reconstruct_file(source, output, checkpoint)
    if json_output:
        say_json(
            {
                "schema": "reconstruct/1",
                "input": str(source),
                "output": str(output),
                "checkpoint": str(checkpoint),
            }
        )
    else:
        say(f"{output}: {source} through the codec of {checkpoint}")
