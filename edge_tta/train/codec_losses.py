"""Losses and closed-form start of the codec.

Magnitudes and phase derivatives are supervised bin by bin against the STFT of the original, which is a stable
regression; a multi-resolution mel loss on the waveform then sets the energies right where tones and noise mix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.codec import MAGNITUDE_FLOOR, Codec, Posterior, Spectrum
from edge_tta.model.stft import StftGeometry, band_matrix

NOISE_IMPULSIVENESS = 0.46
"""Mean cosine of the second phase difference along frequency of white noise under a Hann window (measured): the
overlap of neighbouring bins makes it positive without any transient, so it is the zero of the scale."""


class SpectrumTargets(NamedTuple):
    """What the decoder's ``Spectrum`` should be, measured on the original; shapes as there."""

    log_magnitude: Tensor
    advance: Tensor
    delay: Tensor
    tonality: Tensor
    impulsiveness: Tensor
    weight: Tensor
    """float32 [B, S, frames, K]: square root of the magnitude, the weight of a bin's phase."""


def bin_weights(bins: int, bin_hz: float) -> Tensor:
    """Weight of each STFT bin in magnitude losses, mean 1: density of bins falls off as hearing's does."""
    hertz = torch.arange(bins) * bin_hz
    weight = 1.0 / (1.0 + hertz / 1500.0)
    return weight / weight.mean()


def spectrum_targets(
    geometry: StftGeometry, stft: Tensor, to_bins: Tensor, tonal_bins: int
) -> SpectrumTargets:
    """Measure magnitudes and phase derivatives.

    Args:
        geometry: STFT the spectrum was made with.
        stft: complex [B, S, frames, K], phases at frame centres.
        to_bins: band membership float32 [W, K].
        tonal_bins: number of lowest bins with an advance.
    """
    magnitude = stft.abs()
    unit = stft / (magnitude + 1e-9)
    weight = magnitude.sqrt()
    advance = geometry.phase_advance(stft, stft.shape[-1])
    step = F.pad(unit[..., 1:] * unit[..., :-1].conj(), (1, 0))
    step_weight = F.pad((magnitude[..., 1:] * magnitude[..., :-1]).sqrt(), (1, 0))

    def per_band(values: Tensor, weights: Tensor) -> Tensor:
        return torch.matmul(values * weights, to_bins.T) / (torch.matmul(weights, to_bins.T) + 1e-9)

    # Second differences are 1 where the first derivative is steady, whatever its value.
    steady_time = (advance[:, :, 2:] * advance[:, :, 1:-1].conj()).real
    steady_time = torch.cat([steady_time[:, :, :1], steady_time, steady_time[:, :, -1:]], dim=2)
    steady_frequency = F.pad((step[..., 2:] * step[..., 1:-1].conj()).real, (1, 1))
    impulsiveness = (per_band(steady_frequency, weight) - NOISE_IMPULSIVENESS) / (1 - NOISE_IMPULSIVENESS)
    low = advance[..., :tonal_bins]
    return SpectrumTargets(
        log_magnitude=torch.log(magnitude + MAGNITUDE_FLOOR),
        advance=torch.cat([low.real, low.imag], dim=-1),
        delay=torch.cat([per_band(step.real, step_weight), per_band(step.imag, step_weight)], dim=-1),
        tonality=per_band(steady_time, weight),
        impulsiveness=impulsiveness,
        weight=weight,
    )


class SpectrumLoss(nn.Module):
    """Weighted regression of a predicted ``Spectrum`` on its targets."""

    bin_weight: Tensor
    to_bins: Tensor

    def __init__(self, codec: Codec, sample_rate: int) -> None:
        super().__init__()
        decoder = codec.decoder
        bin_hz = sample_rate / decoder.geometry.n_fft
        self.register_buffer("bin_weight", bin_weights(decoder.geometry.bins, bin_hz), persistent=False)
        bands = band_matrix(decoder.geometry.bins, decoder.config.bands, bin_hz)
        self.register_buffer("to_bins", bands, persistent=False)
        self.tonal_bins = decoder.config.tonal_bins

    def forward(self, predicted: Spectrum, target: SpectrumTargets, bin_std: Tensor) -> dict[str, Tensor]:
        """Scalar losses by name: magnitude, advance, delay, steadiness."""
        error = (predicted.log_magnitude - target.log_magnitude) / bin_std
        magnitude = ((error.abs() + 0.5 * error.square()) * self.bin_weight).mean()
        phase_weight = (target.weight / (target.weight.mean() + 1e-6)).clamp(max=8.0)[..., : self.tonal_bins]
        advance = (predicted.advance - target.advance).square() * phase_weight.repeat(1, 1, 1, 2)
        level = torch.log(torch.matmul(target.weight, self.to_bins.T) / (self.to_bins.sum(1) + 1e-6) + 1e-3)
        band_weight = (level - level.mean()).clamp(-2.0, 2.0).exp()
        band_weight = band_weight / band_weight.mean()
        delay = (predicted.delay - target.delay).square() * band_weight.repeat(1, 1, 1, 2)
        tonality = (predicted.tonality - target.tonality).square() * band_weight
        impulsiveness = (predicted.impulsiveness - target.impulsiveness).square() * band_weight
        return {
            "magnitude": magnitude,
            "advance": 2 * advance[:, :, 1:].mean(),
            "delay": 2 * delay.mean(),
            "steadiness": tonality.mean() + impulsiveness.mean(),
        }


