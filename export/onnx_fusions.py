"""Patterns of a float graph in the form that ONNX Runtime has one kernel for: fewer passes over the same numbers.

norms      x * (1 / root) as x / root, which ONNX Runtime recognises as a root-mean-square norm when it loads the file
rotations  rotary positions in the half-split layout as RotaryEmbedding
modulation scale and shift after a layer norm as the norm's own scale and bias; for one sound at a time
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from numpy.typing import NDArray

from quantization.onnx_graph import CONTRIB, Makers, declare_domains

LAST_OF_FOUR = (3, -1)
FIRST_POSITION, FLAT = "rotary.first_position", "modulation.flat"


def fuse(model: onnx.ModelProto) -> Counter[str]:
    """Put patterns together, in place.

    Args:
        model: float graph of a stage with a batch of one.

    Returns:
        How often each pattern was found.
    """
    fuser = _Fuser(model)
    found = Counter(modulations=fuser.modulations(), norms=fuser.norms(), rotations=fuser.rotations())
    fuser.finish()
    declare_domains(model)
    return found


class _Fuser:
    """Nodes in order and who makes each value; what nothing reads any more is dropped at the end."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.nodes = list(self.graph.node)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
        self.rows = {value.name for value in inferred if _is_one_row(value)}
        self.makers = Makers(self.nodes)

    def norms(self) -> int:
        """``Mul(x, Reciprocal(root))`` becomes ``Div(x, root)`` if it is the root of a mean and something small."""
        count = 0
        for position, node in enumerate(self.nodes):
            for place in range(2 if node.op_type == "Mul" else 0):
                inverse = self.makers.made(node.input[place], "Reciprocal")
                if inverse is not None and self._is_root_mean(inverse.input[0]):
                    parts = [node.input[1 - place], inverse.input[0]]
                    self.nodes[position] = onnx.helper.make_node("Div", parts, node.output)
                    count += 1
                    break
        self.makers = Makers(self.nodes)
        return count

    def _is_root_mean(self, name: str) -> bool:
        root = self.makers.made(name, "Sqrt")
        total = None if root is None else self.makers.made(root.input[0], "Add")
        return total is not None and self.makers.made(total.input[0], "ReduceMean") is not None

    def rotations(self) -> int:
        """Halves a, b of x joined as (a cos - b sin, b cos + a sin), with tables of one row a position."""
        count = 0
        for position, node in enumerate(self.nodes):
            found = self._rotation(node)
            if found is not None:
                self._constant(FIRST_POSITION, np.zeros(1, dtype=np.int64))
                x, cosine, sine = found
                self.nodes[position] = onnx.helper.make_node(
                    "RotaryEmbedding", [x, FIRST_POSITION, cosine, sine], node.output, domain=CONTRIB
                )
                count += 1
        self.makers = Makers(self.nodes)
        return count

    def _rotation(self, node: onnx.NodeProto) -> tuple[str, str, str] | None:
        if node.op_type != "Concat" or len(node.input) != 2:
            return None
        difference, total = self.makers.made(node.input[0], "Sub"), self.makers.made(node.input[1], "Add")
        if difference is None or total is None:
            return None
        products = [self.makers.made(name, "Mul") for side in (difference, total) for name in side.input]
        if any(product is None for product in products):
            return None
        (a, cosine), (b, sine), (c, cosine_again), (d, sine_again) = (
            p.input for p in products if p is not None
        )
        split = self.makers.made(a, "Split")
        tables = self.makers.made(cosine, "Cos"), self.makers.made(sine, "Sin")
        if split is None or None in tables or len(split.input) > 1:
            return None
        if [a, b] != list(split.output) or [b, a] != [c, d] or [cosine, sine] != [cosine_again, sine_again]:
            return None
        if _attribute(split, "axis") not in LAST_OF_FOUR or _attribute(node, "axis") not in LAST_OF_FOUR:
            return None
        return split.input[0], cosine, sine

    def modulations(self) -> int:
        """``LayerNormalization(x, ones) * scale + shift`` becomes ``LayerNormalization(x, scale, shift)``."""
        nodes: list[onnx.NodeProto] = []
        count = 0
        for node in self.nodes:
            found = self._modulation(node)
            if found is None:
                nodes.append(node)
                continue
            self._constant(FLAT, np.array([-1], dtype=np.int64))
            norm, scale, shift = found
            (y,) = node.output
            flat = [f"{y}.gain", f"{y}.offset"]
            for name, made in zip((scale, shift), flat, strict=True):
                nodes.append(onnx.helper.make_node("Reshape", [name, FLAT], [made]))
            fused = onnx.helper.make_node("LayerNormalization", [norm.input[0], *flat], [y])
            fused.attribute.extend(norm.attribute)
            nodes.append(fused)
            count += 1
        self.nodes = nodes
        self.makers = Makers(self.nodes)
        return count

    def _modulation(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str, str] | None:
        product = self.makers.made(node.input[0], "Mul") if node.op_type == "Add" else None
        norm = None if product is None else self.makers.made(product.input[0], "LayerNormalization")
        if product is None or norm is None or len(norm.input) != 2 or norm.input[1] not in self.constants:
            return None
        ones = onnx.numpy_helper.to_array(self.constants[norm.input[1]])
        scale, shift = product.input[1], node.input[1]
        if not (ones == 1).all() or not {scale, shift} <= self.rows:
            return None
        return norm, scale, shift

    def finish(self) -> None:
        """Write the nodes that are still needed back; unused constants go."""
        needed = {port.name for port in self.graph.output}
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants = [tensor for name, tensor in self.constants.items() if name in needed]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(reversed(kept))
        self.graph.initializer.extend(constants)

    def _constant(self, name: str, array: NDArray[np.int64]) -> None:
        self.constants.setdefault(name, onnx.numpy_helper.from_array(array, name))


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}.get(name)


def _is_one_row(value: onnx.ValueInfoProto) -> bool:
    """Whether all dimensions but the last are one and the last is known."""
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return bool(sizes) and sizes[-1] > 0 and all(size == 1 for size in sizes[:-1])
