"""What is compared: latent rates, sizes of the decoder's DFT, and a head without one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edge_tta.config import ModelConfig
from edge_tta.model.presets import preset

Head = Literal["spectrum", "direct"]


@dataclass(frozen=True)
class Variant:
    """One codec."""

    name: str
    title: str
    model: ModelConfig
    head: Head = "spectrum"

    @property
    def latents_per_second(self) -> float:
        """Latent frames that a generator makes for a second."""
        return self.model.audio.sample_rate / self.model.audio.hop


def variants() -> tuple[Variant, ...]:
    """The shipped shape first; every other one differs from it in one thing."""
    base = preset("edge-10m")
    return (
        Variant("shipped", "64 channels at 21.5 Hz, DFT of 1,024", base),
        Variant("half-rate", "64 channels at 10.8 Hz", _rate(base, 4096, 64)),
        Variant("half-rate-wide", "128 channels at 10.8 Hz", _rate(base, 4096, 128)),
        Variant("small-dft", "DFT of 512 in place of 1,024", _dft(base, 512)),
        Variant("direct", "samples in place of a spectrum", base, "direct"),
    )


def _rate(base: ModelConfig, hop: int, channels: int) -> ModelConfig:
    return replace(
        base,
        audio=replace(base.audio, hop=hop, latent_channels=channels),
        generator=replace(base.generator, latent_channels=channels),
        codec=replace(base.codec, latent_channels=channels),
    )


def _dft(base: ModelConfig, size: int) -> ModelConfig:
    codec = base.codec
    ratio = codec.n_fft // size
    smaller = replace(
        codec,
        n_fft=size,
        stft_hop=codec.stft_hop // ratio,
        tonal_bins=codec.tonal_bins // ratio,
        noise_frames=codec.noise_frames * ratio,
    )
    return replace(base, codec=smaller)
