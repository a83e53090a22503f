"""MeanAudio-S: 120 million parameters in the flow transformer, one step, a VAE of mel spectra, a vocoder.

Facts: Li et al. 2025 (arXiv 2508.06098): four joint and eight audio-only blocks of width 448 with 7 heads, adaLN-zero
in every block and stream, RMSNorm on queries and keys, gated convolutional MLPs of kernel 3; 20 latent channels at
31.25 per second, 312 frames; 77 tokens of FLAN-T5-large and one vector of CLAP. The VAE is the one for 16 kHz of
MMAudio (Cheng et al. 2024, arXiv 2412.15322), with the magnitude-preserving layers of EDM2 (Karras et al. 2024, arXiv
2312.02696).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.convolutions import ChannelLastConv
from benchmarks.peers.text import CLAP_TEXT, FLAN_T5_LARGE, ClapTextConfig, T5Config
from edge_tta.model.layers import QueryKeyValue, attend, modulate


@dataclass(frozen=True)
class MeanAudioConfig:
    """Shape of the system."""

    text: T5Config = FLAN_T5_LARGE
    clap: ClapTextConfig = CLAP_TEXT
    tokens: int = 77
    latent_channels: int = 20
    frames: int = 312
    width: int = 448
    heads: int = 7
    joint_blocks: int = 4
    audio_blocks: int = 8
    feedforward: int = 1280
    """Two thirds of four times the width, up to the next multiple of 256."""
    time_features: int = 256
    vae_width: int = 384
    vae_multiples: tuple[int, ...] = (1, 2, 4)
    mels: int = 80
    sample_rate: int = 16000
    mel_hop: int = 256

    @property
    def seconds(self) -> float:
        """Duration of every sound: two mel frames a latent frame."""
        return 2 * self.frames * self.mel_hop / self.sample_rate


class _GatedConv(nn.Module):
    """w2(silu(w1 x) * w3 x) with bias-free convolutions, [B, L, C]."""

    def __init__(self, width: int, feedforward: int, kernel: int) -> None:
        super().__init__()
        self.gate, self.value = (ChannelLastConv(width, feedforward, kernel, bias=False) for _ in range(2))
        self.project = ChannelLastConv(feedforward, width, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(F.silu(self.gate(x)) * self.value(x))
        return projected


class _TimeEmbedding(nn.Module):
    """Cosines and sines of [B] with periods from 2 pi to 2 pi times 10000, then two Linears."""

    frequencies: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        exponents = torch.arange(features // 2) / (features // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * exponents), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        angle = value[:, None] * self.frequencies
        embedded: Tensor = self.mlp(torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1))
        return embedded


class _Modulation(nn.Module):
    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts, self.linear = parts, nn.Linear(width, parts * width)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(condition))[:, None].chunk(self.parts, dim=-1)


class _Stream(nn.Module):
    """One stream of a block. ``only_lends``: it gives its keys and values, and is not changed."""

    def __init__(self, config: MeanAudioConfig, kernel: int, only_lends: bool = False) -> None:
        super().__init__()
        width = config.width
        self.modulation = _Modulation(width, 2 if only_lends else 6)
        self.attention = QueryKeyValue(width, config.heads)
        self.out = None if only_lends else ChannelLastConv(width, width, kernel)
        self.mlp = None if only_lends else _GatedConv(width, config.feedforward, kernel)

    def lend(self, x: Tensor, condition: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Queries, keys and values, and what modulates the rest."""
        shift, scale, *rest = self.modulation(condition)
        return self.attention(modulate(x, shift, scale)), tuple(rest)

    def change(self, x: Tensor, mixed: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """The stream after attention and feed-forward layer."""
        if self.out is None or self.mlp is None:
            return x
        gate, shift, scale, mlp_gate = rest
        x = x + gate * self.out(mixed)
        return x + mlp_gate * self.mlp(modulate(x, shift, scale))

    def forward(self, x: Tensor, condition: Tensor, explicit: bool) -> Tensor:
        """The stream by itself."""
        (query, key, value), rest = self.lend(x, condition)
        return self.change(x, attend(query, key, value, None, explicit), rest)


class _JointBlock(nn.Module):
    def __init__(self, config: MeanAudioConfig, last: bool) -> None:
        super().__init__()
        self.audio, self.text = _Stream(config, 3), _Stream(config, 1, only_lends=last)

    def forward(
        self, audio: Tensor, text: Tensor, condition: Tensor, explicit: bool
    ) -> tuple[Tensor, Tensor]:
        lent, rest = self.audio.lend(audio, condition)
        text_lent, text_rest = self.text.lend(text, condition)
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(lent, text_lent, strict=True))
        mixed = attend(query, key, value, None, explicit)
        frames = audio.shape[1]
        changed = self.audio.change(audio, mixed[:, :frames], rest)
        return changed, self.text.change(text, mixed[:, frames:], text_rest)


