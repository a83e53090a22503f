"""``edge-tta generate``: prompts to sound files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edge_tta.cli.options import Threads

if TYPE_CHECKING:
    from edge_tta.runtime.request import GenerationRequest, GenerationResult

DEFAULT_PROMPT = "rain on a tin roof, distant thunder"


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to hear; 'rain + thunder (-6 dB)' mixes two sounds. A sample prompt by default.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File (.wav, .flac), directory, or - for standard output."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Duration.")] = 5.0,
    seed: Annotated[str, typer.Option(help="Whole number from 0, or 'random'.")] = "0",
    steps: Annotated[
        int,
        typer.Option(
            help="Network steps, 1 to 8. The shipped model is made for 1; more take longer and sound no better."
        ),
    ] = 1,
    guidance: Annotated[
        float | None, typer.Option(help="How strictly to follow the prompt; the bundle's own by default.")
    ] = None,
    count: Annotated[int, typer.Option(help="Variations, with the seeds N, N + 1 and so on.")] = 1,
    file: Annotated[
        str | None, typer.Option(help="Text file with a prompt per line, - for standard input.")
    ] = None,
    threads: Threads = None,
    precision: Annotated[str, typer.Option(help="int8, fp32 or another that the bundle has.")] = "int8",
    backend: Annotated[str, typer.Option(help="auto, ort, executorch, coreml or eager.")] = "auto",
    compute_units: Annotated[
        str, typer.Option(help="For coreml: all, cpu, cpu+gpu or cpu+neural-engine.")
    ] = "all",
    bundle: Annotated[
        str | None,
        typer.Option(help="Bundle folder or name (checkpoint folder for eager); the shipped one by default."),
    ] = None,
    no_comment: Annotated[
        bool, typer.Option("--no-comment", help="Do not store prompt and settings in the file.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print everything about the result as JSON.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")
    ] = False,
) -> None:
    """Make sounds from prompts. Without arguments: a sample sound in edge-tta.wav."""
    from edge_tta.cli.console import note, say, say_json
    from edge_tta.cli.prompts import make_requests
    from edge_tta.cli.targets import Targets
    from edge_tta.runtime import TextToAudio

    requests = make_requests(
        prompt, file, DEFAULT_PROMPT, seconds=seconds, seed=seed, steps=steps, guidance=guidance, count=count
    )
    targets = Targets.resolve(output, requests, with_comment=not no_comment)
    talk = note if targets.is_stdout else say
    records = []
    with TextToAudio.open(
        bundle, backend=backend, precision=precision, threads=threads, compute_units=compute_units
    ) as model:
        results = model.generate_many(requests)
        for target, result in zip(targets.paths, results, strict=True):
            written = targets.write(target, result)
            for warning in result.warnings:
                note(f"edge-tta: warning: {warning}")
            if json_output:
                records.append({"path": str(written), **result.as_dict()})
            elif not quiet:
                name = "standard output" if targets.is_stdout else str(written)
                for line in _summary(name, result) if len(targets.paths) == 1 else [_short(name, result)]:
                    talk(line)
    if json_output:
        say_json({"schema": "generate/1", "sounds": records}, to_stderr=targets.is_stdout)


def _short(name: str, result: GenerationResult) -> str:
    timings = result.timings
    return f"{name}  {result.audio.seconds:.2f} s, seed {result.seed}, made in {timings.total * 1000:.1f} ms"


def _summary(name: str, result: GenerationResult) -> list[str]:
    timings, request = result.timings, result.request
    faster = 1.0 / timings.real_time_factor(result.audio.seconds)
    variant = f"{result.bundle} in {result.precision} on {result.backend}{_threads(result)}"
    return [
        f"{name}: {result.audio.seconds:.2f} s of “{request.prompt}”",
        f"  seed {result.seed}, {_steps(request)}, guidance {result.guidance:g}, {variant}",
        f"  made in {timings.total * 1000:.1f} ms, {faster:.0f} times faster than it plays",
        f"    load          {timings.load * 1000:8.1f} ms, once",
        f"    tokenizer     {timings.tokenizer * 1000:8.1f} ms",
        f"    text encoder  {timings.text_encoder * 1000:8.1f} ms",
        f"    generator     {timings.generator * 1000:8.1f} ms",
        f"    decoder       {timings.decoder * 1000:8.1f} ms",
    ]


def _threads(result: GenerationResult) -> str:
    return f", {result.threads} threads" if result.threads else ""


def _steps(request: GenerationRequest) -> str:
    return "1 step" if request.steps == 1 else f"{request.steps} steps"
