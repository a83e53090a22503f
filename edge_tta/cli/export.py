"""``edge-tta export``: from a checkpoint to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tta.cli.options import Quiet


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint folder with bundle.toml, MODEL_CARD.md and ATTRIBUTIONS.csv.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle folder to write.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="onnx, executorch or coreml, or a recipe file (.toml); onnx by default. May be repeated."
        ),
    ] = None,
    quantization: Annotated[
        list[str] | None,
        typer.Option(
            help="A variant by this quantization recipe, packaged or a file (.toml); without --target the float one "
            "of its runtime comes beside it. May be repeated."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Prompts to find static ranges on, in place of the packaged ones: CSV with the column prompt, or "
            "a text file with a prompt a line.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Keep only variants in this precision. May be repeated.")
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of the public T5 that the checkpoint was trained with, if it was."),
    ] = None,
    single_step: Annotated[
        bool | None,
        typer.Option(
            "--single-step/--any-steps",
            help="Fold time and duration for one step, or keep them; the recipe decides by default.",
            show_default=False,
        ),
    ] = None,
    max_file: Annotated[
        int | None,
        typer.Option(
            help="Store graphs larger than so many MiB in parts, where a host limits the size of files.",
            min=1,
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Export a checkpoint for one or several runtimes; every variant is run and compared with the float model."""
    from edge_tta.cli.console import note, say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.cli.variant_lines import variant_lines

    for package in ("torch", "onnx", "onnxscript"):
        require(package, "export", "exporting")
    if text_encoder is not None:
        for package in ("transformers", "optimum"):
            require(package, "public", "exporting a public text encoder")
    from export.assemble import export_bundle
    from export.bundle_text import read_text
    from export.public_text import load_for_export
    from export.recipe import join_recipes, load_export_recipe, recipe_by_quantization
    from quantization.calibration import read_calibration

    targets = target or ([] if quantization else ["onnx"])
    recipes = [load_export_recipe(name) for name in targets]
    if quantization:
        recipes.append(recipe_by_quantization(quantization, float_beside=not target))
    recipe = join_recipes(recipes, precision, single_step)
    prompts = None if calibration is None else read_calibration(calibration)
    text = read_text(checkpoint)
    model = load_for_export(checkpoint, text_encoder)
    limit = None if max_file is None else max_file * 2**20
    bundle = export_bundle(model, output, text, recipe, None if quiet else note, limit, prompts)
    variants = bundle.variants
    if json_output:
        calibrations = {name: item.calibration for name, item in variants.items() if item.calibration}
        delegations = {name: item.delegation for name, item in variants.items() if item.delegation}
        say_json(
            {
                "schema": "export/1",
                "bundle": bundle.name,
                "path": str(output),
                "digest": bundle.digest,
                "sizes": {name: item.size() for name, item in variants.items()},
                "parity_snr_db": {name: item.parity_snr_db for name, item in variants.items()},
                "calibration": {name: found.model_dump() for name, found in calibrations.items()},
                "delegation": {
                    name: {stage: found.model_dump() for stage, found in stages.items()}
                    for name, stages in delegations.items()
                },
            }
        )
        return
    say(f"{bundle.name} in {output}")
    for name, variant in variants.items():
        for line in variant_lines(name, variant):
            say(line)
