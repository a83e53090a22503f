"""What codecs cost: their decoders, and a generator over their latents. Weights change no time, so they are random."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.codecs.direct import DirectHead
from benchmarks.codecs.variants import Variant
from edge_tta.model.codec import Decoder
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset

SECONDS = 10.0
"""Of sound."""
ROUNDS = 11
TOKENS = 10

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Cost:
    """Medians over rounds in which every variant runs once, float32 by torch."""

    name: str
    decoder_ms: float
    decoder_ratio: float
    """Over the first variant's in the same round."""
    generator_ms: float
    """One pass of a generator of edge-120m's shape over the latent."""
    generator_ratio: float


def measure_costs(chosen: Sequence[Variant], generator: str = "edge-120m") -> list[Cost]:
    """Time all variants side by side.

    Args:
        chosen: variants; the first is what the others are held against.
        generator: preset whose shape the generator has.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoders = [_decoder(variant) for variant in chosen]
        generators = [_generator(variant, generator) for variant in chosen]
    found = [_side_by_side(calls) for calls in (decoders, generators)]
    return [Cost(variant.name, *found[0][place], *found[1][place]) for place, variant in enumerate(chosen)]


def _latent(variant: Variant) -> Tensor:
    audio = variant.model.audio
    shape = 1, audio.latent_frames(SECONDS), audio.latent_channels
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _decoder(variant: Variant) -> Call:
    decoder, latent = Decoder(variant.model.codec, variant.model.audio).eval(), _latent(variant)
    module = DirectHead(decoder).eval() if variant.head == "direct" else decoder
    return lambda: module(latent)


def _generator(variant: Variant, name: str) -> Call:
    latent = _latent(variant)
    config = replace(preset(name).generator, latent_channels=latent.shape[2])
    module, one = Generator(config).eval(), torch.ones(1)
    tokens, pooled = torch.zeros(1, TOKENS, config.text_width), torch.zeros(1, config.text_width)
    return lambda: module(latent, one, one, tokens, pooled, SECONDS * one, 3 * one)


def _side_by_side(calls: Sequence[Call]) -> list[tuple[float, float]]:
    """Median milliseconds of every call, and median ratio to the first one's time in the same round."""
    rounds: list[list[float]] = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            taken = []
            for call in calls:
                started = time.perf_counter()
                call()
                taken.append(1000.0 * (time.perf_counter() - started))
            rounds.append(taken)
    kept = rounds[1:]
    return [
        (
            statistics.median(row[place] for row in kept),
            statistics.median(row[place] / row[0] for row in kept),
        )
        for place in range(len(calls))
    ]
