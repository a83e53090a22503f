"""The decoder in XNNPACK's layout, with the weights of the original; see ``export.xnnpack_layers``."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.codec import MAX_LOG_MAGNITUDE, Decoder
from edge_tta.model.envelope import Envelope
from export.xnnpack_layers import AffineNorm, ConvNeXt, Product, constant, linear_of


class ChannelHead(nn.Module):
    """What one audio channel's spectrum is predicted by: the rows of the original layers that belong to it.

    Scale and mean of the bins' log-magnitudes are folded into the weights that make them.
    """

    def __init__(self, source: Decoder, channel: int) -> None:
        super().__init__()
        config, channels = source.config, source.channels
        bins, tonal, bands = source.geometry.bins, config.tonal_bins, config.bands
        self.frames_per_latent, self.bins = source.geometry.frames_per_latent, bins
        std, mean = source.bin_std, source.bin_mean

        def rows(layer: nn.Linear, parts: int) -> list[nn.Linear]:
            """Rows of this channel in equal parts."""
            weights, biases = layer.weight.chunk(channels)[channel], layer.bias.chunk(channels)[channel]
            return [linear_of(w, b) for w, b in zip(weights.chunk(parts), biases.chunk(parts), strict=True)]

        (magnitude,) = rows(source.magnitude, 1)
        self.magnitude = linear_of(magnitude.weight * std[:, None], magnitude.bias * std + mean)
        shortcut = source.shortcut.weight.view(self.frames_per_latent, channels, bins, -1)[:, channel]
        self.shortcut = linear_of((shortcut * std[:, None]).reshape(self.frames_per_latent * bins, -1))
        self.advance_cosine, self.advance_sine = rows(source.advance, 2)
        self.delay_cosine, self.delay_sine, self.tonality, self.impulsiveness = rows(source.band_state, 4)
        assert self.advance_cosine.out_features == tonal and self.tonality.out_features == bands

    def log_magnitude(self, hidden: Tensor, latent: Tensor) -> Tensor:
        """[frames, K], natural logarithm."""
        linear = self.shortcut(latent).view(-1, self.bins)
        magnitude: Tensor = self.magnitude(hidden) + linear
        return magnitude


class ChannelEnvelope(nn.Module):
    """``Envelope`` of one audio channel, batch 1: gains of every sample."""

    def __init__(self, source: Envelope, channel: int) -> None:
        super().__init__()
        self.frame_in, self.block = copy.deepcopy(source.frame_in), ConvNeXt(source.block)
        self.norm = AffineNorm(source.norm)
        own = slice(channel * source.steps, (channel + 1) * source.steps)
        self.out = linear_of(source.out.weight[own], source.out.bias[own])
        self.to_samples = Product(source.to_samples)

    def forward(self, hidden: Tensor) -> Tensor:
        """[frames, hop] from the decoder's frames [frames, width]."""
        gain = torch.exp(self.out(self.norm(self.block(self.frame_in(hidden)))))
        before = torch.cat([gain[:1, :1], gain[:-1, -1:]], dim=0)
        after = torch.cat([gain[1:, :1], gain[-1:, -1:]], dim=0)
        samples: Tensor = self.to_samples(torch.cat([before, gain, after], dim=1))
        return samples


