"""What each MIL operation computes, on torch tensors; names, parameters and defaults are those of coremltools 9.

A parameter that is not listed here is an error, and so is a value of one that an operation does not know: a program is
never run as something it does not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from export.mil_program import MilError, demand, number, numbers
from export.mil_quantized import dequantize, looked_up, quantize, scaled_blocks

Result = Tensor | Sequence[Tensor]
Operator = Callable[..., Result]


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit."""
    demand(mode in ("EXACT", "TANH_APPROXIMATION"), f"gelu in mode {mode}")
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def cast(x: Tensor, dtype: str) -> Tensor:
    """Change of type; what a narrower type loses is applied to every result by its declared type."""
    if dtype == "bool":
        return x != 0
    return x.float() if dtype.startswith("fp") else x.long()


def gather(
    x: Tensor, indices: Tensor, axis: Tensor | None = None, batch_dims: Tensor | None = None,
    validate_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Entries along an axis."""
    demand(batch_dims is None or number(batch_dims) == 0, "gather with batch_dims")
    dimension = number(axis) % x.ndim if axis is not None else 0
    if indices.numel() and (
        int(indices.min()) < -x.shape[dimension] or int(indices.max()) >= x.shape[dimension]
    ):
        raise MilError("gather reaches beyond its input")
    wrapped = torch.where(indices < 0, indices + x.shape[dimension], indices)
    picked = x.index_select(dimension, wrapped.reshape(-1))
    return picked.reshape([*x.shape[:dimension], *indices.shape, *x.shape[dimension + 1 :]])


def concat(values: Sequence[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    """Values one after the other; single numbers become a vector."""
    demand(interleave is None or not bool(interleave), "interleaved concat")
    return torch.cat([value.reshape(1) if value.ndim == 0 else value for value in values], number(axis))


def slice_by_index(
    x: Tensor, begin: Tensor, end: Tensor, stride: Tensor | None = None, begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None, squeeze_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Python's slices on every axis; a mask means the whole way, or a single entry whose axis goes."""
    rank = x.ndim
    strides = numbers(stride) if stride is not None else [1] * rank
    demand(all(step > 0 for step in strides), "slice_by_index with a negative stride")
    from_start, to_end, single = (
        numbers(mask) if mask is not None else [0] * rank for mask in (begin_mask, end_mask, squeeze_mask)
    )
    places: list[int | slice] = []
    for axis, (first, last) in enumerate(zip(numbers(begin), numbers(end), strict=True)):
        if single[axis]:
            places.append(first)
        else:
            places.append(
                slice(None if from_start[axis] else first, None if to_end[axis] else last, strides[axis])
            )
    return x[tuple(places)]


def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """Same elements, other shape; -1 stands for what is left."""
    sizes = numbers(shape)
    demand(0 not in sizes, "reshape that copies a dimension")
    return x.reshape(sizes)


def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """New axes of size 1, at their places in the result."""
    rank = x.ndim + axes.numel()
    for axis in sorted(place % rank for place in numbers(axes)):
        x = x.unsqueeze(axis)
    return x


def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> Result:
    """Parts along an axis."""
    dimension = number(axis)
    if split_sizes is None:
        assert num_splits is not None
        return x.split(x.shape[dimension] // number(num_splits), dimension)
    return x.split(numbers(split_sizes), dimension)


def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    """Constant border; pairs of before and after for the last axes, in their order."""
    demand(mode == "constant", f"pad in mode {mode}")
    pairs = numbers(pad)
    # torch counts axes from the last one.
    swapped = [size for axis in range(len(pairs) - 2, -1, -2) for size in pairs[axis : axis + 2]]
    return F.pad(x, swapped, value=0.0 if constant_val is None else float(constant_val))


def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Numbers from start on, before end."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def cumsum(
    x: Tensor, axis: Tensor | None = None, exclusive: Tensor | None = None, reverse: Tensor | None = None
) -> Tensor:
    """Running sum along an axis."""
    demand(
        not any(bool(flag) for flag in (exclusive, reverse) if flag is not None),
        "exclusive or reverse cumsum",
    )
    return torch.cumsum(x, 0 if axis is None else number(axis))


def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """The other way round along some axes, or all."""
    return torch.flip(x, numbers(axes) if axes is not None else list(range(x.ndim)))


def reduction(operation: Callable[..., Tensor]) -> Operator:
    """Reduction over some axes, or all."""

    def reduce(x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | None = None) -> Tensor:
        places = numbers(axes) if axes is not None else list(range(x.ndim))
        return operation(x, dim=places, keepdim=keep_dims is not None and bool(keep_dims))

    return reduce


def layer_norm(
    x: Tensor, axes: Tensor | None = None, gamma: Tensor | None = None, beta: Tensor | None = None,
    epsilon: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalisation over the last axes."""
    places = sorted(place % x.ndim for place in numbers(axes)) if axes is not None else list(range(x.ndim))
    demand(places == list(range(x.ndim - len(places), x.ndim)), "layer_norm over inner axes")
    shape = [x.shape[place] for place in places]
    return F.layer_norm(x, shape, gamma, beta, 1e-5 if epsilon is None else float(epsilon))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in], weight [out, in]."""
    return F.linear(x, weight, bias)


def matmul(
    x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None
) -> Tensor:
    """Matrix product of the last two axes."""
    left = x.transpose(-1, -2) if transpose_x is not None and bool(transpose_x) else x
    right = y.transpose(-1, -2) if transpose_y is not None and bool(transpose_y) else y
    return torch.matmul(left, right)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, strides: Tensor | None = None, pad_type: str = "valid",
    pad: Tensor | None = None, dilations: Tensor | None = None, groups: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Convolution over time, x [B, C, L]."""
    demand(
        x.ndim == 3 and pad_type in ("valid", "custom"),
        f"{x.ndim - 2}-dimensional conv with padding {pad_type}",
    )
    if pad is not None and pad_type == "custom":
        x = F.pad(x, numbers(pad))
    step = numbers(strides) if strides is not None else [1]
    spread = numbers(dilations) if dilations is not None else [1]
    return F.conv1d(x, weight, bias, step, 0, spread, number(groups) if groups is not None else 1)


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention without a fused kernel."""
    logits = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        logits = (
            logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        )
    return torch.matmul(torch.softmax(logits, -1), value)


OPERATORS: dict[str, Operator] = {
    "add": lambda x, y: x + y,
    "atan": lambda x: torch.atan(x),
    "cast": cast,
    "clip": lambda x, alpha, beta: torch.clamp(x, float(alpha), float(beta)),
    "concat": concat,
    "const": lambda val: val,
    "constexpr_blockwise_shift_scale": scaled_blocks,
    "constexpr_lut_to_dense": looked_up,
    "conv": conv,
    "cos": lambda x: torch.cos(x),
    "cumsum": cumsum,
    "dequantize": dequantize,
    "equal": lambda x, y: x == y,
    "exp": lambda x: torch.exp(x),
    "expand_dims": expand_dims,
    "floor_div": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "gather": gather,
    "gelu": gelu,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "identity": lambda x: x,
    "layer_norm": layer_norm,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "linear": linear,
    "logical_and": lambda x, y: x & y,
    "logical_or": lambda x, y: x | y,
    "matmul": matmul,
    "mul": lambda x, y: x * y,
    "pad": pad,
    "quantize": quantize,
    "range_1d": range_1d,
    "real_div": lambda x, y: x / y,
    "reduce_mean": reduction(torch.mean),
    "reduce_sum": reduction(torch.sum),
    "reshape": reshape,
    "reverse": reverse,
    "rsqrt": lambda x, epsilon=None: torch.rsqrt(x + (1e-12 if epsilon is None else epsilon)),
    "scaled_dot_product_attention": attention,
    "select": lambda cond, a, b: torch.where(cond, a, b),
    "shape": lambda x: torch.tensor(x.shape, dtype=torch.int64),
    "sigmoid": lambda x: torch.sigmoid(x),
    "silu": lambda x: F.silu(x),
    "sin": lambda x: torch.sin(x),
    "slice_by_index": slice_by_index,
    "softmax": lambda x, axis=None: torch.softmax(x, -1 if axis is None else number(axis)),
    "split": split,
    "sqrt": lambda x: torch.sqrt(x),
    "square": lambda x: torch.square(x),
    "squeeze": lambda x, axes: x.squeeze(tuple(numbers(axes))),
    "sub": lambda x, y: x - y,
    "transpose": lambda x, perm: x.permute(numbers(perm)),
}
