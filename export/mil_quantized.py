"""MIL operations that pack and unpack numbers of few bits; names and parameters are those of coremltools 9."""

from __future__ import annotations

import torch
from torch import Tensor

from export.mil_program import demand, number


def scaled_blocks(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Weights from integers: (data - offset) * scale, every scale for the block of entries that it covers."""

    def spread(blocks: Tensor) -> Tensor:
        for axis in range(data.ndim):
            blocks = blocks.repeat_interleave(data.shape[axis] // blocks.shape[axis], axis)
        return blocks

    values = data.float() if offset is None else data.float() - spread(offset.float())
    return values * spread(scale)


def looked_up(indices: Tensor, lut: Tensor, vector_axis: Tensor | None = None) -> Tensor:
    """Weights from palettes: lut [blocks per axis..., entries, vector width], every palette for one block."""
    demand(vector_axis is None and lut.shape[-1] == 1, "constexpr_lut_to_dense with vectors")
    palette = lut.squeeze(-1)
    for axis in range(indices.ndim):
        palette = palette.repeat_interleave(indices.shape[axis] // palette.shape[axis], axis)
    return palette.gather(-1, indices[..., None]).squeeze(-1)


def _per_channel(parameter: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    if parameter.ndim == 0 or axis is None:
        return parameter
    shape = [1] * x.ndim
    shape[number(axis)] = -1
    return parameter.reshape(shape)


def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    """round(x / scale) + zero point, within the type."""
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[output_dtype]
    shifted = torch.round(input / _per_channel(scale, input, axis))
    if zero_point is not None:
        shifted = shifted + _per_channel(zero_point.float(), input, axis)
    return shifted.clamp(low, high).long()


def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    """(q - zero point) * scale."""
    values = input.float()
    if zero_point is not None:
        values = values - _per_channel(zero_point.float(), input, axis)
    return values * _per_channel(scale, input, axis)
