"""What the decoder's magnitudes are multiplied by: tones, transients and noise of unit power, as real and imaginary
parts of every STFT bin.

A tone's phase is the running sum of its advances along time, a transient's the running sum of its delays along
frequency; both derivatives follow from magnitudes (Prusa, Balazs & Sondergaard, "A noniterative method for
reconstruction of phase from STFT magnitude", 2017, eqs. 5-6). What is neither takes its phase from one fixed
white-noise signal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import AudioSpec, CodecConfig
from edge_tta.model.folded_dft import ByParity
from edge_tta.model.stft import StftGeometry, band_matrix
from edge_tta.noise import gaussian_noise

NOISE_SEED = 20260101
"""Seed of the fixed white noise whose STFT gives noisy bins their phase."""


class Mixture(NamedTuple):
    """What the excitation is made of, per STFT frame; T tonal bins, W bands."""

    advance: tuple[ByParity, ByParity]
    """Cosine and sine of the phase advance of tonal bins, float32 [..., frames, T'] each."""
    delay: tuple[Tensor, Tensor]
    """Cosine and sine of the phase step from one bin to the next, float32 [..., frames, W] each."""
    tonality: Tensor
    """float32 [..., frames, W] in 0..1: share of the power that is tone."""
    impulsiveness: Tensor
    """float32 [..., frames, W] in 0..1: share of the rest that is transient."""


class BinConstants(nn.Module):
    """What is known of the even or the odd bins.

    Args:
        geometry: the STFT.
        config: codec.
        bands: 0/1 matrix [W, K] of all bins.
        noise: int8 [2, noise_frames, K] of all bins.
        first: 0 for the even bins, 1 for the odd.
    """

    to_bins: Tensor
    to_tonal_bins: Tensor
    to_slope: Tensor
    centre_phase: Tensor
    noise: Tensor

    def __init__(
        self, geometry: StftGeometry, config: CodecConfig, bands: Tensor, noise: Tensor, first: int
    ) -> None:
        super().__init__()
        own = slice(first, None, 2)
        self.register_buffer("to_bins", bands[:, own].contiguous(), persistent=False)
        tonal = bands[:, : config.tonal_bins][:, own].contiguous()
        self.register_buffer("to_tonal_bins", tonal, persistent=False)
        # A running sum over the bins of a band matrix's product is a product with its running sum.
        slope = torch.cumsum(bands, dim=1)[:, own].contiguous()
        self.register_buffer("to_slope", slope, persistent=False)
        # A tone at a bin's centre advances by 2 pi k hop / n_fft a frame, which repeats within one latent frame.
        frame = torch.arange(geometry.frames_per_latent, dtype=torch.float64)[:, None]
        turns = torch.remainder(frame * geometry.centre_turns, 1.0)[:, : config.tonal_bins][:, own]
        self.register_buffer("centre_phase", (2 * math.pi * turns).float(), persistent=False)
        self.register_buffer("noise", noise[..., own].contiguous(), persistent=False)


class Excitation(nn.Module):
    """Unit-power complex excitation of every bin.

    Args:
        config: codec.
        audio: audio format.
        geometry: the STFT.
    """

    can_be_tonal: Tensor
    noise_scale: Tensor

    def __init__(self, config: CodecConfig, audio: AudioSpec, geometry: StftGeometry) -> None:
        super().__init__()
        self.noise_frames, self.frames_per_latent = config.noise_frames, geometry.frames_per_latent
        bands = band_matrix(geometry.bins, config.bands, audio.sample_rate / config.n_fft)
        noise, scale = _noise(geometry, config.noise_frames)
        self.even, self.odd = (BinConstants(geometry, config, bands, noise, first) for first in (0, 1))
        self.register_buffer("noise_scale", scale, persistent=False)
        # A band is tonal only if every bin of it has an advance.
        without = bands[:, config.tonal_bins :].sum(1)
        self.register_buffer("can_be_tonal", (without == 0).float(), persistent=False)

    def forward(self, mixture: Mixture, noise_start: int = 0) -> tuple[ByParity, ByParity]:
        """Real and imaginary parts [..., frames, K'] of a mixture.

        Args:
            mixture: per frame.
            noise_start: frame of the fixed noise that the first one takes.
        """
        cosine, sine = mixture.advance
        delay = torch.atan2(mixture.delay[1], mixture.delay[0])
        # Shares of the power are decided per band; square roots there cost an eighth of what they would per bin.
        tone_share = mixture.tonality * self.can_be_tonal
        click_share = mixture.impulsiveness * (1.0 - tone_share)
        tone = torch.sqrt(at_least(tone_share, 1e-8))
        click = torch.sqrt(at_least(click_share, 1e-8))
        rest = torch.sqrt(at_least(1.0 - tone_share - click_share, 1e-8)) * self.noise_scale
        levels = tone, click, rest
        even = self._bins(self.even, torch.atan2(sine.even, cosine.even), delay, levels, noise_start)
        odd = self._bins(self.odd, torch.atan2(sine.odd, cosine.odd), delay, levels, noise_start)
        return ByParity(even[0], odd[0]), ByParity(even[1], odd[1])

    def _bins(
        self,
        constants: BinConstants,
        advance: Tensor,
        delay: Tensor,
        levels: tuple[Tensor, Tensor, Tensor],
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts of the even or of the odd bins; levels of tone, click and rest per band."""
        index = torch.arange(advance.shape[-2], device=advance.device)
        centre = constants.centre_phase[torch.remainder(index, self.frames_per_latent)]
        # Counted from the front: coremltools knows no other way here.
        phase = torch.cumsum(advance, dim=advance.dim() - 2) + centre
        slope = torch.matmul(delay, constants.to_slope)
        tone = torch.matmul(levels[0], constants.to_tonal_bins)
        click, rest = (torch.matmul(level, constants.to_bins) for level in levels[1:])
        # The whole noise is made float, not the frames that are used: runtimes do that once, when they load the graph.
        noise = constants.noise.to(phase.dtype)[:, torch.remainder(index + start, self.noise_frames)]
        high = (0, click.shape[-1] - tone.shape[-1])
        return (
            F.pad(tone * torch.cos(phase), high) + click * torch.cos(slope) + rest * noise[0],
            F.pad(tone * torch.sin(phase), high) + click * torch.sin(slope) + rest * noise[1],
        )


def _noise(geometry: StftGeometry, frames: int) -> tuple[Tensor, Tensor]:
    """The fixed noise: int8 [2, frames, K] of real and imaginary parts, and what one is worth."""
    samples = gaussian_noise(NOISE_SEED, (frames * geometry.hop,))
    # In double precision, or threads and the processor's FFT would show in the bytes of an export.
    stft = geometry.analyse(torch.from_numpy(samples).double())
    # Mean log-magnitude 0, so that a predicted mean log-magnitude stays unbiased under the noise.
    stft = stft / torch.exp(torch.log(stft.abs() + 1e-12).mean())
    pair = torch.stack([stft.real, stft.imag])
    scale = pair.abs().max() / 127.0
    return torch.round(pair / scale).to(torch.int8), scale.float()


def at_least(x: Tensor, floor: float) -> Tensor:
    """Not below a floor; a sum with a number this small is taken for the number itself when a graph is exported."""
    return x.clamp(min=floor)
