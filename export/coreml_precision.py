"""Which operations of a program are computed in halves, and which halves would ruin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_WEIGHTED = frozenset({"linear", "conv", "layer_norm"})
_SENSITIVE = frozenset({"cos", "sin", "exp"})


class Halves:
    """Decides for the converter which operations are computed in halves."""

    def __init__(self) -> None:
        self._float32: frozenset[str] | None = None

    def __call__(self, operation: Any) -> bool:
        # Asked operation by operation while the program is being rewritten; the first call still sees all of it.
        if self._float32 is None:
            self._float32 = float32_operations(operation.enclosing_block.operations)
        return operation.name not in self._float32


def float32_operations(operations: Iterable[Any]) -> frozenset[str]:
    """Names of the operations of a MIL program that halves would ruin.

    - What an angle or an exponential comes from, back to the last layer with weights: above 256 neighbouring halves are
      0.25 apart, and rotary positions and running phases reach thousands; a rounded scale of a logarithm is the same
      error in every frame.
    - What follows an exponential or a running sum, except layers with weights: magnitudes reach from full scale to
      -90 dB, and their squares far below the smallest half.
    - Sums of squares under a root: the square of 256 is beyond the largest half.
    - Arithmetic on the inputs themselves: a rounded constant there shifts the whole sound.

    Args:
        operations: pymil operations in order.
    """
    ordered = [operation for operation in operations if operation.op_type != "const"]
    return frozenset(_sources(ordered) | _consequences(ordered) | _norms(ordered) | _on_inputs(ordered))


def _sources(ordered: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for operation in reversed(ordered):
        used = any(child.name in found for output in operation.outputs for child in output.child_ops)
        if operation.op_type in _SENSITIVE or (used and operation.op_type not in _WEIGHTED):
            found.add(operation.name)
    return found


def _consequences(ordered: Sequence[Any]) -> set[str]:
    reached: set[str] = set()
    for operation in ordered:
        above = any(value.op is not None and value.op.name in reached for value in _inputs(operation))
        if above or operation.op_type in ("exp", "cumsum"):
            reached.add(operation.name)
    return reached - {operation.name for operation in ordered if operation.op_type in _WEIGHTED}


def _norms(ordered: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for operation in reversed(ordered):
        used = any(child.name in found for output in operation.outputs for child in output.child_ops)
        inputs = list(_inputs(operation))
        is_square = operation.op_type == "square" or (operation.op_type == "mul" and inputs[0] is inputs[1])
        part = is_square or operation.op_type in ("add", "reduce_mean", "reduce_sum")
        if operation.op_type == "rsqrt" or (used and part):
            found.add(operation.name)
    return found


def _on_inputs(ordered: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for operation in ordered:
        made = [value.op for value in _inputs(operation) if value.op is None or value.op.op_type != "const"]
        direct = all(source is None or source.name in found for source in made)
        if made and direct and operation.op_type in ("add", "mul", "real_div", "sub"):
            found.add(operation.name)
    return found


def _inputs(operation: Any) -> Iterator[Any]:
    for value in operation.inputs.values():
        yield from value if isinstance(value, list | tuple) else (value,)
