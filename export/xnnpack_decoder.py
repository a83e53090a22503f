"""The decoder in XNNPACK's layout, with the weights of the original; see ``export.xnnpack_layers``."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.codec import MAX_LOG_MAGNITUDE, Decoder
from edge_tta.model.envelope import Envelope
from edge_tta.model.folded_dft import ByParity
from export.xnnpack_excitation import XnnpackExcitation
from export.xnnpack_layers import AffineNorm, Arctangent, ConvNeXt, Product, constant, linear_of


def by_parity(weight: Tensor, bias: Tensor | None = None) -> nn.ModuleList:
    """A Linear for the even rows of a weight and one for the odd: XNNPACK takes no splits of its result."""
    return nn.ModuleList(
        linear_of(weight[first::2], None if bias is None else bias[first::2]) for first in (0, 1)
    )


class ChannelHead(nn.Module):
    """What one audio channel's spectrum is predicted by: the rows of the original layers that belong to it.

    What is predicted per bin comes from two Linears, of the even and of the odd bins. Scale and mean of the bins'
    log-magnitudes are folded into the weights that make them.
    """

    def __init__(self, source: Decoder, channel: int) -> None:
        super().__init__()
        channels, bins, per_latent = source.channels, source.geometry.bins, source.geometry.frames_per_latent
        std, mean = source.bin_std, source.bin_mean

        def rows(layer: nn.Linear, parts: int) -> list[tuple[Tensor, Tensor]]:
            """Rows of this channel in equal parts."""
            weights, biases = layer.weight.chunk(channels)[channel], layer.bias.chunk(channels)[channel]
            return list(zip(weights.chunk(parts), biases.chunk(parts), strict=True))

        ((weight, bias),) = rows(source.magnitude, 1)
        self.magnitude = by_parity(weight * std[:, None], bias * std + mean)
        shortcut = source.shortcut.weight.view(per_latent, channels, bins, -1)[:, channel] * std[:, None]
        self.shortcut = nn.ModuleList(linear_of(shortcut[:, first::2].flatten(0, 1)) for first in (0, 1))
        self.advance_cosine, self.advance_sine = (by_parity(*part) for part in rows(source.advance, 2))
        self.delay_cosine, self.delay_sine, self.tonality, self.impulsiveness = (
            linear_of(*part) for part in rows(source.band_state, 4)
        )
        self.angle = Arctangent()

    def log_magnitude(self, hidden: Tensor, latent: Tensor) -> ByParity:
        """[frames, K'] each, natural logarithm."""
        even, odd = (
            magnitude(hidden) + shortcut(latent).view(-1, magnitude.out_features)
            for magnitude, shortcut in zip(self.magnitude, self.shortcut, strict=True)
        )
        return ByParity(even, odd)

    def delay(self, hidden: Tensor) -> Tensor:
        """[frames, W], radians."""
        angle: Tensor = self.angle(self.delay_sine(hidden), self.delay_cosine(hidden))
        return angle

    def advance(self, hidden: Tensor) -> ByParity:
        """[frames, T'] each, radians."""
        even, odd = (
            self.angle(sine(hidden), cosine(hidden))
            for sine, cosine in zip(self.advance_sine, self.advance_cosine, strict=True)
        )
        return ByParity(even, odd)


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

    It changes nothing but rounding. XNNPACK cannot reverse rows, so the backward halves of blocks are reversed by a
    product, once, at the end.

    Args:
        source: the decoder.
    """

    def __init__(self, source: Decoder) -> None:
        super().__init__()
        config, geometry = source.config, source.geometry
        self.cut, self.frame_width = geometry.pad + geometry.hop, config.frame_width
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
        self.excitation, self.dft = XnnpackExcitation(source.excitation), copy.deepcopy(source.dft)
        quarter = geometry.n_fft // 4
        identity = torch.eye(quarter + 1)
        self.forward_half = Product(identity[:, :quarter])
        self.backward_half = Product(identity[:, 1:].flip(1))
        self.one_half, self.power_floor = constant(torch.full((1,), 0.5)), constant(torch.tensor([1e-14]))
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
        delay = head.delay(hidden)
        tonality, impulsiveness = (
            torch.sigmoid(head.tonality(hidden)),
            torch.sigmoid(head.impulsiveness(hidden)),
        )
        real, imaginary = self.excitation(head.advance(hidden), delay, tonality, impulsiveness)
        levels = [torch.minimum(level, self.loudest) for level in head.log_magnitude(hidden, latent)]
        magnitude = [torch.exp(level) for level in levels]
        real, imaginary = self.dft.analyse(
            self.dft.synthesise(real.scaled(magnitude), imaginary.scaled(magnitude))
        )
        gains = [
            F.pad(torch.exp(self.one_half * level), (0, 0, 1, 1))
            * torch.rsqrt(torch.sqrt(one * one + other * other + self.power_floor))
            for level, one, other in zip(levels, real, imaginary, strict=True)
        ]
        blocks = self.dft.synthesise(real.scaled(gains), imaginary.scaled(gains))
        samples = torch.cat([self.forward_half(blocks.forward), self.backward_half(blocks.backward)], dim=1)
        return samples.view(1, 1, -1)[:, :, self.cut : -self.cut]
