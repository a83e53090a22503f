"""A look into the graphs that an ExecuTorch program hands to XNNPACK, by ``runtime_schema.fbs`` of executorch 1.5.

What is checked is what XNNPACK's own loader was seen to trust (random damage, each case in a process of its own): that
values fit the weights they name, operators the values they name (``xnnpack_operators``), that what goes in and out has
a place, and that names of weights are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_tta.bundle.flatbuffer import Malformed, Table, number
from edge_tta.bundle.xnnpack_operators import check_operators

MAX_DIMENSIONS = 6
MAX_VALUE_BYTES = 2**31
"""Most that a value may take, bytes: XNNPACK makes room for whatever is named."""
_BITS = {1: 32, 2: 16, 3: 8, 4: 8, 5: 32, 6: 8, 7: 32, 8: 4, 9: 8, 10: 4, 11: 8, 12: 32, 13: 32, 14: 16}
"""Bits of an element by its type's number in the schema."""
_QUANTIZED = 2
_PER_CHANNEL, _PER_GROUP = 1, 4
_EXTERNAL = 3
"""Flags of values that come from outside or go there."""
_NO_PLACE = 2**32 - 1
"""Number among inputs and outputs of a value that is neither."""


@dataclass(frozen=True)
class XnnpackGraph:
    """What the program around a graph must agree with."""

    operators: int
    """Number of operators."""
    ranks: tuple[int, ...]
    """Dimensions of every input, then of every output."""


def inspect_xnnpack(payload: memoryview, named: Mapping[str, int]) -> XnnpackGraph:
    """Check one graph.

    Args:
        payload: the delegate's data. Its header has a magic at 4, offset and size of the graph at 10 and 14, of the
            weights beside it at 18 and 22.
        named: bytes of the program's named data.

    Raises:
        Malformed: says what is wrong.
    """
    if bytes(payload[4:8]) != b"XH00":
        raise Malformed("XNNPACK's data has no header")
    offset, size, beside = number(payload, 10, "I"), number(payload, 14, "I"), number(payload, 22, "Q")
    if offset + size > len(payload) or number(payload, 18, "I") + beside > len(payload):
        raise Malformed("XNNPACK's graph reaches beyond its data")
    view = payload[offset : offset + size]
    graph = Table.root(view, b"XN00" if bytes(view[4:8]) == b"XN00" else b"XN01")
    weights = []
    graph.text(0)
    for entry in graph.tables(8):
        key, length = entry.text(2), entry.number(1, "Q")
        # A name that is not known ends the process in the Python binding, as any text does that is no UTF-8.
        if key and named.get(key, -1) < length:
            raise Malformed(f"XNNPACK asks for {length} bytes of {key[:80]!r}")
        if not key and entry.number(0, "Q") + length > beside:
            raise Malformed("XNNPACK's weights reach beyond its data")
        weights.append(length)
    if graph.count(6, 4) > 1:
        raise Malformed("XNNPACK's weights are inside its graph")
    ends: dict[int, tuple[int, int]] = {}
    sizes: dict[int, tuple[int, ...]] = {}
    static: set[int] = set()
    for value in graph.tables(2):
        tensor, quantization = value.table(1), None
        if tensor is not None and value.number(0, "B") == _QUANTIZED:
            quantization = (tensor.number(1, "B"), tensor.table(2))
            tensor = tensor.table(0)
        if tensor is None:
            raise Malformed("a value of XNNPACK's without content")
        identity = tensor.number(6, "I")
        if identity in sizes:
            raise Malformed(f"two values of XNNPACK's are called {identity}")
        sizes[identity] = _check_value(tensor, quantization, weights)
        if tensor.number(3, "I"):
            static.add(identity)
        place = tensor.number(4, "I")
        if tensor.number(5, "I") & _EXTERNAL:
            ends[identity] = place, len(sizes[identity])
        elif place != _NO_PLACE:
            raise Malformed("a value of XNNPACK's takes the place of an input or output")
    inputs, outputs = graph.numbers(4, "I"), graph.numbers(5, "I")
    names = (*inputs, *outputs)
    places = [ends[name][0] for name in names if name in ends]
    if set(names) != set(ends) or places != list(range(len(names))) or graph.number(3, "I") != len(names):
        raise Malformed("XNNPACK's inputs and outputs are not its values, in their order")
    count, there = check_operators(graph.tables(1), sizes, static, inputs)
    if not there.issuperset(outputs):
        raise Malformed("XNNPACK's graph does not make its outputs")
    return XnnpackGraph(count, tuple(ends[name][1] for name in names))


def _check_value(
    tensor: Table, quantization: tuple[int, Table | None] | None, weights: list[int]
) -> tuple[int, ...]:
    """Dimensions of a value whose weights and scales, if it has some, are all there."""
    bits, sizes = _BITS.get(tensor.number(0, "h")), tensor.numbers(2, "I")
    if bits is None or len(sizes) != tensor.number(1, "I") or len(sizes) > MAX_DIMENSIONS:
        raise Malformed("a value of XNNPACK's of an unknown type or shape")
    index, size = tensor.number(3, "I"), (math.prod(sizes) * bits + 7) // 8
    if size > MAX_VALUE_BYTES:
        raise Malformed(f"a value of XNNPACK's of {size} bytes")
    if index == 0:
        return sizes
    if index >= len(weights) or weights[index] < size:
        raise Malformed("a value of XNNPACK's is larger than its weights")
    if quantization is not None:
        _check_scales(quantization, sizes, weights)
    return sizes


def _check_scales(quantization: tuple[int, Table | None], sizes: tuple[int, ...], weights: list[int]) -> None:
    """Scales per channel or group must be as many as there are channels or groups."""
    kind, scales = quantization
    if kind not in (_PER_CHANNEL, _PER_GROUP):
        return
    if scales is None or not 0 <= scales.number(1, "i") < len(sizes):
        raise Malformed("a value of XNNPACK's without scales")
    needed, width = sizes[scales.number(1, "i")], 4
    index, count = (2, 3) if kind == _PER_CHANNEL else (4, 5)
    if kind == _PER_GROUP:
        group = scales.number(2, "i")
        if group <= 0 or math.prod(sizes) % group:
            raise Malformed(f"XNNPACK's groups of {group}")
        # Scales of groups are bfloat16.
        needed, width = math.prod(sizes) // group, 2
    place, stored = scales.number(index, "I"), scales.number(count, "I")
    inline = scales.count(0, 4)
    held = weights[place] // width if 0 < place < len(weights) and stored == needed else inline
    if held < needed:
        raise Malformed(f"a value of XNNPACK's has {held} scales, it needs {needed}")
