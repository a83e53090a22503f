"""BigVGAN: mel spectrum to waveform by transposed convolutions and periodic activations at twice the rate.

Facts: Lee et al. 2023 (arXiv 2206.04658): residual blocks of kernels 3, 7 and 11 with dilations 1, 3 and 5, averaged;
every activation is computed at twice the rate between two low-pass filters (Karras et al. 2021, arXiv 2106.12423) of 12
taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.convolutions import Snake, TimeLastConv

TAPS = 12


@dataclass(frozen=True)
class BigVGANConfig:
    """Shape of the vocoder."""

    mels: int = 80
    width: int = 1536
    rates: tuple[int, ...] = (4, 4, 2, 2, 2, 2)
    kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.rates)


def low_pass(taps: int = TAPS) -> Tensor:
    """Kaiser-windowed sinc with its cutoff at half of the doubled band, float32 [taps], sum 1.

    Kaiser's formula for the window's shape (Oppenheim & Schafer, Discrete-time signal processing, 7.5.3) with a
    transition of 0.6 of the sampling rate.
    """
    half = taps // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * 0.3 + 7.95
    beta = (
        0.1102 * (attenuation - 8.7)
        if attenuation > 50
        else 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    )
    time = torch.arange(taps, dtype=torch.float64) - half + 0.5
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    kernel = torch.sinc(0.5 * time) * window
    return (kernel / kernel.sum()).float()


class SmoothSnake(nn.Module):
    """Snake at twice the rate, [B, C, L] -> [B, C, L]."""

    taps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snake = Snake(channels)
        self.register_buffer("taps", low_pass(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Double, bend, halve."""
        wide = self.snake(self.doubled(x))
        padded = F.pad(wide, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return F.conv1d(padded, self.taps.repeat(x.shape[1], 1, 1), stride=2, groups=x.shape[1])

    def doubled(self, x: Tensor) -> Tensor:
        """The signal at twice the rate, [B, C, 2 L]."""
        channels, length, edge = x.shape[1], x.shape[2], TAPS // 2 - 1
        padded = F.pad(x, (edge, edge), mode="replicate")
        taps = 2 * self.taps.repeat(channels, 1, 1)
        wide = F.conv_transpose1d(padded, taps, stride=2, groups=channels)
        cut = 2 * edge + (TAPS - 2) // 2
        return wide[:, :, cut : cut + 2 * length]


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(
                SmoothSnake(channels),
                TimeLastConv(channels, channels, kernel, dilation),
                SmoothSnake(channels),
                TimeLastConv(channels, channels, kernel),
            )
            for dilation in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = x + step(x)
        return x


class _Stage(nn.Module):
    def __init__(self, config: BigVGANConfig, channels: int, rate: int) -> None:
        super().__init__()
        out = channels // 2
        self.up = nn.ConvTranspose1d(channels, out, 2 * rate, rate, padding=rate // 2)
        self.blocks = nn.ModuleList(
            _ResidualBlock(out, kernel, config.dilations) for kernel in config.kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        total = self.blocks[0](x)
        for block in self.blocks[1:]:
            total = total + block(x)
        mean: Tensor = total / len(self.blocks)
        return mean


class BigVGAN(nn.Module):
    """Log-mel spectrum [1, mels, F] -> waveform [1, 1, F * hop]; weight normalisation is folded into the weights."""

    def __init__(self, config: BigVGANConfig) -> None:
        super().__init__()
        self.start = TimeLastConv(config.mels, config.width, 7)
        self.stages = nn.ModuleList(
            _Stage(config, config.width // 2**index, rate) for index, rate in enumerate(config.rates)
        )
        narrow = config.width // 2 ** len(config.rates)
        self.activation = SmoothSnake(narrow)
        self.end = TimeLastConv(narrow, 1, 7)

    def forward(self, mel: Tensor) -> Tensor:
        """Samples within -1..1."""
        x = self.start(mel)
        for stage in self.stages:
            x = stage(x)
        return torch.tanh(self.end(self.activation(x)))
