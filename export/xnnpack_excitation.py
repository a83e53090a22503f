"""The decoder's excitation in XNNPACK's layout, batch 1; see ``export.xnnpack_layers``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.excitation import BinConstants, Excitation
from edge_tta.model.folded_dft import ByParity
from export.xnnpack_layers import Product, constant


class RunningSum(nn.Module):
    """Sum of every row and those before it: within latent frames by a product, over latent frames by ``cumsum``.

    That is a slow portable kernel and adds up in the type of its output; thousands of frames need more than float32.

    Args:
        group: rows of a latent frame.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group
        self.within, self.whole = Product(torch.ones(group, group).triu()), Product(torch.ones(group, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[L * group, T] -> [L, group, T]."""
        width = x.shape[1]
        groups = x.view(-1, self.group, width).permute(0, 2, 1)
        whole = self.whole(groups).view(-1, width)
        before = torch.cumsum(whole, dim=0, dtype=torch.float64).float() - whole
        within: Tensor = self.within(groups).permute(0, 2, 1).contiguous()
        return within + before.view(-1, 1, width)


class BinExcitation(nn.Module):
    """``Excitation`` of the even or the odd bins.

    Args:
        source: what the original knows of these bins.
        frames_per_latent: STFT frames in a latent frame.
    """

    def __init__(self, source: BinConstants, frames_per_latent: int) -> None:
        super().__init__()
        self.to_bins, self.to_tonal_bins = Product(source.to_bins), Product(source.to_tonal_bins)
        self.to_slope, self.running_sum = Product(source.to_slope), RunningSum(frames_per_latent)
        self.centre_phase = constant(source.centre_phase)
        self.noise_real = nn.Buffer(source.noise[0].clone(), persistent=False)
        self.noise_imaginary = nn.Buffer(source.noise[1].clone(), persistent=False)
        self.high = (0, source.to_bins.shape[1] - source.to_tonal_bins.shape[1])

    def forward(
        self, advance: Tensor, delay: Tensor, levels: tuple[Tensor, Tensor, Tensor], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts [frames, K'].

        Args:
            advance: [frames, T'], radians.
            delay: [frames, W], radians.
            levels: tone, transient and noise, [frames, W] each.
            rows: int64 [frames], of the noise.
        """
        phase = (self.running_sum(advance) + self.centre_phase).view(-1, advance.shape[1])
        slope = self.to_slope(delay)
        tone, click, rest = self.to_tonal_bins(levels[0]), self.to_bins(levels[1]), self.to_bins(levels[2])
        real, imaginary = (
            torch.index_select(noise, 0, rows).to(torch.float32)
            for noise in (self.noise_real, self.noise_imaginary)
        )
        return (
            F.pad(tone * torch.cos(phase), self.high) + click * torch.cos(slope) + rest * real,
            F.pad(tone * torch.sin(phase), self.high) + click * torch.sin(slope) + rest * imaginary,
        )


class XnnpackExcitation(nn.Module):
    """``Excitation`` with the constants of the original."""

    def __init__(self, source: Excitation) -> None:
        super().__init__()
        self.noise_frames = source.noise_frames
        self.even, self.odd = (
            BinExcitation(constants, source.frames_per_latent) for constants in (source.even, source.odd)
        )
        self.can_be_tonal, self.noise_scale = constant(source.can_be_tonal), constant(source.noise_scale)
        self.one, self.share_floor = constant(torch.ones(1)), constant(torch.tensor([1e-8]))

    def forward(
        self, advance: ByParity, delay: Tensor, tonality: Tensor, impulsiveness: Tensor
    ) -> tuple[ByParity, ByParity]:
        """Real and imaginary parts, [frames, K'] each.

        Args:
            advance: [frames, T'] each, radians.
            delay: [frames, W], radians.
            tonality: [frames, W] in 0..1.
            impulsiveness: [frames, W] in 0..1.
        """
        tone_share = tonality * self.can_be_tonal
        click_share = impulsiveness * (self.one - tone_share)
        left = self.one - tone_share - click_share + self.share_floor
        levels = (
            torch.sqrt(tone_share + self.share_floor),
            torch.sqrt(click_share + self.share_floor),
            torch.sqrt(left) * self.noise_scale,
        )
        rows = torch.remainder(torch.arange(delay.shape[0]), self.noise_frames)
        even = self.even(advance.even, delay, levels, rows)
        odd = self.odd(advance.odd, delay, levels, rows)
        return ByParity(even[0], odd[0]), ByParity(even[1], odd[1])