def mel_filterbank(n_fft: int, bands: int, sample_rate: int) -> Tensor:
    """Triangular mel filters from 20 Hz to just below Nyquist, float32 [n_fft / 2 + 1, bands'] without empty ones."""
    hertz = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    top = 0.907 * sample_rate / 2
    mels = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + top / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    rising = (hertz[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz[None]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return torch.from_numpy(filters[filters.sum(1) > 0].T.astype(np.float32))


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms (nepers) over several resolutions.

    Energies are summed over bands before the logarithm, so the random fine grain of noise, which no decoder can
    match, does not pull the sound towards a tonal one.
    """

    def __init__(
        self,
        sample_rate: int,
        resolutions: tuple[tuple[int, int, int], ...] = ((512, 128, 40), (1024, 256, 80), (2048, 512, 128)),
    ) -> None:
        super().__init__()
        self.resolutions = resolutions
        for index, (n_fft, _, bands) in enumerate(resolutions):
            self.register_buffer(
                f"filters_{index}", mel_filterbank(n_fft, bands, sample_rate), persistent=False
            )
            self.register_buffer(f"window_{index}", torch.hann_window(n_fft), persistent=False)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Scalar distance of waveforms float32 [B, S, N]."""
        both = torch.cat([predicted, target]).flatten(0, 1)
        total = both.new_zeros(())
        for index, (n_fft, hop, _) in enumerate(self.resolutions):
            window = self.get_buffer(f"window_{index}")
            stft = torch.stft(both, n_fft, hop, window=window, return_complex=True, center=False)
            power = (stft.real.square() + stft.imag.square()).transpose(1, 2) / (n_fft / 4) ** 2
            mel = 0.5 * torch.log(torch.matmul(power, self.get_buffer(f"filters_{index}")) + 1e-7)
            ours, theirs = mel.chunk(2)
            total = total + (ours - theirs).abs().mean()
        return total / len(self.resolutions)


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL divergence of the posterior to a unit Gaussian, nats per latent frame; scalar."""
    terms = posterior.mean.square() + posterior.log_variance.exp() - 1 - posterior.log_variance
    return 0.5 * terms.sum(-1).mean()


@torch.no_grad()
def start_from_principal_components(codec: Codec, waveforms: list[Tensor], sample_rate: int) -> float:
    """Set bin statistics and both linear shortcuts to the principal components of log-magnitude patches.

    Args:
        codec: fresh codec; its remaining weights are scaled down so that the linear codec speaks first.
        waveforms: batches float32 [B, S, N] of real sound.
        sample_rate: Hz.

    Returns:
        Share of the weighted variance that the components explain.
    """
    encoder, decoder = codec.encoder, codec.decoder
    geometry, latent = encoder.geometry, encoder.config.latent_channels
    logs = [torch.log(geometry.analyse(batch).abs() + MAGNITUDE_FLOOR) for batch in waveforms]
    magnitude = torch.cat([log.permute(0, 2, 1, 3) for log in logs])
    mean, std = magnitude.mean((0, 1, 2)), magnitude.std((0, 1, 2)) + 1e-3
    codec.set_bin_statistics(mean, std)
    channels = magnitude.shape[2]
    patches = ((magnitude - mean) / std).reshape(-1, encoder.shortcut.in_features)
    weight = bin_weights(geometry.bins, sample_rate / geometry.n_fft).sqrt()
    weight = weight.repeat(channels * geometry.frames_per_latent)
    weighted = patches * weight
    values, vectors = torch.linalg.eigh((weighted.T @ weighted / len(weighted)).double())
    values, vectors = values.flip(0).clamp(min=1e-6).float(), vectors.flip(1).float()
    std_latent = values[:latent].sqrt()
    encoder.shortcut.weight.copy_((vectors[:, :latent] * weight[:, None] / std_latent).T)
    decoder.shortcut.weight.copy_(vectors[:, :latent] * std_latent / weight[:, None])
    for layer in (encoder.out, decoder.magnitude):
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    encoder.out.bias[latent:] = -3.0
    return float(values[:latent].sum() / values.sum())
