"""``edge-tta validate``: does a quantized or exported model still make the sounds of the float model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.options import (
    BundleArgument,
    Guidance,
    PromptLists,
    Quiet,
    ReferenceModel,
    SoundSeconds,
    Steps,
    TaggerFolder,
    Threads,
)


def validate(
    bundle: BundleArgument = None,
    reference: ReferenceModel = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant to compare, all by default. May be repeated.", show_default=False),
    ] = None,
    prompts: PromptLists = None,
    count: Annotated[int, typer.Option(help="Prompts, spread evenly over the lists.", min=1)] = 64,
    seeds: Annotated[int, typer.Option(help="Sounds per prompt.", min=1)] = 2,
    first_seed: Annotated[
        int, typer.Option(help="Seed of the first sound; the others count on from it.", min=0)
    ] = 0,
    seconds: SoundSeconds = 5.0,
    steps: Steps = 1,
    guidance: Guidance = None,
    threads: Threads = None,
    reference_clips: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real clips with a metadata.csv, for the Fréchet distance.", show_default=False
        ),
    ] = None,
    tagger: TaggerFolder = None,
    gates: Annotated[
        Path | None, typer.Option(help="TOML file of gates; packaged ones by default.", show_default=False)
    ] = None,
    worst: Annotated[int, typer.Option(help="Sounds per variant that the page plays.", min=0, max=50)] = 5,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for page, JSON and Markdown.")
    ] = Path("validation"),
    interpret: Annotated[
        bool,
        typer.Option(
            "--interpret",
            help="Run Core ML variants by the export tools' interpreter of saved programs: no Mac needed, slow.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Fail with exit code 5 if a gate fails, or what was asked for was not measured."
        ),
    ] = False,
    allow_unmeasured: Annotated[
        bool,
        typer.Option("--allow-unmeasured", help="With --strict: let pass what could not be measured here."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Hold every variant of a bundle against its float model: stage by stage, by ear, and by gates."""
    from edge_tta.cli.console import note, say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.cli.progress import shown_progress
    from edge_tta.errors import GateError, RequestError

    if allow_unmeasured and not strict:
        raise RequestError("--allow-unmeasured is for --strict; nothing else fails for want of a measurement")
    for package in ("PIL", "pyloudnorm", "scipy"):
        require(package, "eval", "validating a bundle")
    from edge_tta.evaluate.parity_session import Loader
    from edge_tta.evaluate.parity_sources import DEFAULT_PROMPTS, ValidationOptions
    from edge_tta.evaluate.parity_strict import strict_failures
    from edge_tta.evaluate.parity_text import limit_text, measured_text, variant_sentence, verdict
    from edge_tta.evaluate.validate import validate_bundle
    from edge_tta.runtime.backend import load_variant

    options = ValidationOptions(
        reference=reference,
        variants=tuple(variant or ()),
        prompts=tuple(prompts or DEFAULT_PROMPTS),
        count=count,
        seeds=seeds,
        first_seed=first_seed,
        seconds=seconds,
        steps=steps,
        guidance=guidance,
        threads=threads,
        tagger=tagger,
        reference_clips=reference_clips,
        gates=gates,
        worst=worst,
    )
    load: Loader = load_variant
    if interpret:
        for package, extra in (("coremltools", "coreml"), ("torch", "export")):
            require(package, extra, "the interpreter of Core ML programs")
        from export.interpreted import load_interpreted

        load = load_interpreted
    with shown_progress(quiet) as report_progress:
        report = validate_bundle(bundle, output, options, on_progress=report_progress, load=load)
    if json_output:
        from dataclasses import asdict

        verdicts = [
            {
                "name": found.name,
                "status": found.status,
                "reason": found.reason,
                "passed": found.passed,
                "calibrated_on": found.calibrated_on,
                "gates": [asdict(gate) for gate in found.gates],
            }
            for found in report.variants
        ]
        say_json(
            {
                "schema": "validate-verdicts/1",
                "path": str(output),
                "passed": report.passed,
                "variants": verdicts,
            }
        )
    else:
        for found in report.variants:
            say(variant_sentence(found))
            for gate in found.gates:
                say(f"  {verdict(gate):12s} {gate.title}: {measured_text(gate)}, asked {limit_text(gate)}")
        say(f"Written to {output / 'validate.html'}")
    for found in report.variants:
        if found.calibrated_on:
            note(
                f"edge-tta: warning: {found.name} was calibrated on {found.calibrated_on}, the list that it is judged "
                "by; judge it by other prompts (--prompts)"
            )
    for name, reason in report.not_measured.items():
        note(f"not measured: {name} ({reason})")
    if strict and (failures := strict_failures(report, options.variants, allow_unmeasured=allow_unmeasured)):
        raise GateError(f"{'; '.join(failures)} ({output / 'validate.html'} has the details)")
