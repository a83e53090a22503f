"""The operators of a graph for XNNPACK, by ``runtime_schema.fbs`` of executorch 1.5.

XNNPACK believes what an operator says of itself: a list that is not there, an axis beyond the dimensions, a convolution
of no channels, or a value that nothing has made yet ends the process. So only operators that programs here are made of
are let through, in an order in which each finds what it takes, with lists and numbers that fit the values they name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

from edge_tta.bundle.flatbuffer import Malformed, Table

_FULLY_CONNECTED, _TRANSPOSE, _PAD, _DEPTHWISE, _RESHAPE, _SLICE = 2, 5, 10, 13, 20, 35
_CONCATENATIONS = (32, 33, 34, 38)
_UNARY = (3, 4, 6, 17, 18, 22, 23, 24, 27, 28, 30, 40, 41, 42, 43, 44, 45, 46, 47)
_BINARY = (1, 8, 12, 15, 16, 26, 37)
_VALUES: dict[int, tuple[int, ...]] = {
    **dict.fromkeys(_UNARY, (0, 1)),
    **dict.fromkeys(_BINARY, (0, 1, 2)),
    _FULLY_CONNECTED: (0, 1, 3),
    _TRANSPOSE: (2, 3),
    _PAD: (3, 4),
    _DEPTHWISE: (15, 16, 18),
    _RESHAPE: (2, 3),
    32: (1, 2, 5),
    33: (1, 2, 3, 5),
    34: (1, 2, 3, 4, 5),
    38: (1, 2, 3, 4, 7, 5),
    _SLICE: (3, 4),
}
"""Where an operator, by its number in the schema, names the values it takes and, last, the one it makes."""
_BIASES = {_FULLY_CONNECTED: 2, _DEPTHWISE: 17}
"""Where an operator with weights, its second value, names what is added."""
_NO_VALUE = 2**32 - 1
_TRANSPOSED = 1
"""Flag of weights that are stored [input, output]."""
_POSITIVE = range(4, 13)
"""Numbers of a convolution that it divides by or steps with: kernel, strides, dilations, channels, groups."""


def check_operators(
    nodes: Iterable[Table], sizes: Mapping[int, tuple[int, ...]], static: Set[int], inputs: Iterable[int]
) -> tuple[int, set[int]]:
    """Check the operators of a graph.

    Args:
        nodes: ``XNode`` of the schema, in the order of their work.
        sizes: dimensions of all values by their number in the graph.
        static: values with weights.
        inputs: values that come from outside.

    Returns:
        The number of operators, and all values that are there when they are done.

    Raises:
        Malformed: says what is wrong.
    """
    there = {*static, *inputs}
    count = 0
    for node in nodes:
        kind, operator = node.number(0, "B"), node.table(1)
        if kind not in _VALUES or operator is None:
            raise Malformed(f"XNNPACK's operator {kind} is not among those that programs here are made of")
        *taken, made = (operator.number(place, "I") for place in _VALUES[kind])
        if not there.issuperset(taken) or made in there or made not in sizes:
            raise Malformed(f"XNNPACK's operator {kind} takes what is not there, or makes what is")
        if not _fits(kind, operator, [sizes[value] for value in taken], sizes[made]):
            raise Malformed(f"XNNPACK's operator {kind} does not fit the values it names")
        if kind in _BIASES:
            weights, bias = taken[1], operator.number(_BIASES[kind], "I")
            length = math.prod(sizes[bias]) if bias in static else None
            if weights not in static or (
                bias != _NO_VALUE and length != _outputs(kind, operator, sizes[weights])
            ):
                raise Malformed(f"XNNPACK's operator {kind} is without its weights")
        there.add(made)
        count += 1
    return count, there


def _fits(kind: int, operator: Table, taken: list[tuple[int, ...]], made: tuple[int, ...]) -> bool:
    """Whether an operator's lists and numbers suit the dimensions of what it takes and makes."""
    given, rank = len(taken[0]), len(made)
    if kind == _FULLY_CONNECTED:
        return len(taken[1]) == 2
    if kind == _DEPTHWISE:
        return _is_convolution(operator, taken[1])
    if kind == _PAD:
        before, after = operator.numbers(0, "I"), operator.numbers(1, "I")
        if not len(before) == len(after) == given == rank:
            return False
        return all(first + last <= size for first, last, size in zip(before, after, made, strict=True))
    if kind == _SLICE:
        return operator.number(0, "I") == operator.count(1, 4) == operator.count(2, 4) == given == rank
    if kind == _TRANSPOSE:
        order = operator.numbers(1, "I")
        return operator.number(0, "I") == given == rank and sorted(order) == list(range(rank))
    if kind == _RESHAPE:
        return operator.number(0, "I") == operator.count(1, 4) == rank
    if kind in _CONCATENATIONS:
        return operator.number(0, "I") < rank and all(len(sizes) == rank for sizes in taken)
    return True


def _is_convolution(operator: Table, weights: tuple[int, ...]) -> bool:
    """Whether a depthwise convolution has all its numbers, and as many weights as they ask for."""
    if not all(operator.number(place, "I") for place in _POSITIVE):
        return False
    kernel = operator.number(4, "I") * operator.number(5, "I")
    each, made = operator.number(10, "I"), operator.number(11, "I")
    return made % each == 0 and kernel * _outputs(_DEPTHWISE, operator, weights) == math.prod(weights)


def _outputs(kind: int, operator: Table, weights: tuple[int, ...]) -> int:
    """Channels that an operator with weights makes."""
    if kind == _FULLY_CONNECTED:
        return weights[operator.number(4, "I") & _TRANSPOSED]
    return operator.number(12, "I") * (operator.number(11, "I") // operator.number(10, "I"))
