"""The stages as export sees them: fixed names, batch 1, no masks, attention written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_tta.bundle.manifest import Port
from edge_tta.config import ModelConfig
from edge_tta.model.codec import Decoder
from edge_tta.model.generator import Generator
from edge_tta.model.text_encoder import TextEncoder


class TextEncoderGraph(nn.Module):
    """ids int64 [1, T] -> tokens float32 [1, T, D], pooled float32 [1, D]."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder without padding."""
        tokens, pooled = self.encoder(ids)
        return tokens, pooled


class GeneratorGraph(nn.Module):
    """latent [1, L, C], scalars [1] and text -> velocity [1, L, C]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        latent: Tensor,
        time: Tensor,
        duration: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """Run the generator with the text as it is."""
        velocity: Tensor = self.generator(latent, time, duration, tokens, pooled, seconds, guidance)
        return velocity


class DecoderGraph(nn.Module):
    """latent [1, L, C] -> waveform [1, S, L * hop]."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        """Run the decoder."""
        waveform: Tensor = self.decoder(latent)
        return waveform


@dataclass(frozen=True)
class StageGraph:
    """A stage ready to export."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    """Example inputs; dynamic dimensions have a length that no other dimension has."""
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    lengths: dict[str, tuple[int, int]]
    """Smallest and largest value of each dynamic dimension, by name."""


def stage_graphs(
    config: ModelConfig, text_encoder: TextEncoder, generator: Generator, decoder: Decoder
) -> dict[str, StageGraph]:
    """All stages of a model, in order."""
    text, audio = config.text_encoder, config.audio
    text_encoder.explicit_attention = generator.explicit_attention = True
    length, tokens = 37, min(11, text.max_tokens - 1)
    frames = {"length": (1, audio.latent_frames(audio.max_seconds))}
    words = {"tokens": (1, text.max_tokens)}
    make = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make)

    def floats(name: str, *shape: int | str) -> Port:
        return Port(name=name, dtype="float32", shape=list(shape))

    scalar: Callable[[str], Port] = lambda name: floats(name, 1)  # noqa: E731
    latent = floats("latent", 1, "length", audio.latent_channels)
    features = floats("tokens", 1, "tokens", text.width), floats("pooled", 1, text.width)
    inputs: dict[str, Any] = {
        "text_encoder": (torch.arange(tokens)[None],),
        "generator": (
            draw(1, length, audio.latent_channels), torch.ones(1), torch.ones(1), draw(1, tokens, text.width),
            draw(1, text.width), torch.full((1,), 2.0), torch.full((1,), 3.0),
        ),
        "decoder": (draw(1, length, audio.latent_channels),),
    }  # fmt: skip
    return {
        "text_encoder": StageGraph(
            TextEncoderGraph(text_encoder).eval(),
            inputs["text_encoder"],
            (Port(name="ids", dtype="int64", shape=[1, "tokens"]),),
            features,
            words,
        ),
        "generator": StageGraph(
            GeneratorGraph(generator).eval(),
            inputs["generator"],
            (latent, scalar("time"), scalar("duration"), *features, scalar("seconds"), scalar("guidance")),
            (floats("velocity", 1, "length", audio.latent_channels),),
            {**frames, **words},
        ),
        "decoder": StageGraph(
            DecoderGraph(decoder).eval(),
            inputs["decoder"],
            (latent,),
            (floats("waveform", 1, audio.channels, "samples"),),
            frames,
        ),
    }
