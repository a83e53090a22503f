"""Bundles of any preset with seeded random weights: their speed and size are those of a trained model.

python -m export.random_weights edge-120m --target onnx --target executorch --target coreml -o DIRECTORY
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import Generation
from edge_tta.config import ModelConfig
from edge_tta.errors import EdgeTTAError
from edge_tta.model.checkpoint import ModelCheckpoint, build_module
from edge_tta.model.presets import preset
from export.assemble import export_bundle
from export.bundle_text import BundleText
from export.recipe import ExportRecipe, join_recipes, load_export_recipe
from quantization.calibration import CalibrationList


def random_checkpoint(config: ModelConfig, tokenizer: bytes) -> ModelCheckpoint:
    """Checkpoint with seeded weights; zero-initialised layers get weights too."""
    with torch.random.fork_rng():
        torch.manual_seed(2024)
        modules = {part: build_module(part, config).eval() for part in ("text_encoder", "generator", "codec")}
        for module in modules.values():
            for weight in module.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight, std=0.05)
    return ModelCheckpoint(config, modules["text_encoder"], modules["generator"], modules["codec"], tokenizer)  # type: ignore[arg-type]


def write_random_bundle(
    checkpoint: ModelCheckpoint,
    target: Path,
    recipe: ExportRecipe,
    calibration: CalibrationList | None = None,
) -> Bundle:
    """Write the bundle of a ``random_checkpoint``; see ``export_bundle``."""
    name = checkpoint.config.name
    text = BundleText(
        version="1.0.0",
        description="Random weights; for tests of the runtime.",
        licence="Apache-2.0",
        training_data="None: weights are random.",
        model_card=f"# {name}\n\nRandom weights for tests. It makes noise, not sounds.\n",
        attributions="id,title,attribution,licence,url\n",
        commit="",
        checkpoint="seed 2024",
        generation=Generation(default_guidance=3.0, min_guidance=1.0, max_guidance=5.0, max_steps=8),
    )
    return export_bundle(checkpoint, target, text, recipe, calibration=calibration)


def write_preset_bundle(
    name: str, target: Path, targets: Sequence[str], precisions: Sequence[str] | None = None
) -> Bundle:
    """Write a bundle of a preset, with the tokenizer of the shipped model and weights that bf16 holds exactly.

    Checkpoints store bf16, and what is exactly that takes half the bytes of a bundle's float weights.

    Args:
        name: preset.
        target: folder to write.
        targets: names of export recipes.
        precisions: variants to keep; all by default.

    Raises:
        EdgeTTAError: unknown names, or a tool is missing.
    """
    checkpoint = random_checkpoint(preset(name), Bundle.open(None).tokenizer_bytes())
    for module in (checkpoint.text_encoder, checkpoint.generator, checkpoint.codec):
        for weight in module.parameters() if module else ():
            weight.data = weight.data.bfloat16().float()
    recipe = join_recipes([load_export_recipe(item) for item in targets], precisions=precisions)
    return write_random_bundle(checkpoint, target, recipe)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    top = argparse.ArgumentParser(
        prog="python -m export.random_weights", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("preset", help="such as edge-120m")
    top.add_argument("--target", action="append", help="as of edge-tta export; onnx by default")
    top.add_argument("--precision", action="append", help="keep only variants in this precision")
    top.add_argument("-o", "--output", type=Path, required=True, help="bundle folder to write")
    options = top.parse_args(arguments)
    try:
        bundle = write_preset_bundle(
            options.preset, options.output, options.target or ["onnx"], options.precision
        )
        sys.stdout.write(f"{bundle.manifest.name}@{bundle.digest[:12]} in {options.output}\n")
    except EdgeTTAError as error:
        sys.stderr.write(f"export.random_weights: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
