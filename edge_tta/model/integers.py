"""Integers for weights and activations, as the runtimes' kernels define them: one definition for files and training.

The files that ``quantization`` writes hold these integers and scales, and networks trained to live with them
(``edge_tta.model.fake_quantization``) see the same numbers. Rounding is half to even throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme

BLOCK_SCALE_FACTORS = (1.0, 0.94, 0.88, 0.82, 0.76)
"""Shares of a block's largest weight that are tried as its range; the one with the least squared error is taken."""


class QuantizedWeight(NamedTuple):
    """Integers of a weight [out, in] and what they stand for: ``values * scale``."""

    values: Tensor
    """int8 [out, in], or [out, blocks, block_size] with zeros beyond the last input."""
    scale: Tensor
    """float32 [out, 1], or [out, blocks, 1]."""
    inputs: int
    """Size of the input axis."""

    def dequantized(self) -> Tensor:
        """The weight that the integers stand for, float32 [out, in]."""
        product = self.values.to(self.scale.dtype) * self.scale
        return product.flatten(1)[:, : self.inputs]


def quantize_weight(weight: Tensor, scheme: Scheme) -> QuantizedWeight:
    """Round a weight to integers.

    Args:
        weight: float32 [out, in].
        scheme: int8 per channel, or int8 or int4 in blocks.

    Raises:
        ConfigError: a scheme that has no integers here.
    """
    weight = weight.detach()
    if scheme.weights == "int8" and scheme.granularity == "channel":
        return _quantize_channels(weight, 64 if scheme.reduce_range else 127)
    if scheme.weights in ("int4", "int8") and scheme.granularity == "block":
        return _quantize_blocks(weight, scheme.block_size, 8 if scheme.weights == "int4" else 128)
    raise ConfigError(f"no integers are defined for {scheme}")


def _quantize_channels(weight: Tensor, limit: int) -> QuantizedWeight:
    """Symmetric, the largest weight of a channel at ``limit``."""
    scale = _nonzero(weight.abs().amax(dim=1, keepdim=True) / limit)
    values = torch.clamp(torch.round(weight / scale), -limit, limit)
    return QuantizedWeight(values.to(torch.int8), scale, weight.shape[1])


def _quantize_blocks(weight: Tensor, block_size: int, half: int) -> QuantizedWeight:
    """Symmetric around 0 with the levels -half .. half - 1; the weight of largest size takes the end that has more.

    Scales are rounded to bfloat16 before the weights are, which halves their bytes and costs nothing: the integers
    are chosen for the scale as it is stored.
    """
    inputs = weight.shape[1]
    blocks = F.pad(weight, (0, -inputs % block_size)).reshape(len(weight), -1, block_size)
    extreme = blocks.gather(-1, blocks.abs().argmax(dim=-1, keepdim=True))
    best = least = values = None
    for factor in BLOCK_SCALE_FACTORS:
        scale = _nonzero((extreme * (factor / -half)).to(torch.bfloat16).to(weight.dtype))
        rounded = torch.clamp(torch.round(blocks / scale), -half, half - 1)
        error = _pairwise_sum((rounded * scale - blocks).square())
        if best is None or least is None or values is None:
            best, least, values = scale, error, rounded
        else:
            better = error < least
            best, least = torch.where(better, scale, best), torch.where(better, error, least)
            values = torch.where(better, rounded, values)
    assert best is not None and values is not None
    return QuantizedWeight(values.to(torch.int8), best, inputs)


def _pairwise_sum(values: Tensor) -> Tensor:
    """Sum over the last axis, a power of two long, in one order on every machine: equal weights give equal files."""
    while values.shape[-1] > 1:
        values = values[..., 0::2] + values[..., 1::2]
    return values


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def quantized_activations(x: Tensor, scheme: Scheme) -> Tensor:
    """Activations [batch, ..., in] as the kernels see them while running; float32 of the same shape.

    Raises:
        ConfigError: a scheme whose activations are not quantized while running.
    """
    x = x.detach()
    if scheme.activations != "dynamic":
        raise ConfigError(f"the inputs of {scheme} are not quantized while running")
    return _in_blocks(x, scheme.block_size) if scheme.granularity == "block" else _in_one_range(x)


def _in_one_range(x: Tensor) -> Tensor:
    """ONNX DynamicQuantizeLinear: unsigned bytes over the range of a whole example, which always holds zero."""
    flat = x.flatten(1)
    low = flat.amin(dim=1).clamp(max=0.0)
    high = flat.amax(dim=1).clamp(min=0.0)
    shape = (-1, *([1] * (x.dim() - 1)))
    scale = _nonzero((high - low) / 255).reshape(shape)
    zero = torch.clamp(torch.round(-low.reshape(shape) / scale), 0, 255)
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def _in_blocks(x: Tensor, block_size: int) -> Tensor:
    """ONNX Runtime's MatMulNBits at accuracy level 4: signed bytes, a scale for every block of a row."""
    inputs = x.shape[-1]
    blocks = F.pad(x, (0, -inputs % block_size)).unflatten(-1, (-1, block_size))
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    # The kernel multiplies by the reciprocal, which decides some ties otherwise than a division.
    rounded = torch.round(blocks * (1 / _nonzero(scale))) * scale
    return rounded.flatten(-2)[..., :inputs]
