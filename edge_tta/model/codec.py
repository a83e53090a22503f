"""Variational codec: waveform -> 64 channels at 21.5 Hz -> waveform, with no convolution at the waveform rate.

The encoder sees per-bin standardised log-magnitudes and phase advances of an STFT. The decoder predicts, per STFT
bin, a log-magnitude and *derivatives* of the phase: along time (the advance of a tone from frame to frame) and along
frequency (the delay of a transient inside a frame), and per band how tonal or impulsive the sound is. A latent carries
no absolute phase, so predicting phase itself is ill-posed; its derivatives are determined by the magnitudes, and the
phase is their running sum (``edge_tta.model.excitation``).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import AudioSpec, CodecConfig
from edge_tta.model.envelope import Envelope
from edge_tta.model.excitation import Excitation, Mixture, at_least
from edge_tta.model.folded_dft import Blocks, ByParity, FoldedDft, samples_of
from edge_tta.model.layers import ConvNeXtBlock
from edge_tta.model.stft import StftGeometry

MAGNITUDE_FLOOR = 3e-5
"""Added to magnitudes before the logarithm; full scale sine = 1, so the floor lies at -90 dB."""
MAX_LOG_MAGNITUDE = 0.0
"""No bin of a sound within full scale is louder than a full-scale sine; a generator may ask for it."""


class Posterior(NamedTuple):
    """Diagonal Gaussian over latents; both float32 [B, L, C]."""

    mean: Tensor
    log_variance: Tensor


class Spectrum(NamedTuple):
    """What the decoder predicts, per STFT frame; K bins, T tonal bins, W bands, S audio channels."""

    log_magnitude: Tensor
    """float32 [B, S, frames, K], natural logarithm, full scale sine = 0."""
    advance: Tensor
    """float32 [B, S, frames, 2 T]: expected phasor of the phase advance against the bin centre, cosines then sines."""
    delay: Tensor
    """float32 [B, S, frames, 2 W]: expected phasor of the phase step from one bin to the next, cosines then sines."""
    tonality: Tensor
    """float32 [B, S, frames, W] in 0..1: how steady the advance is from frame to frame."""
    impulsiveness: Tensor
    """float32 [B, S, frames, W] in 0..1: how steady the delay is from bin to bin."""


def _blocks(count: int, width: int, config: CodecConfig) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXtBlock(width, config.expansion, config.kernel) for _ in range(count)))


class Encoder(nn.Module):
    """Waveform -> posterior over the codec's own latent frames, which are not stacked yet."""

    bin_mean: Tensor
    bin_std: Tensor

    def __init__(self, config: CodecConfig, audio: AudioSpec) -> None:
        super().__init__()
        self.geometry = StftGeometry(config, audio)
        self.config, self.hop = config, self.geometry.frames_per_latent * self.geometry.hop
        bins, per_latent = self.geometry.bins, self.geometry.frames_per_latent
        self.register_buffer("bin_mean", torch.full((bins,), -7.0))
        self.register_buffer("bin_std", torch.full((bins,), 2.0))
        self.frame_in = nn.Linear(audio.channels * (bins + 2 * config.tonal_bins), config.frame_width)
        self.frame_blocks = _blocks(config.encoder_frame_blocks, config.frame_width, config)
        self.down = nn.Linear(per_latent * config.frame_width, config.latent_width)
        self.latent_blocks = _blocks(config.encoder_latent_blocks, config.latent_width, config)
        self.norm = nn.LayerNorm(config.latent_width)
        self.out = nn.Linear(config.latent_width, 2 * config.latent_channels)
        # A linear way from log-magnitudes to the latent: started at their principal components, training begins
        # from the best linear codec instead of from nothing.
        self.shortcut = nn.Linear(audio.channels * per_latent * bins, config.latent_channels, bias=False)
        nn.init.zeros_(self.shortcut.weight)

    def standardised(self, stft: Tensor) -> Tensor:
        """Standardised log-magnitudes [B, S, frames, K] of a complex STFT."""
        return (torch.log(stft.abs() + MAGNITUDE_FLOOR) - self.bin_mean) / self.bin_std

    def forward(self, waveform: Tensor) -> Posterior:
        """Encode float32 [B, S, N], N a multiple of the codec's latent hop, into a posterior [B, N / hop, C]."""
        if waveform.shape[-1] % self.hop:
            raise ValueError(f"waveform length {waveform.shape[-1]} is no multiple of the hop {self.hop}")
        return self.from_stft(self.geometry.analyse(waveform))

    def from_stft(self, stft: Tensor) -> Posterior:
        """As ``forward``, from the complex STFT [B, S, frames, K]."""
        batch, _, frames, _ = stft.shape
        magnitude = self.standardised(stft)
        advance = self.geometry.phase_advance(stft, self.config.tonal_bins)
        features = torch.cat([magnitude, advance.real, advance.imag], dim=-1)
        features = features.permute(0, 2, 1, 3).reshape(batch, frames, -1)
        hidden = self.frame_blocks(self.frame_in(features))
        latents = frames // self.geometry.frames_per_latent
        hidden = self.latent_blocks(self.down(hidden.reshape(batch, latents, -1)))
        mean, log_variance = self.out(self.norm(hidden)).chunk(2, dim=-1)
        linear = self.shortcut(magnitude.permute(0, 2, 1, 3).reshape(batch, latents, -1))
        return Posterior(mean + linear, log_variance.clamp(-12.0, 4.0))


