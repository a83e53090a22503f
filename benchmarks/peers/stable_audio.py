"""Stable Audio Open Small: 341 million parameters in the diffusion transformer, 8 ping-pong steps, Oobleck decoder.

Facts: Evans et al. 2024 (arXiv 2407.14358) for the family and the autoencoder, Novack et al. 2025 (arXiv 2505.08175)
for the small model and its sampler: 16 layers of width 1024 with 8 heads, QK LayerNorm, rotary positions on half of
each head, SwiGLU of inner width 4096; 64 latent channels at 44100 / 2048 per second, 256 frames; 64 tokens of T5-base
and one token for the duration by cross-attention, duration and time as one prepended token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.convolutions import Snake, TimeLastConv
from benchmarks.peers.text import T5_BASE, T5Config, T5Encoder
from edge_tta.model.layers import attend, rotary_angles, rotate

MAX_SECONDS = 256.0
"""Durations are embedded as a share of this."""


@dataclass(frozen=True)
class StableAudioConfig:
    """Shape of the system."""

    text: T5Config = T5_BASE
    tokens: int = 64
    latent_channels: int = 64
    frames: int = 256
    width: int = 1024
    depth: int = 16
    heads: int = 8
    feedforward: int = 4096
    rotary: int = 64
    """Channels of a head that carry positions."""
    fourier: int = 128
    """Learned frequencies of time and of the duration."""
    audio_channels: int = 2
    decoder_width: int = 128
    decoder_multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    sample_rate: int = 44100
    steps: int = 8

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.strides)

    @property
    def seconds(self) -> float:
        """Duration of every sound: the number of frames is fixed, what is asked for is cut out afterwards."""
        return self.frames * self.hop / self.sample_rate


class _LearnedFourier(nn.Module):
    """Cosines and sines of a scalar at learned frequencies, [B] -> [B, 2 n]."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(frequencies))

    def forward(self, value: Tensor) -> Tensor:
        """Features."""
        angle = 2 * math.pi * value[:, None] * self.frequencies
        return torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)


