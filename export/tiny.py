"""The tiny bundle: every part of a real one with seeded random weights, so the whole runtime can be tested exactly.

python -m export.tiny DIRECTORY [RECIPE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import Generation
from edge_tta.config import ModelConfig
from edge_tta.model.checkpoint import ModelCheckpoint, build_module
from edge_tta.model.presets import preset
from edge_tta.train.tokenizer import train_tokenizer
from export.assemble import export_bundle
from export.bundle_text import BundleText
from export.recipe import ExportRecipe, join_recipes, load_export_recipe

SENTENCES = (
    "rain on a tin roof", "a dog barking in the distance", "thunder and wind", "birds singing in the morning",
    "a clock ticking", "waves on the shore", "someone knocking on a wooden door", "a cat meowing",
)  # fmt: skip


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


def tiny_checkpoint() -> ModelCheckpoint:
    """``random_checkpoint`` of the edge-tiny preset with a tokenizer of its own."""
    config = preset("edge-tiny")
    return random_checkpoint(config, train_tokenizer(SENTENCES, config.text_encoder.vocab_size))


def write_random_bundle(checkpoint: ModelCheckpoint, target: Path, recipe: ExportRecipe) -> Bundle:
    """Write the bundle of a ``random_checkpoint``."""
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
    return export_bundle(checkpoint, target, text, recipe)


def write_tiny_bundle(target: Path, recipe: ExportRecipe | None = None) -> Bundle:
    """Write the tiny bundle; the recipe is ONNX in float by default."""
    recipe = recipe or join_recipes([load_export_recipe("onnx")], precisions=("fp32",))
    return write_random_bundle(tiny_checkpoint(), target, recipe)


if __name__ == "__main__":
    write_tiny_bundle(Path(sys.argv[1]), load_export_recipe(sys.argv[2]) if len(sys.argv) > 2 else None)