class XnnpackDecoder(nn.Module):
    """``DecoderGraph`` in XNNPACK's layout, batch 1.

    Differences to the original that change nothing but rounding: the DFTs are not folded, as XNNPACK cannot reverse
    rows; the inverse one makes each hop of a window by itself, so that overlap-add needs no slices; the phase of a
    bin's centre is added to rows of whole latent frames.

    Args:
        source: the decoder.
    """

    def __init__(self, source: Decoder) -> None:
        super().__init__()
        config, geometry = source.config, source.geometry
        self.bins, self.hop, self.pad = geometry.bins, geometry.hop, geometry.pad
        self.tonal, self.frames_per_latent = config.tonal_bins, geometry.frames_per_latent
        self.frame_width, self.noise_frames = config.frame_width, config.noise_frames
        self.latent_channels = config.latent_channels
        self.latent_std, self.latent_mean = constant(source.latent_std), constant(source.latent_mean)
        self.latent_in, self.up = copy.deepcopy(source.latent_in), copy.deepcopy(source.up)
        self.latent_blocks = nn.Sequential(*(ConvNeXt(block) for block in source.latent_blocks))  # type: ignore[arg-type]
        self.frame_blocks = nn.Sequential(*(ConvNeXt(block) for block in source.frame_blocks))  # type: ignore[arg-type]
        self.norm = AffineNorm(source.norm)
        self.heads = nn.ModuleList(ChannelHead(source, channel) for channel in range(source.channels))
        envelope = source.envelope
        self.envelopes = nn.ModuleList(
            ChannelEnvelope(envelope, channel) for channel in range(source.channels) if envelope is not None
        )
        self._register_constants(source)

    def _register_constants(self, source: Decoder) -> None:
        geometry = source.geometry
        self.ratio = geometry.n_fft // self.hop
        # Rows of the inverse DFT are real parts, then imaginary parts; its columns are the hops of a window in turn.
        real, imaginary = geometry.inverse_matrix().chunk(2)
        self.real_to_hops = nn.ModuleList(Product(part) for part in real.chunk(self.ratio, dim=1))
        self.imaginary_to_hops = nn.ModuleList(Product(part) for part in imaginary.chunk(self.ratio, dim=1))
        self.to_real, self.to_imaginary = (
            Product(part) for part in geometry.analysis_matrix().chunk(2, dim=1)
        )
        self.to_bins = Product(source.to_bins)
        self.to_tonal_bins = Product(source.to_bins[:, : self.tonal])
        self.to_slope = Product(source.to_slope)
        self.can_be_tonal, self.centre_phase = constant(source.can_be_tonal), constant(source.centre_phase)
        self.noise = nn.Buffer(source.noise.clone(), persistent=False)
        self.noise_scale = constant(source.noise_scale)
        self.one, self.one_half = constant(torch.ones(1)), constant(torch.full((1,), 0.5))
        self.share_floor, self.power_floor = constant(torch.tensor([1e-8])), constant(torch.tensor([1e-14]))
        self.loudest = constant(torch.tensor([MAX_LOG_MAGNITUDE]))

    def forward(self, latent: Tensor) -> Tensor:
        """Decode a standardised latent float32 [1, L, stack * C] into a waveform float32 [1, S, L * hop]."""
        latent = latent.view(-1, self.latent_channels) * self.latent_std + self.latent_mean
        hidden = self.latent_blocks(self.latent_in(latent))
        hidden = self.norm(self.frame_blocks(self.up(hidden).view(-1, self.frame_width)))
        waveforms = [self._channel(head, hidden, latent) for head in self.heads]  # type: ignore[arg-type]
        if self.envelopes:
            gains = [envelope(hidden).view(1, 1, -1) for envelope in self.envelopes]
            waveforms = [waveform * gain for waveform, gain in zip(waveforms, gains, strict=True)]
        return waveforms[0] if len(waveforms) == 1 else torch.cat(waveforms, dim=1)

    def _channel(self, head: ChannelHead, hidden: Tensor, latent: Tensor) -> Tensor:
        log_magnitude = torch.minimum(head.log_magnitude(hidden, latent), self.loudest)
        real, imaginary = self._phasors(head, hidden)
        magnitude = torch.exp(log_magnitude)
        blocks = self._invert(magnitude * real, magnitude * imaginary)
        frames = hidden.shape[0]
        windows = torch.cat([blocks[part : part + frames] for part in range(self.ratio)], dim=1)
        real, imaginary = self.to_real(windows), self.to_imaginary(windows)
        power = real * real + imaginary * imaginary
        gain = torch.exp(self.one_half * log_magnitude) * torch.rsqrt(torch.sqrt(power + self.power_floor))
        refined = self._invert(real * gain, imaginary * gain).view(1, 1, -1)
        return refined[:, :, self.pad : -self.pad]

    def _invert(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Overlap-added blocks [frames + n_fft / hop - 1, hop] of a spectrum [frames, K]."""
        total = None
        for part in range(self.ratio):
            piece = self.real_to_hops[part](real) + self.imaginary_to_hops[part](imaginary)
            piece = F.pad(piece, (0, 0, part, self.ratio - 1 - part))
            total = piece if total is None else total + piece
        assert total is not None
        return total

    def _phasors(self, head: ChannelHead, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Unit-power complex excitation as real and imaginary parts, each [frames, K]."""
        step = torch.atan2(head.advance_sine(hidden), head.advance_cosine(hidden))
        # The portable kernel adds up in the type of its output; thousands of frames need more than float32.
        summed = torch.cumsum(step, dim=0, dtype=torch.float64).float()
        phase = summed.view(-1, self.frames_per_latent, self.tonal) + self.centre_phase
        phase = phase.view(-1, self.tonal)
        delay = torch.atan2(head.delay_sine(hidden), head.delay_cosine(hidden))
        slope = self.to_slope(delay)
        tone_share = torch.sigmoid(head.tonality(hidden)) * self.can_be_tonal
        click_share = torch.sigmoid(head.impulsiveness(hidden)) * (self.one - tone_share)
        tone = self.to_tonal_bins(torch.sqrt(tone_share + self.share_floor))
        click = self.to_bins(torch.sqrt(click_share + self.share_floor))
        left = self.one - tone_share - click_share + self.share_floor
        rest = self.to_bins(torch.sqrt(left)) * self.noise_scale
        rows = torch.remainder(torch.arange(hidden.shape[0]), self.noise_frames)
        noise = torch.index_select(self.noise, 1, rows).to(torch.float32)
        high = (0, self.bins - self.tonal)
        real = F.pad(tone * torch.cos(phase), high) + click * torch.cos(slope) + rest * noise[0]
        imaginary = F.pad(tone * torch.sin(phase), high) + click * torch.sin(slope) + rest * noise[1]
        return real, imaginary
