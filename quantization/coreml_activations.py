"""Linears whose inputs are rounded to int8 with a range found by calibration: what Core ML multiplies in eight bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch

# Registers the operators that exporters know quantized tensors by.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

from quantization.calibration import Arrays
from quantization.ranges import See, find_ranges

LOW, HIGH = -128, 127
MIN_SCALE = 1e-4
"""Smallest step; Core ML stores steps as halves, whose normal range ends near 6e-5."""


def input_ranges(
    module: nn.Module, ports: Sequence[str], inputs: Sequence[Arrays], weights: Collection[str]
) -> dict[str, tuple[float, float]]:
    """Ranges in which what reaches each Linear is best rounded to eight bits.

    Args:
        module: a stage.
        ports: names of its inputs in order.
        inputs: what it is given, by name, one entry a run.
        weights: names of the Linears' weights.

    Returns:
        Lowest and highest value by name of the weight.
    """

    def run(see: See) -> None:
        def watch(name: str, x: Tensor) -> Tensor:
            see(name, x.numpy())
            return x

        with _before_linears(module, weights, watch), torch.inference_mode():
            for given in inputs:
                module(*(torch.from_numpy(given[port]) for port in ports))

    return find_ranges(run)


@contextlib.contextmanager
def static_inputs(module: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> Iterator[None]:
    """Round the inputs of Linears to int8 while the block runs, one step and zero for each Linear.

    Args:
        module: a stage.
        ranges: lowest and highest value by name of the Linear's weight.
    """

    def rounded(name: str, x: Tensor) -> Tensor:
        low, high = ranges[name]
        step = max((high - low) / (HIGH - LOW), MIN_SCALE)
        zero = min(max(round(LOW - low / step), LOW), HIGH)
        operators = torch.ops.quantized_decomposed
        whole = operators.quantize_per_tensor(x, step, zero, LOW, HIGH, torch.int8)
        found: Tensor = operators.dequantize_per_tensor(whole, step, zero, LOW, HIGH, torch.int8)
        return found

    with _before_linears(module, ranges, rounded):
        yield


@contextlib.contextmanager
def _before_linears(
    module: nn.Module, weights: Collection[str], change: Callable[[str, Tensor], Tensor]
) -> Iterator[None]:
    handles = []
    try:
        for weight in weights:
            layer = module.get_submodule(weight.removesuffix(".weight"))

            def before(_: nn.Module, inputs: tuple[Tensor, ...], name: str = weight) -> tuple[Tensor, ...]:
                return (change(name, inputs[0]), *inputs[1:])

            handles.append(layer.register_forward_pre_hook(before))
        yield
    finally:
        for handle in handles:
            handle.remove()
