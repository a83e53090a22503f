"""The tiny bundle: every part of a real one with seeded random weights, so the whole runtime can be tested exactly.

python -m export.tiny DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import Generation
from edge_tta.model.checkpoint import ModelCheckpoint, build_module
from edge_tta.model.presets import preset
from edge_tta.train.tokenizer import train_tokenizer
from export.assemble import BundleText, export_bundle

SENTENCES = (
    "rain on a tin roof", "a dog barking in the distance", "thunder and wind", "birds singing in the morning",
    "a clock ticking", "waves on the shore", "someone knocking on a wooden door", "a cat meowing",
)  # fmt: skip


def tiny_checkpoint() -> ModelCheckpoint:
    """Checkpoint of the edge-tiny preset with seeded weights; zero-initialised layers get weights too."""
    config = preset("edge-tiny")
    tokenizer = train_tokenizer(SENTENCES, config.text_encoder.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(2024)
        modules = {part: build_module(part, config).eval() for part in ("text_encoder", "generator", "codec")}
        for module in modules.values():
            for weight in module.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight, std=0.05)
    return ModelCheckpoint(config, modules["text_encoder"], modules["generator"], modules["codec"], tokenizer)  # type: ignore[arg-type]


def write_tiny_bundle(target: Path) -> Bundle:
    """Write the tiny bundle."""
    text = BundleText(
        version="1.0.0",
        description="Random weights; for tests of the runtime.",
        licence="Apache-2.0",
        training_data="None: weights are random.",
        model_card="# edge-tiny\n\nRandom weights for tests. It makes noise, not sounds.\n",
        attributions="id,title,attribution,licence,url\n",
        commit="",
        checkpoint="seed 2024",
        generation=Generation(default_guidance=3.0, min_guidance=1.0, max_guidance=5.0, max_steps=8),
    )
    return export_bundle(tiny_checkpoint(), target, text, None, precisions=("fp32",))


if __name__ == "__main__":
    write_tiny_bundle(Path(sys.argv[1]))
