"""Layers of the models in the form that XNNPACK takes whole, with the weights of the layers they replace.

XNNPACK's partitioner leaves splits, slices of dynamic length, reductions, Python scalars and symbolic shapes to slower
kernels (``executorch.backends.xnnpack.partition.config``). So here streams are two-dimensional, [length, width]; what
is split elsewhere has a Linear of its own; means are products with a column of ones over D; scalars are buffers. In
float the results are those of the original layers up to rounding.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.layers import (
    ConvNeXtBlock,
    GatedConvMLP,
    QueryKeyValue,
    RMSNorm,
    ScalarEmbedding,
    TimeConv,
    rotary_angles,
)


def constant(value: Tensor) -> nn.Buffer:
    """A constant of the graph that is no weight: quantization does not see it."""
    return nn.Buffer(value.detach().clone().float().contiguous(), persistent=False)


def linear_of(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Linear with copies of a weight [out, in] and bias [out]."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


def split_linear(source: nn.Linear, parts: int) -> list[nn.Linear]:
    """Linears that make the equal parts a fused one would be chunked into."""
    weights = source.weight.chunk(parts)
    biases = (None,) * parts if source.bias is None else source.bias.chunk(parts)
    return [linear_of(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


class Product(nn.Module):
    """Product with a constant matrix [in, out]; no Linear, so that quantization leaves it alone."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weight = constant(matrix.T)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight)


class Mean(Product):
    """Mean over the last axis, kept: [..., D] -> [..., 1]."""

    def __init__(self, width: int) -> None:
        super().__init__(torch.full((width, 1), 1.0 / width))


