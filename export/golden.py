"""Golden vectors of a bundle: one short request through the eager float model."""

from __future__ import annotations

import io

import numpy as np
import torch

from edge_tta.config import AudioSpec
from edge_tta.errors import ConfigError
from edge_tta.noise import gaussian_noise
from edge_tta.text import Tokenizer
from export.recipe import ExportRecipe
from export.variant import Arrays
from export.wrappers import ModelParts, stage_graphs

PROMPT = "rain on a tin roof"
FRAMES = 8
"""Latent frames, where any number will do: enough to cross every receptive field's edge, small enough to ship."""
GUIDANCE = 3.0
SEED = 7


def golden_frames(recipe: ExportRecipe, audio: AudioSpec) -> int:
    """Latent frames that every variant of a recipe can make: the least that all which list durations have.

    Raises:
        ConfigError: one of them is longer than the model's longest sound, or they have none in common.
    """
    for variant in recipe.variants:
        for seconds in variant.seconds:
            if not 0 < seconds <= audio.max_seconds:
                raise ConfigError(
                    f"{variant.name}: {seconds:g} s is out of range: this model makes up to {audio.max_seconds:g} s"
                )
    listed = [set(variant.seconds) for variant in recipe.variants if variant.seconds]
    if not listed:
        return FRAMES
    shared = set.intersection(*listed)
    if not shared:
        raise ConfigError(
            f"export recipe {recipe.name}: its variants have no duration in common to be checked at"
        )
    return audio.latent_frames(min(shared))


def golden_arrays(parts: ModelParts, tokenizer: Tokenizer, frames: int = FRAMES) -> Arrays:
    """Inputs and eager float outputs of every stage for one short request of so many latent frames."""
    config, stages = parts.config, stage_graphs(parts)
    ids = tokenizer.encode(PROMPT).ids[None]
    seconds = frames * config.audio.hop / config.audio.sample_rate
    noise = gaussian_noise(SEED, (frames, config.audio.latent_channels))[None]
    one = torch.ones(1)
    with torch.no_grad():
        tokens, pooled = stages["text_encoder"].module(torch.from_numpy(ids))
        velocity = stages["generator"].module(
            torch.from_numpy(noise), one, one, tokens, pooled, one * seconds, one * GUIDANCE
        )
        latent = torch.from_numpy(noise) - velocity
        waveform = stages["decoder"].module(latent)
    tensors = {
        "tokens": tokens,
        "pooled": pooled,
        "velocity": velocity,
        "latent": latent,
        "waveform": waveform,
    }
    scalars = {
        name: np.array([value], dtype=np.float32)
        for name, value in (("time", 1), ("duration", 1), ("seconds", seconds), ("guidance", GUIDANCE))
    }
    return {"ids": ids, "noise": noise, **scalars, **{name: value.numpy() for name, value in tensors.items()}}


def archive(arrays: Arrays) -> bytes:
    """A NumPy archive whose bytes depend on its arrays alone (numpy stamps entries with a constant date)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()