class Decoder(nn.Module):
    """Standardised latent -> waveform. C channels of the codec's own frames, ``stack`` of which are a latent frame."""

    latent_mean: Tensor
    latent_std: Tensor
    bin_mean: Tensor
    bin_std: Tensor

    def __init__(self, config: CodecConfig, audio: AudioSpec) -> None:
        super().__init__()
        self.geometry = StftGeometry(config, audio)
        self.config, self.channels = config, audio.channels
        bins, per_latent = self.geometry.bins, self.geometry.frames_per_latent
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self.register_buffer("bin_mean", torch.full((bins,), -7.0))
        self.register_buffer("bin_std", torch.full((bins,), 2.0))
        self.latent_in = nn.Linear(config.latent_channels, config.latent_width)
        self.latent_blocks = _blocks(config.decoder_latent_blocks, config.latent_width, config)
        self.up = nn.Linear(config.latent_width, per_latent * config.frame_width)
        self.frame_blocks = _blocks(config.decoder_frame_blocks, config.frame_width, config)
        self.norm = nn.LayerNorm(config.frame_width)
        self.magnitude = nn.Linear(config.frame_width, audio.channels * bins)
        self.advance = nn.Linear(config.frame_width, audio.channels * 2 * config.tonal_bins)
        self.band_state = nn.Linear(config.frame_width, audio.channels * 4 * config.bands)
        self.shortcut = nn.Linear(config.latent_channels, audio.channels * per_latent * bins, bias=False)
        nn.init.zeros_(self.shortcut.weight)
        self.envelope = Envelope(config, audio) if config.envelope_steps else None
        self.dft = FoldedDft(self.geometry)
        self.excitation = Excitation(config, audio, self.geometry)
        self.bins_apart = False

    def spectrum(self, latent: Tensor) -> Spectrum:
        """Predict magnitudes and phase derivatives from a standardised latent float32 [B, L, stack * C]."""
        latent = self._own_frames(latent)
        return self.spectrum_of(self.hidden(latent), latent)

    def _own_frames(self, latent: Tensor) -> Tensor:
        """The latent [B, stack * L, C] as the encoder gives it of a standardised one [B, L, stack * C]."""
        if self.config.stack > 1:
            latent = latent.reshape(latent.shape[0], -1, self.config.latent_channels)
        return latent * self.latent_std + self.latent_mean

    def hidden(self, latent: Tensor) -> Tensor:
        """What all is predicted from, [B, frames, frame_width], of a latent [B, L, C] as the encoder gives it."""
        hidden = self.latent_blocks(self.latent_in(latent))
        frames = latent.shape[1] * self.geometry.frames_per_latent
        hidden = self.up(hidden).reshape(latent.shape[0], frames, self.config.frame_width)
        normalised: Tensor = self.norm(self.frame_blocks(hidden))
        return normalised

    def spectrum_of(self, hidden: Tensor, latent: Tensor) -> Spectrum:
        """As ``spectrum``, from ``hidden`` and the latent it was made of."""
        config, channels = self.config, self.channels
        batch, frames, _ = hidden.shape
        linear = self.shortcut(latent).reshape(batch, frames, channels, -1)
        magnitude = (self.magnitude(hidden).reshape(batch, frames, channels, -1) + linear) * self.bin_std
        advance = self.advance(hidden).reshape(batch, frames, channels, -1).permute(0, 2, 1, 3)
        bands = self.band_state(hidden).reshape(batch, frames, channels, -1).permute(0, 2, 1, 3)
        count = config.bands
        return Spectrum(
            log_magnitude=(magnitude + self.bin_mean).permute(0, 2, 1, 3),
            advance=advance,
            delay=bands[..., : 2 * count],
            tonality=torch.sigmoid(bands[..., 2 * count : 3 * count]),
            impulsiveness=torch.sigmoid(bands[..., 3 * count :]),
        )

    def synthesise(self, spectrum: Spectrum, noise_start: int = 0) -> Tensor:
        """Waveform of a spectrum float32 [B, S, frames * stft_hop], before ``refine``: what losses are taken of."""
        return self._crop(samples_of(self._overlapped(spectrum, noise_start)))

    def unshaped(self, spectrum: Spectrum, noise_start: int = 0) -> Tensor:
        """Waveform of a spectrum float32 [B, S, frames * stft_hop], refined, before its gains in time."""
        blocks = self.refine(self._overlapped(spectrum, noise_start), spectrum.log_magnitude)
        # Refining adds a block of silence at either end.
        return self._crop(samples_of(blocks), self.geometry.hop)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode a standardised latent float32 [B, L, stack * C] into a waveform float32 [B, S, L * hop]."""
        latent = self._own_frames(latent)
        hidden = self.hidden(latent)
        waveform = self.unshaped(self.spectrum_of(hidden, latent))
        return waveform if self.envelope is None else self.envelope.shaped(waveform, self.envelope(hidden))

    def refine(self, blocks: Blocks, log_magnitude: Tensor) -> Blocks:
        """Bring the magnitudes of a sound half-way, in decibels, to the predicted ones.

        Frames overlap, so what is heard has not the magnitudes that were put in: made-up phases cancel here and add
        up there. This is one round of Griffin & Lim's iteration (1984) with the geometric mean of both magnitudes;
        the plain one makes noise too smooth (docs/decisions/0006).

        Args:
            blocks: the sound as overlap-added, [B, S, frames + 1, .] each.
            log_magnitude: float32 [B, S, frames, K] it was made from.

        Returns:
            The refined sound, a silent block before and one after it.
        """
        real, imaginary = self.dft.analyse(blocks)
        wanted = ByParity(*(torch.exp(0.5 * half) for half in self._levels(log_magnitude)))
        gains = ByParity(*map(_geometric, wanted, real, imaginary))
        return self.dft.synthesise(real.scaled(gains), imaginary.scaled(gains))

    def with_bins_apart(self) -> Decoder:
        """A copy that predicts all even bins before the odd ones, for graphs: taking every other number is slow."""
        other = copy.deepcopy(self)
        other.bins_apart = True
        bins, tonal = self.geometry.bins, self.config.tonal_bins
        with torch.no_grad():
            for layer, groups, size in (
                (other.magnitude, self.channels, bins),
                (other.advance, 2 * self.channels, tonal),
                (other.shortcut, self.geometry.frames_per_latent * self.channels, bins),
            ):
                order = torch.cat([torch.arange(first, size, 2) for first in (0, 1)])
                rows = (size * torch.arange(groups)[:, None] + order).flatten()
                for weight in layer.parameters():
                    weight.copy_(weight[rows])
            for statistic in (other.bin_mean, other.bin_std):
                statistic.copy_(torch.cat([statistic[::2], statistic[1::2]]))
        return other

    def _overlapped(self, spectrum: Spectrum, noise_start: int) -> Blocks:
        """Integrate phases, mix tone, transient and noise, and invert: blocks [B, S, frames + 1, .]."""
        cosine, sine = spectrum.advance.chunk(2, dim=-1)
        delay = spectrum.delay.chunk(2, dim=-1)
        advance = self._by_parity(cosine), self._by_parity(sine)
        mixture = Mixture(advance, (delay[0], delay[1]), spectrum.tonality, spectrum.impulsiveness)
        real, imaginary = self.excitation(mixture, noise_start)
        magnitude = ByParity(*map(torch.exp, self._levels(spectrum.log_magnitude)))
        return self.dft.synthesise(real.scaled(magnitude), imaginary.scaled(magnitude))

    def _levels(self, log_magnitude: Tensor) -> ByParity:
        return self._by_parity(log_magnitude.clamp(max=MAX_LOG_MAGNITUDE))

    def _by_parity(self, bins: Tensor) -> ByParity:
        """Values of bins [..., K] as those of even and of odd bins."""
        if self.bins_apart:
            odd = bins.shape[-1] // 2
            return ByParity(*bins.split((bins.shape[-1] - odd, odd), dim=-1))
        return ByParity(bins[..., ::2], bins[..., 1::2])

    def _crop(self, samples: Tensor, more: int = 0) -> Tensor:
        """What lies before and after the sound is cut off, and ``more`` samples at either end."""
        cut = self.geometry.pad + more
        return samples[..., cut:-cut]


def _geometric(wanted: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """What brings magnitudes to their geometric mean with others, whose square roots are given, in all frames but the
    first and the last, which are silenced."""
    power = at_least(real.square() + imaginary.square(), 1e-14)
    return F.pad(wanted, (0, 0, 1, 1)) * torch.rsqrt(torch.sqrt(power))


class Codec(nn.Module):
    """Encoder and decoder of one configuration."""

    def __init__(self, config: CodecConfig, audio: AudioSpec) -> None:
        super().__init__()
        self.encoder = Encoder(config, audio)
        self.decoder = Decoder(config, audio)

    def encode(self, waveform: Tensor) -> Tensor:
        """Standardised posterior mean float32 [B, L, stack * C] of a waveform float32 [B, S, L * hop]."""
        mean = self.encoder(waveform).mean
        latent = (mean - self.decoder.latent_mean) / self.decoder.latent_std
        return latent.reshape(len(latent), -1, self.decoder.config.stack * latent.shape[2])

    def decode(self, latent: Tensor) -> Tensor:
        """Waveform float32 [B, S, L * hop] of a standardised latent float32 [B, L, stack * C]."""
        waveform: Tensor = self.decoder(latent)
        return waveform

    def set_bin_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store mean and standard deviation of log-magnitudes per STFT bin, float32 [K] each, in both halves."""
        for half in (self.encoder, self.decoder):
            half.bin_mean.copy_(mean)
            half.bin_std.copy_(std)

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store mean and standard deviation per channel of the codec's own latent frames, float32 [C] each."""
        self.decoder.latent_mean.copy_(mean)
        self.decoder.latent_std.copy_(std)
