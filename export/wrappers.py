"""The stages as export sees them: fixed names, batch 1, no masks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_tta.bundle.manifest import Port
from edge_tta.config import ModelConfig
from edge_tta.model.codec import Decoder
from edge_tta.model.generator import Generator
from edge_tta.model.public_t5 import T5TextEncoder
from edge_tta.model.text_encoder import TextEncoder


class TextEncoderGraph(nn.Module):
    """ids int64 [1, T] -> tokens float32 [1, T, D], pooled float32 [1, D]."""

    def __init__(self, encoder: TextEncoder | T5TextEncoder) -> None:
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


class SingleStepGraph(nn.Module):
    """latent [1, L, C], text, seconds [1] and guidance [1] -> velocity [1, L, C] for one step from t = 1 to r = 0.

    The embeddings of time and duration are constants. The text enters the same sum before the nonlinearity, so
    nothing behind it can be folded without changing the result.
    """

    one: Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1), persistent=False)
        with torch.no_grad():
            interval = generator.time_in(self.one) + generator.duration_in(self.one)
        self.generator = copy.copy(generator)
        folded = {"time_in": Fixed(interval), "duration_in": Fixed(torch.zeros_like(interval))}
        self.generator._modules = {**generator._modules, **folded}

    def forward(
        self, latent: Tensor, tokens: Tensor, pooled: Tensor, seconds: Tensor, guidance: Tensor
    ) -> Tensor:
        """Run the generator with the text as it is."""
        velocity: Tensor = self.generator(latent, self.one, self.one, tokens, pooled, seconds, guidance)
        return velocity


class Fixed(nn.Module):
    """A module whose output does not depend on its input any more."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(self, _: Tensor) -> Tensor:
        """The constant."""
        return self.value


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
class ModelParts:
    """The modules of a complete model, in evaluation mode."""

    config: ModelConfig
    text_encoder: TextEncoder | T5TextEncoder
    """A public T5 goes into ONNX variants only."""
    generator: Generator
    decoder: Decoder


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

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Dynamic dimensions of every input by axis, as ``torch.export`` takes them."""
        dimensions = {
            name: torch.export.Dim(name, min=low, max=high) if low < high else None
            for name, (low, high) in self.lengths.items()
        }
        return tuple(
            {axis: dimensions[size] for axis, size in enumerate(port.shape) if isinstance(size, str)}
            for port in self.input_ports
        )


def stage_graphs(
    parts: ModelParts, explicit_attention: bool = True, single_step: bool = False
) -> dict[str, StageGraph]:
    """All stages of a model, in order; ``parts`` stay as they are, and share weights with all but the decoder.

    Args:
        parts: the modules.
        explicit_attention: write attention out as matmul, softmax, matmul, instead of one fused operator.
        single_step: fold time and duration for one step; the generator then has no such inputs.
    """
    text, audio = parts.config.text_encoder, parts.config.audio
    # Shallow copies: the flag is theirs, the weights are not.
    text_encoder, generator = copy.copy(parts.text_encoder), copy.copy(parts.generator)
    text_encoder.explicit_attention = generator.explicit_attention = explicit_attention
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
    noise = draw(1, length, audio.latent_channels)
    condition = draw(1, tokens, text.width), draw(1, text.width), torch.full((1,), 2.0), torch.full((1,), 3.0)
    interval = () if single_step else (torch.ones(1), torch.ones(1))
    interval_ports = () if single_step else (scalar("time"), scalar("duration"))
    return {
        "text_encoder": StageGraph(
            TextEncoderGraph(text_encoder).eval(),
            (torch.arange(tokens)[None],),
            (Port(name="ids", dtype="int64", shape=[1, "tokens"]),),
            features,
            words,
        ),
        "generator": StageGraph(
            (SingleStepGraph(generator) if single_step else GeneratorGraph(generator)).eval(),
            (noise, *interval, *condition),
            (latent, *interval_ports, *features, scalar("seconds"), scalar("guidance")),
            (floats("velocity", 1, "length", audio.latent_channels),),
            {**frames, **words},
        ),
        "decoder": StageGraph(
            DecoderGraph(parts.decoder.with_bins_apart()).eval(),
            (draw(1, length, audio.latent_channels),),
            (latent,),
            (floats("waveform", 1, audio.channels, "samples"),),
            frames,
        ),
    }
