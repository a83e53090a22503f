"""The tiny bundle: every part of a real one with seeded random weights, so the whole runtime can be tested exactly.

python -m export.tiny DIRECTORY [RECIPE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_tta.bundle import Bundle
from edge_tta.model.checkpoint import ModelCheckpoint
from edge_tta.model.presets import preset
from edge_tta.train.tokenizer import train_tokenizer
from export.random_weights import random_checkpoint, write_random_bundle
from export.recipe import ExportRecipe, join_recipes, load_export_recipe
from quantization.calibration import CalibrationList

SENTENCES = (
    "rain on a tin roof", "a dog barking in the distance", "thunder and wind", "birds singing in the morning",
    "a clock ticking", "waves on the shore", "someone knocking on a wooden door", "a cat meowing",
)  # fmt: skip


def tiny_checkpoint() -> ModelCheckpoint:
    """``random_checkpoint`` of the edge-tiny preset with a tokenizer of its own."""
    config = preset("edge-tiny")
    return random_checkpoint(config, train_tokenizer(SENTENCES, config.text_encoder.vocab_size))


def write_tiny_bundle(
    target: Path, recipe: ExportRecipe | None = None, calibration: CalibrationList | None = None
) -> Bundle:
    """Write the tiny bundle; the recipe is ONNX in float by default."""
    recipe = recipe or join_recipes([load_export_recipe("onnx")], precisions=("fp32",))
    return write_random_bundle(tiny_checkpoint(), target, recipe, calibration)


if __name__ == "__main__":
    write_tiny_bundle(Path(sys.argv[1]), load_export_recipe(sys.argv[2]) if len(sys.argv) > 2 else None)
