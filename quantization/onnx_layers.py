"""The layers of an ONNX graph: nodes that read a weight and what the weight is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

HELPER_VALUES = 3
"""A matrix of at most this many different values (0/1 choices, means, rotations) is a helper: nothing was learnt."""

Kind = Literal["product", "table", "convolution"]
_USES: dict[str, tuple[int, Kind]] = {
    "MatMul": (1, "product"),
    "Gemm": (1, "product"),
    "Gather": (0, "table"),
    "Conv": (1, "convolution"),
}
"""By operator, which of its inputs is the weight of a layer, and of which kind."""


@dataclass(frozen=True)
class Layer:
    """One weight and how it is used."""

    name: str
    """Of the weight: its path in the module."""
    kind: Kind
    """Right side of a matrix product, rows to look up, or kernel of a convolution."""
    shape: tuple[int, ...]
    grouped: bool = False
    """Whether it is the kernel of a convolution in groups."""
    biased: bool = False
    """Whether the same node adds a bias to the product."""

    @property
    def elements(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))


def weights_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Float initializers by name."""
    return {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    }


def kind_of(node: onnx.NodeProto, weights: Iterable[str]) -> tuple[str, Kind] | None:
    """Weight and kind of a node that is a layer, or None."""
    if node.op_type not in _USES:
        return None
    place, kind = _USES[node.op_type]
    if node.input[place] not in weights:
        return None
    if node.op_type == "Gemm" and _attributes(node) not in ({}, {"transB": 1}):
        return None
    return node.input[place], kind


def layers_of(graph: onnx.GraphProto) -> list[Layer]:
    """Every layer once, in the order in which the graph runs; matrices only as right sides of products."""
    weights, found = weights_of(graph), {}
    for node in graph.node:
        use = kind_of(node, weights)
        if use is not None and use[0] not in found:
            shape = tuple(weights[use[0]].dims)
            if use[1] == "convolution" or len(shape) == 2:
                grouped = _attributes(node).get("group", 1) > 1
                biased = node.op_type == "Gemm" and len(node.input) > 2
                found[use[0]] = Layer(use[0], use[1], shape, grouped, biased)
    return list(found.values())


def is_helper(tensor: onnx.TensorProto) -> bool:
    """Whether a matrix holds a fixed operation and no learnt weights; see ``HELPER_VALUES``."""
    return len(np.unique(onnx.numpy_helper.to_array(tensor))) <= HELPER_VALUES


def by_output(node: onnx.NodeProto, tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """The weight of a product or table, float32 [out, in]: one row has the weights of one output or entry."""
    array = onnx.numpy_helper.to_array(tensor)
    turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attributes(node).get("transB"))
    return np.ascontiguousarray(array.T if turned else array)


def finish(model: onnx.ModelProto) -> bytes:
    """The file of a rewritten model: unused weights dropped, checked, the same bytes every time."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes that are not at the value that changes nothing."""
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, "axis": 0}
    return {name: value for name, value in given.items() if plain.get(name) != value}
