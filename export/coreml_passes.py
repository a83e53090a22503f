"""What the converter's own passes leave to do: halves where they suffice."""

from __future__ import annotations

import functools
from typing import Any

from export.coreml_precision import Halves
from quantization.coreml import import_coremltools

_FP16_PASS = "common::add_fp16_cast"
_HALVE = "edge_tta::halve_where_it_suffices"


def pass_pipeline(halves: bool) -> Any:
    """``coremltools.PassPipeline`` of all passes, ours among them.

    Args:
        halves: compute in halves except where ``export.coreml_precision`` forbids it, else everything in float32.

    Raises:
        MissingExtraError: coremltools is absent.
    """
    coremltools = import_coremltools()
    _register_pass()
    pipeline = coremltools.PassPipeline()
    place = pipeline.passes.index(_FP16_PASS)
    pipeline.remove_passes({_FP16_PASS})
    if halves:
        pipeline.insert_pass(place, _HALVE)
    return pipeline


@functools.cache
def _register_pass() -> None:
    """Make our pass known to coremltools, once."""
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    @register_pass(namespace="edge_tta")
    class halve_where_it_suffices(FP16ComputePrecision):
        """Halves, except where they would ruin the result."""

        def apply(self, prog: Any) -> None:
            self.op_selector = Halves()
            super().apply(prog)
