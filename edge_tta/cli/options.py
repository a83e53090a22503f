"""Arguments and options that several verbs have, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleArgument = Annotated[
    str | None,
    typer.Argument(help="Bundle folder or name; the shipped one by default.", show_default=False),
]
ReferenceModel = Annotated[
    str | None,
    typer.Option(
        help="Variant of the bundle, or checkpoint folder (torch); the bundle's own fp32 by default.",
        show_default=False,
    ),
]
PromptLists = Annotated[
    list[str] | None,
    typer.Option(
        help="Packaged list by name or CSV file; labels and paraphrases by default. May be repeated.",
        show_default=False,
    ),
]
SoundSeconds = Annotated[float, typer.Option(help="Duration of every sound.")]
Steps = Annotated[int, typer.Option(help="Sampling steps.")]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance; the bundle's own by default.", show_default=False)
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads; the usable cores by default, at most four.", show_default=False),
]
TaggerFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of the sound tagger; checkpoints/tagger by default.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