class MeanAudioTransformer(nn.Module):
    """latent [1, L, C], end r [1], time t [1], tokens [1, T, D], vector [1, E] -> average velocity [1, L, C]."""

    def __init__(self, config: MeanAudioConfig) -> None:
        super().__init__()
        self.explicit_attention = False
        width, inner = config.width, config.feedforward
        self.stem = ChannelLastConv(config.latent_channels, width, 7)
        self.stem_mlp = _GatedConv(width, inner, 7)
        self.tokens_in = nn.Sequential(nn.Linear(config.text.width, width), _GatedConv(width, inner, 1))
        self.vector_in = nn.Sequential(nn.Linear(config.clap.joint, width), _GatedConv(width, inner, 1))
        self.time_in, self.end_in = (_TimeEmbedding(config.time_features, width) for _ in range(2))
        self.joint_blocks = nn.ModuleList(
            _JointBlock(config, last=index == config.joint_blocks - 1) for index in range(config.joint_blocks)
        )
        self.audio_blocks = nn.ModuleList(_Stream(config, 3) for _ in range(config.audio_blocks))
        self.out_modulation = _Modulation(width, 2)
        self.out = ChannelLastConv(width, config.latent_channels, 7)

    def forward(self, latent: Tensor, end: Tensor, time: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        """Predict the average velocity; padding tokens take part."""
        condition = self.time_in(time) + self.end_in(end) + self.vector_in(vector[:, None])[:, 0]
        audio, text = self.stem_mlp(F.selu(self.stem(latent))), self.tokens_in(tokens)
        for block in self.joint_blocks:
            audio, text = block(audio, text, condition, self.explicit_attention)
        for stream in self.audio_blocks:
            audio = stream(audio, condition, self.explicit_attention)
        shift, scale = self.out_modulation(condition)
        velocity: Tensor = self.out(modulate(audio, shift, scale))
        return velocity


def _silu(x: Tensor) -> Tensor:
    """SiLU that keeps the variance of a normal input."""
    return F.silu(x) / 0.596


def _mix(x: Tensor, change: Tensor, share: float = 0.3) -> Tensor:
    """Weighted sum that keeps the variance."""
    return ((1 - share) * x + share * change) / math.sqrt((1 - share) ** 2 + share**2)


def _pixel_norm(x: Tensor) -> Tensor:
    """Every position to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-4)


class _VaeBlock(nn.Module):
    """Two convolutions and a residual mix, [B, L, C]; normalised weights are stored as they are used."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.shortcut = ChannelLastConv(channels, out, 1, bias=False) if channels != out else None
        self.first = ChannelLastConv(channels, out, 3, bias=False)
        self.second = ChannelLastConv(out, out, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = _pixel_norm(x)
        change = self.second(_silu(self.first(_silu(x))))
        return _mix(x if self.shortcut is None else self.shortcut(x), change)


class _VaeAttention(nn.Module):
    """One head over all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.explicit_attention = False
        self.fused = ChannelLastConv(width, 3 * width, 1, bias=False)
        self.out = ChannelLastConv(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (_pixel_norm(part)[:, None] for part in self.fused(x).chunk(3, dim=-1))
        return _mix(x, self.out(attend(query, key, value, None, self.explicit_attention)))


class MelDecoder(nn.Module):
    """latent [1, L, C] -> mel spectrum [1, mels, 2 L]."""

    def __init__(self, config: MeanAudioConfig) -> None:
        super().__init__()
        widths = [config.vae_width * multiple for multiple in config.vae_multiples]
        widest = widths[-1]
        self.start = ChannelLastConv(config.latent_channels, widest, 3, bias=False)
        self.middle = nn.Sequential(
            _VaeBlock(widest, widest), _VaeAttention(widest), _VaeBlock(widest, widest)
        )
        levels = []
        for index in reversed(range(len(widths))):
            first = widths[min(index + 1, len(widths) - 1)]
            inner = widths[index]
            levels.append(
                nn.Sequential(_VaeBlock(first, inner), _VaeBlock(inner, inner), _VaeBlock(inner, inner))
            )
        self.levels = nn.ModuleList(levels)
        # One doubling of the rate, before the last level.
        self.up = ChannelLastConv(widths[1], widths[1], 3, bias=False)
        self.end = ChannelLastConv(widths[0], config.mels, 3, bias=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Standardised log-mel spectrum."""
        x = self.middle(self.start(latent))
        for index, level in enumerate(self.levels):
            if index == len(self.levels) - 1:
                x = self.up(x.repeat_interleave(2, dim=1))
            x = level(x).clamp(-256.0, 256.0)
        mel: Tensor = self.end(_silu(_pixel_norm(x)))
        return mel.transpose(1, 2)
