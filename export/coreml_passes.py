"""What the converter's own passes leave to do: halves where they suffice, a matrix and its transpose stored once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from export.coreml_precision import Halves
from quantization.coreml import import_coremltools

MIN_ELEMENTS = 1024
"""Smaller matrices are not worth a look."""
SHARED = "_shared"
"""End of the name of a constant that stands for a matrix and its transpose."""


_FP16_PASS = "common::add_fp16_cast"
_HALVE, _SHARE = "edge_tta::halve_where_it_suffices", "edge_tta::share_transposes"


def pass_pipeline(halves: bool) -> Any:
    """``coremltools.PassPipeline`` of all passes, ours among them.

    Args:
        halves: compute in halves except where ``export.coreml_precision`` forbids it, else everything in float32.

    Raises:
        MissingExtraError: coremltools is absent.
    """
    coremltools = import_coremltools()
    _register_passes()
    pipeline = coremltools.PassPipeline()
    place = pipeline.passes.index(_FP16_PASS)
    pipeline.remove_passes({_FP16_PASS})
    if halves:
        pipeline.insert_pass(place, _HALVE)
    pipeline.append_pass(_SHARE)
    pipeline.append_pass("common::dead_code_elimination")
    return pipeline


@functools.cache
def _register_passes() -> None:
    """Make our passes known to coremltools, once."""
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    @register_pass(namespace="edge_tta")
    class halve_where_it_suffices(FP16ComputePrecision):
        """Halves, except where they would ruin the result."""

        def apply(self, prog: Any) -> None:
            self.op_selector = Halves()
            super().apply(prog)

    @register_pass(namespace="edge_tta")
    class share_transposes(AbstractGraphPass):
        """Products with a matrix, of which another product takes the transpose, use that one's weight."""

        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                self._apply(function)

        @block_context_manager
        def _apply(self, block: Any) -> None:
            shared: dict[str, Any] = {}
            for operation, weight in transposed_twins(block.operations):
                if weight.name not in shared:
                    # Constants stand before their first use, and that may now be an earlier one.
                    first = next(iter(block.operations))
                    shared[weight.name] = Builder.const(
                        val=weight.val, name=weight.name + SHARED, before_op=first
                    )
                    block.replace_uses_of_var_after_op(
                        anchor_op=first, old_var=weight, new_var=shared[weight.name]
                    )
                product = Builder.matmul(x=operation.x, y=shared[weight.name], before_op=operation)
                if np.any(operation.bias.val):
                    product = Builder.add(x=product, y=operation.bias, before_op=operation)
                block.replace_uses_of_var_after_op(
                    anchor_op=operation, old_var=operation.outputs[0], new_var=product
                )
                block.remove_ops([operation])


def transposed_twins(operations: Any) -> list[tuple[Any, Any]]:
    """Linears of a MIL block whose weight is the transpose of another Linear's weight.

    Returns:
        Every such operation with the weight [in, out] that it can take instead. Of a pair the parameter or buffer
        of the module stays, not the converter's copy.
    """
    linears = [operation for operation in operations if operation.op_type == "linear"]
    known: dict[tuple[tuple[int, ...], bytes], Any] = {}
    weights = {operation.weight.name: operation.weight for operation in linears}
    named = sorted(
        weights.values(), key=lambda weight: (not weight.name.startswith(("p_", "b_")), weight.name)
    )
    twins: dict[str, Any] = {}
    for weight in named:
        value = weight.val
        if value is None or value.size < MIN_ELEMENTS:
            continue
        twin = known.get((value.T.shape, np.ascontiguousarray(value.T).tobytes()))
        if twin is not None:
            twins[weight.name] = twin
        known.setdefault((value.shape, value.tobytes()), weight)
    return [
        (operation, twins[operation.weight.name]) for operation in linears if operation.weight.name in twins
    ]