class Normalise(nn.Module):
    """LayerNorm without parameters over the last axis, [L, D]."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.mean = Mean(width)
        self.epsilon = constant(torch.tensor([epsilon]))

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        centred = x - self.mean(x)
        return centred * torch.rsqrt(self.mean(centred * centred) + self.epsilon)


class AffineNorm(nn.Module):
    """``nn.LayerNorm`` over the last axis, [L, D]."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.normalise = Normalise(source.normalized_shape[0], source.eps)
        self.scale, self.shift = constant(source.weight), constant(source.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        normalised: Tensor = self.normalise(x) * self.scale + self.shift
        return normalised


class HeadNorm(nn.Module):
    """``RMSNorm`` of the last axis, [H, L, d]; a factor is folded into its scale."""

    def __init__(self, source: RMSNorm, factor: float = 1.0) -> None:
        super().__init__()
        self.mean = Mean(source.scale.shape[0])
        self.epsilon = constant(torch.tensor([source.epsilon]))
        self.scale = constant(source.scale * factor)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        normalised: Tensor = x * torch.rsqrt(self.mean(x * x) + self.epsilon) * self.scale
        return normalised


def silu(x: Tensor) -> Tensor:
    """SiLU as the product XNNPACK has operators for."""
    return x * torch.sigmoid(x)


class Arctangent(nn.Module):
    """``torch.atan2``, for which XNNPACK has no operator and the portable kernel takes a number at a time.

    The arc is halved twice, as tan(a / 2) = sin(a) / (1 + cos(a)), so that a polynomial of the tangent's square is
    within 2e-8 of its angle; what lies left of the vertical is taken from its mirror image. Where y is 0 the angle is
    0 or, left of it, not defined: no network's output lies there.
    """

    POLYNOMIAL = (0.99999998, -0.33332797, 0.19974406, -0.13851485, 0.07984967)
    """Chebyshev fit of arctan(t) / t in t^2 up to t = tan(pi / 8)."""

    def __init__(self) -> None:
        super().__init__()
        for power, term in enumerate(self.POLYNOMIAL):
            self.register_buffer(f"term{power}", torch.tensor([4.0 * term]), persistent=False)
        self.one, self.half_turn = constant(torch.ones(1)), constant(torch.tensor([math.pi / 2]))
        self.tiny, self.huge = constant(torch.tensor([1e-30])), constant(torch.tensor([1e30]))

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Angle of (x, y) in radians, -pi to pi; shape-preserving."""
        length = torch.sqrt(x * x + y * y)
        half = y / (length + torch.abs(x) + self.tiny)
        quarter = half / (self.one + torch.sqrt(self.one + half * half))
        square = quarter * quarter
        *lower, total = (self.get_buffer(f"term{power}") for power in range(len(self.POLYNOMIAL)))
        for term in reversed(lower):
            total = total * square + term
        right = self._sign(x)
        return right * total * quarter + (self.one - right) * self.half_turn * self._sign(y)

    def _sign(self, x: Tensor) -> Tensor:
        return torch.clamp(x * self.huge, -1.0, 1.0)


class Embedding(nn.Module):
    """``ScalarEmbedding`` of (value - offset) / scale, [1] -> [1, width]."""

    def __init__(self, source: ScalarEmbedding, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.frequencies = constant(source.features.frequencies[None] / scale)
        self.offset = constant(torch.tensor([[offset]]))
        self.hidden, self.out = copy.deepcopy(source.hidden), copy.deepcopy(source.out)

    def forward(self, value: Tensor) -> Tensor:
        """Embedding of float32 [1]."""
        angle = (value.view(1, 1) - self.offset) * self.frequencies
        features = torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)
        embedded: Tensor = self.out(silu(self.hidden(features)))
        return embedded


def shifted_copies(x: Tensor, kernel: int) -> Tensor:
    """Neighbours of every row side by side, zero beyond the ends: [L, C] -> [L, kernel * C], kernel odd."""
    if kernel == 1:
        return x
    length, reach = x.shape[0], kernel // 2
    padded = F.pad(x, (0, 0, reach, reach))
    copies = [x if shift == reach else padded[shift : shift + length] for shift in range(kernel)]
    return torch.cat(copies, dim=1)


class Convolution(nn.Module):
    """``TimeConv``, [L, C] -> [L, out]."""

    def __init__(self, source: TimeConv) -> None:
        super().__init__()
        self.kernel = source.kernel
        self.linear = copy.deepcopy(source.linear)

    def forward(self, x: Tensor) -> Tensor:
        """Same-length convolution."""
        convolved: Tensor = self.linear(shifted_copies(x, self.kernel))
        return convolved


class GatedMLP(nn.Module):
    """``GatedConvMLP`` with Linears of their own for gate and value, and for every shift of the projection, [L, C].

    The hidden rows are several times as wide as what comes out: shifting the latter copies less.
    """

    def __init__(self, source: GatedConvMLP) -> None:
        super().__init__()
        self.kernel = source.kernel
        self.gate, self.value = split_linear(source.gate_and_value, 2)
        weights = source.project.weight.chunk(source.kernel, dim=1)
        self.project = nn.ModuleList(linear_of(weight) for weight in weights)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        copies = shifted_copies(x, self.kernel)
        hidden = silu(self.gate(copies)) * self.value(copies)
        length, reach = x.shape[0], self.kernel // 2
        projected: Tensor = self.project[reach](hidden)
        for shift, project in enumerate(self.project):
            if shift != reach:
                padded = F.pad(project(hidden), (0, 0, reach, reach))
                projected = projected + padded[shift : shift + length]
        return projected


def heads_first(x: Tensor, heads: int, head_width: int) -> Tensor:
    """[L, H * d] -> [H, L, d]."""
    return x.view(-1, heads, head_width).permute(1, 0, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as product, softmax, product, heads merged: [H, L, d] and twice [H, S, d] -> [L, H * d].

    The queries carry the factor 1 / sqrt(d).
    """
    shares = torch.softmax(torch.bmm(query, key.permute(0, 2, 1)), dim=-1)
    mixed = torch.bmm(shares, value).permute(1, 0, 2).contiguous()
    return mixed.view(-1, mixed.shape[1] * mixed.shape[2])


class Rotary(nn.Module):
    """Cosines and sines of rotary positions for a stream of at most ``longest`` rows."""

    def __init__(self, longest: int, head_width: int) -> None:
        super().__init__()
        cosine, sine = rotary_angles(longest, head_width, torch.zeros(1))
        self.cosine, self.sine = constant(cosine), constant(sine)
        # A tensor put beside itself is no concatenation to XNNPACK's partitioner.
        self.twice = Product(torch.eye(head_width // 2).repeat(1, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A row per position of a stream [L, .], twice side by side for the two halves of a head: [L, d] each."""
        return self.twice(self.cosine[: x.shape[0]]), self.twice(self.sine[: x.shape[0]])


class SplitQueryKeyValue(nn.Module):
    """``QueryKeyValue`` with a Linear for each, [L, D] -> three [H, L, d]; queries carry 1 / sqrt(d).

    The rotation of half-split rotary positions (a, b) -> (-b, a) is a product with a constant matrix.
    """

    def __init__(self, source: QueryKeyValue) -> None:
        super().__init__()
        self.heads, self.head_width = source.heads, source.head_width
        self.query, self.key, self.value = split_linear(source.fused, 3)
        self.query_norm = HeadNorm(source.query_norm, self.head_width**-0.5)
        self.key_norm = HeadNorm(source.key_norm)
        half = self.head_width // 2
        turn = torch.zeros(self.head_width, self.head_width)
        turn[half:, :half], turn[:half, half:] = -torch.eye(half), torch.eye(half)
        self.turn = Product(turn)

    def forward(self, x: Tensor, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; ``rows`` are those of ``Rotary``."""
        query = self.query_norm(heads_first(self.query(x), self.heads, self.head_width))
        key = self.key_norm(heads_first(self.key(x), self.heads, self.head_width))
        value = heads_first(self.value(x), self.heads, self.head_width)
        return self._rotate(query, rows), self._rotate(key, rows), value

    def _rotate(self, x: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
        return x * rows[0] + self.turn(x) * rows[1]


class ConvNeXt(nn.Module):
    """``ConvNeXtBlock``, [L, C]; the depthwise convolution stays a convolution.

    The lowering (executorch 1.5) takes GELU's tanh form (Hendrycks & Gimpel, 2016) for the exact one without a word,
    which costs half the decoder's decibels. So it is written out: with c = sqrt(8 / pi) it is x sigmoid(c x + 0.044715
    c x^3), and with x scaled by the cube root of 0.044715 c the cubic has one factor left. The scale is folded into the
    Linears on both sides.
    """

    def __init__(self, source: ConvNeXtBlock) -> None:
        super().__init__()
        slope = math.sqrt(8.0 / math.pi)
        unit = (0.044715 * slope) ** (1.0 / 3.0)
        self.depthwise = copy.deepcopy(source.depthwise)
        self.norm = AffineNorm(source.norm)
        self.expand = linear_of(source.expand.weight * unit, source.expand.bias * unit)
        self.project = linear_of(source.project.weight / unit, source.project.bias)
        self.slope, self.scale = constant(torch.tensor([slope / unit])), constant(source.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Shape-preserving."""
        width = self.scale.shape[0]
        hidden = self.depthwise(x.view(1, -1, width).permute(0, 2, 1)).permute(0, 2, 1)
        hidden = self.expand(self.norm(hidden.contiguous().view(-1, width)))
        hidden = self.project(hidden * torch.sigmoid(hidden * (hidden * hidden + self.slope)))
        return x + self.scale * hidden
