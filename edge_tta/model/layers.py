"""Layers of the latent transformer, written so that training, forward-mode derivatives and export share one form.

Convolutions over time are a gather of shifted copies and one Linear: the only layout in which ONNX Runtime and
XNNPACK both run int8 fast, and as fast as a convolution in float.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmoothFourierFeatures(nn.Module):
    """Cosines and sines of a scalar at low frequencies, float32 [B] -> [B, features].

    The fastest component turns at 30 rad per unit: MeanFlow differentiates the network in time, and the usual factor
    of 1000 would make that derivative explode.
    """

    frequencies: Tensor

    def __init__(self, features: int, slowest: float = 0.5, fastest: float = 30.0) -> None:
        super().__init__()
        exponents = torch.linspace(math.log(slowest), math.log(fastest), features // 2)
        self.register_buffer("frequencies", exponents.exp(), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Features of float32 [B]."""
        angle = value[:, None] * self.frequencies
        return torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)


class ScalarEmbedding(nn.Module):
    """Fourier features and a two-layer MLP, float32 [B] -> [B, width].

    Args:
        width: output width.
        features: Fourier features, even.
        silent_start: zero the last layer, so that adding the branch changes nothing until it is trained.
    """

    def __init__(self, width: int, features: int, silent_start: bool = False) -> None:
        super().__init__()
        self.features = SmoothFourierFeatures(features)
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, width)
        if silent_start:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, value: Tensor) -> Tensor:
        """Embedding of float32 [B]."""
        embedded: Tensor = self.out(F.silu(self.hidden(self.features(value))))
        return embedded


def shifted_copies(x: Tensor, kernel: int) -> Tensor:
    """Neighbours of every frame side by side, zero beyond the ends: [B, L, C] -> [B, L, kernel * C], kernel odd."""
    if kernel == 1:
        return x
    length, reach = x.shape[1], kernel // 2
    padded = F.pad(x, (0, 0, reach, reach))
    return torch.cat([padded[:, shift : shift + length] for shift in range(kernel)], dim=-1)


class TimeConv(nn.Module):
    """Convolution over time with zero padding as shifted copies and one Linear, [B, L, C] -> [B, L, out]."""

    def __init__(self, channels: int, out: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.kernel = kernel
        self.linear = nn.Linear(kernel * channels, out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Same-length convolution."""
        convolved: Tensor = self.linear(shifted_copies(x, self.kernel))
        return convolved


class GatedConvMLP(nn.Module):
    """SwiGLU whose three maps are bias-free convolutions over time (MeanAudio, section on ConvMLP); [B, L, C]."""

    def __init__(self, width: int, feedforward: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.gate_and_value = nn.Linear(kernel * width, 2 * feedforward, bias=False)
        self.project = nn.Linear(kernel * feedforward, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        gate, value = self.gate_and_value(shifted_copies(x, self.kernel)).chunk(2, dim=-1)
        projected: Tensor = self.project(shifted_copies(F.silu(gate) * value, self.kernel))
        return projected


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last axis with a learned scale."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.epsilon) * self.scale


def rotary_angles(length: int, head_width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions 0..length-1, float32 [length, head_width / 2] each (base 10000)."""
    steps = torch.arange(0, head_width, 2, device=like.device, dtype=torch.float32) / head_width
    inverse = torch.exp(-math.log(10000.0) * steps)
    angle = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * inverse
    return torch.cos(angle).to(like.dtype), torch.sin(angle).to(like.dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., 2021) in the half-split layout; x [B, H, L, D]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class QueryKeyValue(nn.Module):
    """Fused projection, RMSNorm of queries and keys per head, rotary positions: [B, L, D] -> three [B, H, L, D / H]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.fused = nn.Linear(width, 3 * width)
        self.query_norm = RMSNorm(self.head_width)
        self.key_norm = RMSNorm(self.head_width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        batch, length, _ = x.shape
        query, key, value = (
            part.reshape(batch, length, self.heads, self.head_width).transpose(1, 2)
            for part in self.fused(x).chunk(3, dim=-1)
        )
        cosine, sine = rotary_angles(length, self.head_width, x)
        return (
            rotate(self.query_norm(query), cosine, sine),
            rotate(self.key_norm(key), cosine, sine),
            value,
        )


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, explicit: bool) -> Tensor:
    """Scaled dot-product attention, heads merged: [B, H, L, d] -> [B, L, H * d].

    Args:
        query: [B, H, L, d].
        key: [B, H, S, d].
        value: [B, H, S, d].
        bias: added to the logits, broadcastable to [B, H, L, S], or None.
        explicit: write out matmul, softmax, matmul. Fused kernels have no forward-mode derivative, and mobile
            backends lower the written-out form better.
    """
    if explicit:
        logits = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        mixed = torch.matmul(torch.softmax(logits if bias is None else logits + bias, dim=-1), value)
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return mixed.transpose(1, 2).flatten(2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Parameter-free LayerNorm, then scale and shift from the condition; x [B, L, C], shift and scale [B, 1, C]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Modulation(nn.Module):
    """adaLN-zero (Peebles & Xie, 2023): shifts, scales and gates from the condition, all zero at the start.

    Args:
        width: width of stream and condition.
        parts: how many vectors of ``width`` to produce.
        shared: a projection made elsewhere is passed to ``forward``; only an offset is learned here.
    """

    def __init__(self, width: int, parts: int, shared: bool) -> None:
        super().__init__()
        self.parts = parts
        self.linear = None if shared else nn.Linear(width, parts * width)
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        self.offset = nn.Parameter(torch.zeros(parts * width)) if shared else None

    def forward(self, condition: Tensor, shared: Tensor | None) -> tuple[Tensor, ...]:
        """``parts`` vectors [B, 1, width] from SiLU(condition) [B, width] or ``shared`` [B, >= parts * width]."""
        if self.linear is not None:
            flat = self.linear(condition)
        else:
            assert shared is not None and self.offset is not None
            flat = shared[:, : self.offset.shape[0]] + self.offset
        return flat[:, None].chunk(self.parts, dim=-1)


class Dropout(nn.Module):
    """Residual dropout (Vaswani et al., 2017, section 5.4): leaves out values of a branch before it is added.

    Without a rate it is not there, so exported graphs hold nothing of it; ``seeded_dropout`` gives it one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0
        """Share of the values that are left out; the others are raised so that the mean stays."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving, [B, L, C]; draws from torch's global source."""
        return F.dropout(x, self.rate) if self.rate > 0 else x


@contextlib.contextmanager
def seeded_dropout(network: nn.Module, rate: float, draws: torch.Generator) -> Iterator[None]:
    """Within it every ``Dropout`` of a network has a rate, as a function of the next number of ``draws`` alone.

    Afterwards there is no dropout, and torch's global sources are as they were.
    """
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=draws)))
        for layer in layers:
            layer.rate = rate
        try:
            yield
        finally:
            for layer in layers:
                layer.rate = 0.0


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, LayerNorm, two Linears with GELU, scaled residual; float32 [B, L, C]."""

    def __init__(self, width: int, expansion: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving, float32 [B, L, C]."""
        hidden = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.project(F.gelu(self.expand(self.norm(hidden)), approximate="tanh"))
        return x + self.scale * hidden