class StableAudioText(nn.Module):
    """ids int64 [1, T], mask float32 [1, T], seconds [1] -> cross [1, T + 1, D] and duration [1, D]."""

    def __init__(self, config: StableAudioConfig) -> None:
        super().__init__()
        self.encoder = T5Encoder(config.text)
        self.conditioner = DurationEmbedding(config)

    def forward(self, ids: Tensor, mask: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
        """Padding is set to zero, and attended to all the same."""
        tokens = self.encoder(ids, mask) * mask[..., None]
        duration: Tensor = self.conditioner(seconds)
        return torch.cat([tokens, duration[:, None]], dim=1), duration


class DurationEmbedding(nn.Module):
    """Seconds [B] to [B, width of the text features]."""

    def __init__(self, config: StableAudioConfig) -> None:
        super().__init__()
        self.fourier = _LearnedFourier(config.fourier)
        self.linear = nn.Linear(2 * config.fourier + 1, config.text.width)

    def forward(self, seconds: Tensor) -> Tensor:
        """Embedding of the share of the longest duration."""
        share = seconds.clamp(0.0, MAX_SECONDS) / MAX_SECONDS
        embedded: Tensor = self.linear(torch.cat([share[:, None], self.fourier(share)], dim=-1))
        return embedded


class _Gain(nn.Module):
    """LayerNorm with a learned gain and a shift that stays zero."""

    shift: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.register_buffer("shift", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        return F.layer_norm(x, x.shape[-1:], self.gain, self.shift, 1e-5)


class _Attention(nn.Module):
    """Attention without biases; queries and keys normalised per head; to itself, or to a context."""

    def __init__(self, config: StableAudioConfig, to_itself: bool) -> None:
        super().__init__()
        width = config.width
        self.heads, self.rotary = config.heads, config.rotary if to_itself else 0
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.query_norm, self.key_norm = (nn.LayerNorm(width // config.heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, explicit: bool) -> Tensor:
        """Mixed values [B, L, D]."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), *self.key_value(context).chunk(2, dim=-1))
        )
        query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary:
            cosine, sine = rotary_angles(x.shape[1], self.rotary, x)
            query, key = (self._turn(part, cosine, sine) for part in (query, key))
        mixed: Tensor = self.out(attend(query, key, value, None, explicit))
        return mixed

    def _turn(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        turned, plain = x[..., : self.rotary], x[..., self.rotary :]
        return torch.cat([rotate(turned, cosine, sine), plain], dim=-1)


class _Block(nn.Module):
    def __init__(self, config: StableAudioConfig) -> None:
        super().__init__()
        self.norm = _Gain(config.width)
        self.attention = _Attention(config, to_itself=True)
        self.cross_norm = _Gain(config.width)
        self.cross_attention = _Attention(config, to_itself=False)
        self.mlp_norm = _Gain(config.width)
        self.expand = nn.Linear(config.width, 2 * config.feedforward)
        self.project = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Tensor, context: Tensor, explicit: bool) -> Tensor:
        hidden = self.norm(x)
        x = x + self.attention(hidden, hidden, explicit)
        x = x + self.cross_attention(self.cross_norm(x), context, explicit)
        value, gate = self.expand(self.mlp_norm(x)).chunk(2, dim=-1)
        projected: Tensor = self.project(value * F.silu(gate))
        return x + projected


def _mlp(features: int, width: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width, bias=bias), nn.SiLU(), nn.Linear(width, width, bias=bias))


class StableAudioTransformer(nn.Module):
    """latent [1, C, L], time [1], cross [1, S, D], duration [1, D] -> velocity [1, C, L]."""

    def __init__(self, config: StableAudioConfig) -> None:
        super().__init__()
        self.explicit_attention = False
        channels, width = config.latent_channels, config.width
        self.time_in = nn.Sequential(_LearnedFourier(config.fourier), _mlp(2 * config.fourier, width, True))
        self.cross_in = _mlp(config.text.width, width, False)
        self.duration_in = _mlp(config.text.width, width, False)
        self.before, self.after = (TimeLastConv(channels, channels, 1, bias=False) for _ in range(2))
        self.frames_in = nn.Linear(channels, width, bias=False)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.frames_out = nn.Linear(width, channels, bias=False)

    def forward(self, latent: Tensor, time: Tensor, cross: Tensor, duration: Tensor) -> Tensor:
        """Predict the velocity."""
        first = self.duration_in(duration) + self.time_in(time)
        context = self.cross_in(cross)
        x = self.frames_in((latent + self.before(latent)).transpose(1, 2))
        x = torch.cat([first[:, None], x], dim=1)
        for block in self.blocks:
            x = block(x, context, self.explicit_attention)
        velocity = self.frames_out(x[:, 1:]).transpose(1, 2)
        return velocity + self.after(velocity)


class _ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Snake(channels),
            TimeLastConv(channels, channels, 7, dilation),
            Snake(channels),
            TimeLastConv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.layers(x)
        return x + changed


class OobleckDecoder(nn.Module):
    """latent [1, C, L] -> waveform [1, S, L * hop]; weight normalisation is folded into the weights."""

    def __init__(self, config: StableAudioConfig) -> None:
        super().__init__()
        widths = [config.decoder_width * multiple for multiple in (1, *config.decoder_multiples)]
        layers: list[nn.Module] = [TimeLastConv(config.latent_channels, widths[-1], 7)]
        for stride, inner, outer in reversed(list(zip(config.strides, widths[1:], widths[:-1], strict=True))):
            layers += [
                Snake(inner),
                nn.ConvTranspose1d(inner, outer, 2 * stride, stride, padding=math.ceil(stride / 2)),
                *(_ResidualUnit(outer, dilation) for dilation in (1, 3, 9)),
            ]
        layers += [Snake(widths[0]), TimeLastConv(widths[0], config.audio_channels, 7, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Samples, not limited to -1..1."""
        waveform: Tensor = self.layers(latent)
        return waveform
