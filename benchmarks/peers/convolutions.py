"""Convolutions over time as they were published, and what to put in their place where a runtime is faster with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.layers import TimeConv


class TimeLastConv(nn.Conv1d):
    """Convolution of [B, C, L] with zero padding that keeps the length; kernel odd."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(
            channels, out, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias
        )


class ChannelLastConv(nn.Module):
    """Convolution of [B, L, C] over L with zero padding that keeps the length; kernel odd."""

    def __init__(self, channels: int, out: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        conv = nn.Conv1d(channels, out, kernel, bias=bias)
        self.weight = nn.Parameter(conv.weight.detach())
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Same-length convolution."""
        kernel = self.weight.shape[2]
        if kernel == 1:
            return F.linear(x, self.weight[:, :, 0], self.bias)
        convolved: Tensor = F.conv1d(x.transpose(1, 2), self.weight, self.bias, padding=kernel // 2)
        return convolved.transpose(1, 2)

    def unfolded(self) -> TimeConv:
        """Shifted copies and one matrix product, the form that int8 kernels are fast for; the same numbers."""
        out, channels, kernel = self.weight.shape
        conv = TimeConv(channels, out, kernel, bias=self.bias is not None)
        conv.linear.weight = nn.Parameter(self.weight.detach().transpose(1, 2).flatten(1).contiguous())
        if self.bias is not None:
            conv.linear.bias = self.bias
        return conv


class FlatConv(nn.Module):
    """A convolution over time as one of pictures of height 1: ONNX Runtime has blocked kernels for those alone."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (1, conv.kernel_size[0]),
            padding=(0, int(conv.padding[0])),
            dilation=(1, conv.dilation[0]),
            bias=conv.bias is not None,
        )
        self.conv.weight = nn.Parameter(conv.weight.detach()[:, :, None])
        if conv.bias is not None:
            self.conv.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution it replaces."""
        convolved: Tensor = self.conv(x[:, :, None])
        return convolved[:, :, 0]


class Snake(nn.Module):
    """x + sin^2(a x) / b with a and b per channel, stored as logarithms (Ziyin et al. 2020, arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(channels, 1))
        self.log_beta = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving, [B, C, L]."""
        wave = torch.sin(torch.exp(self.log_alpha) * x)
        return x + torch.exp(-self.log_beta) * (wave * wave)


def replace_convolutions(module: nn.Module, *, flat: bool) -> None:
    """Put every convolution of a module into a form for a runtime, in place.

    Args:
        module: channel-last convolutions become matrix products.
        flat: make those over the last axis two-dimensional.
    """
    for name, part in list(module.named_children()):
        if isinstance(part, ChannelLastConv):
            setattr(module, name, part.unfolded())
        elif isinstance(part, TimeLastConv) and flat:
            setattr(module, name, FlatConv(part))
        else:
            replace_convolutions(part, flat=flat)
