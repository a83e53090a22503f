"""``edge-tta evaluate``: judge a bundle against real clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.judging import progress_bar, show_report
from edge_tta.cli.options import BundleArgument, Guidance, SoundSeconds, Steps, Threads


def evaluate(
    prompts: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns prompt, label and optionally suite; or labels, paraphrases, digits."
        ),
    ],
    reference: Annotated[Path, typer.Option(help="Folder of real clips with a metadata.csv.")],
    bundle: BundleArgument = None,
    tagger: Annotated[Path, typer.Option(help="Folder of the sound tagger.")] = Path("checkpoints/tagger"),
    embedder: Annotated[
        list[str] | None,
        typer.Option(help="Further judge from local weights: clap=FOLDER, panns=FILE or vggish=FILE."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report and pictures.")] = Path(
        "evaluation"
    ),
    seeds: Annotated[int, typer.Option(help="Clips per prompt.", min=1)] = 4,
    seconds: SoundSeconds = 5.0,
    steps: Steps = 1,
    guidance: Guidance = None,
    precision: Annotated[str, typer.Option(help="int8 or fp32.")] = "int8",
    backend: Annotated[str, typer.Option(help="Runtime backend.")] = "auto",
    threads: Threads = None,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the generated clips as WAV.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Write sounds.html, to listen to the first sound of every prompt.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge a bundle: adherence, distances to real sounds, diversity, and a sheet of spectrograms."""
    from edge_tta.evaluate.report import generator_markdown
    from edge_tta.evaluate.run import evaluate_bundle
    from edge_tta.evaluate.suite import find_prompts

    with progress_bar("generating") as progress:
        report = evaluate_bundle(
            bundle,
            find_prompts(prompts),
            reference,
            tagger,
            output,
            seeds_per_prompt=seeds,
            seconds=seconds,
            steps=steps,
            guidance=guidance,
            precision=precision,
            backend=backend,
            threads=threads,
            embedders=embedder or (),
            write_audio=audio,
            write_page=page,
            on_progress=lambda done, total: progress("generating", done, total),
        )
    show_report(report, generator_markdown, output, json_output)
