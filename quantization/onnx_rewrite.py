"""Layers of an ONNX graph in integers: the nodes that ONNX Runtime has fast kernels for.

int8 per channel, dynamic inputs   DynamicQuantizeLinear and MatMulInteger, which are fused when a file is loaded;
                                   of a convolution's shifted copies the first comes before the copying
int8 per channel, static inputs    QuantizeLinear and DequantizeLinear around a float MatMul, fused likewise; with a
                                   bias they would be fused to a float Gemm instead
int4 or int8 in blocks             MatMulNBits; with quantized inputs at accuracy level 4, integer arithmetic
tables                             Gather on int8 rows with a scale each
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch
from numpy.typing import NDArray

from edge_tta.errors import ConfigError
from edge_tta.model.integers import QuantizedWeight, quantize_weight
from edge_tta.model.scheme import Scheme
from quantization.onnx_graph import CONTRIB, declare_domains
from quantization.onnx_layers import Layer, by_output, kind_of, weights_of
from quantization.onnx_unfold import round_before_unfolding

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value of activations by the name of their tensor."""
ACCURACY_INTEGER, ACCURACY_FLOAT = 4, 1
"""Accuracy levels of MatMulNBits: inputs rounded to int8, or left in float."""


def check_kernel(layer: Layer, scheme: Scheme) -> None:
    """Refuse a scheme, not float, that ONNX Runtime has no fast kernel for.

    Raises:
        ConfigError: names the layer and the scheme.
    """
    static = scheme.activations == "static" and not layer.biased
    fits = {
        "table": scheme == Scheme("int8"),
        "product": scheme.granularity == "block" or scheme.activations == "dynamic" or static,
        "convolution": False,
    }
    if not fits[layer.kind]:
        what = f"{layer.kind} with a bias" if layer.biased else layer.kind
        raise ConfigError(f"{layer.name}: ONNX Runtime has no fast kernel for a {what} in {scheme}")


def rewrite(model: onnx.ModelProto, schemes: Mapping[str, Scheme], ranges: Ranges | None = None) -> None:
    """Put layers into integers, in place.

    Args:
        model: float graph; left with float weights that nothing uses any more.
        schemes: what becomes of each weight, by name; weights that are not named stay float.
        ranges: of the inputs of layers with static activations.

    Raises:
        ConfigError: a scheme without kernels for the layer, or a static layer without a range.
    """
    writer = _Writer(model.graph, schemes, ranges or {})
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.extend(writer.replacement(node))
    nodes = round_before_unfolding(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(writer.made.values())
    declare_domains(model)


class _Writer:
    def __init__(self, graph: onnx.GraphProto, schemes: Mapping[str, Scheme], ranges: Ranges) -> None:
        self.weights, self.schemes, self.ranges = weights_of(graph), schemes, ranges
        self.made: dict[str, onnx.TensorProto] = {}
        self._integers: dict[str, QuantizedWeight] = {}
        self._inputs: set[str] = set()
        self._scaled: set[str] = set()

    def replacement(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that take a node's place; itself if its weight stays float."""
        use = kind_of(node, self.weights)
        scheme = Scheme() if use is None else self.schemes.get(use[0], Scheme())
        if use is None or scheme.is_float:
            return [node]
        weight, kind = use
        check_kernel(
            Layer(weight, kind, tuple(self.weights[weight].dims), biased=len(node.input) > 2), scheme
        )
        if weight not in self._integers:
            rows = torch.from_numpy(by_output(node, self.weights[weight]).copy())
            self._integers[weight] = quantize_weight(rows, scheme)
        if kind == "table":
            return self._rows(node, weight)
        if scheme.granularity == "block":
            return [*self._blocks(node, weight, scheme), *self._bias(node)]
        if scheme.activations == "dynamic":
            return [*self._dynamic(node, weight), *self._bias(node)]
        return self._static(node, weight)

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self.made.setdefault(name, onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _columns(self, weight: str) -> tuple[str, str]:
        """int8 [in, out] and float32 [out] of a weight per channel."""
        integers = self._integers[weight]
        return (
            self._constant(f"{weight}.int8", integers.values.numpy().T),
            self._constant(f"{weight}.scale", integers.scale.numpy().reshape(-1)),
        )

    @staticmethod
    def _product(node: onnx.NodeProto) -> str:
        """Name of a product before the bias of its Gemm."""
        return f"{node.output[0]}.product" if len(node.input) > 2 else node.output[0]

    def _bias(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if len(node.input) < 3:
            return []
        return [onnx.helper.make_node("Add", [self._product(node), node.input[2]], [node.output[0]])]

    def _dynamic(self, node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
        x, y, make = node.input[0], self._product(node), onnx.helper.make_node
        values, scale = self._columns(weight)
        zero = self._constant("int8.zero", np.zeros((), dtype=np.int8))
        nodes = []
        # What another integer layer made has a scale of its own by that name.
        given = f"{x}.input" if x in self._scaled else x
        self._scaled.add(y)
        if x not in self._inputs:
            self._inputs.add(x)
            parts = [f"{given}.uint8", f"{given}.scale", f"{given}.zero"]
            nodes.append(make("DynamicQuantizeLinear", [x], parts))
        return [
            *nodes,
            make("MatMulInteger", [f"{given}.uint8", values, f"{given}.zero", zero], [f"{y}.sum"]),
            make("Cast", [f"{y}.sum"], [f"{y}.float"], to=onnx.TensorProto.FLOAT),
            make("Mul", [f"{given}.scale", scale], [f"{y}.scale"]),
            make("Mul", [f"{y}.float", f"{y}.scale"], [y]),
        ]

    def _static(self, node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
        x, y, make = node.input[0], node.output[0], onnx.helper.make_node
        if x not in self.ranges:
            raise ConfigError(f"{weight}: static inputs need a calibration that has seen them")
        values, weight_scale = self._columns(weight)
        low, high = min(self.ranges[x][0], 0.0), max(self.ranges[x][1], 0.0)
        step = np.float32((high - low) / 255 or 1.0)
        scale = self._constant(f"{x}.scale", np.asarray(step))
        zero = self._constant(f"{x}.zero", np.asarray(np.clip(np.rint(-low / step), 0, 255), dtype=np.uint8))
        nodes = []
        if x not in self._inputs:
            self._inputs.add(x)
            nodes = [
                make("QuantizeLinear", [x, scale, zero], [f"{x}.uint8"]),
                make("DequantizeLinear", [f"{x}.uint8", scale, zero], [f"{x}.rounded"]),
            ]
        return [
            *nodes,
            make("DequantizeLinear", [values, weight_scale], [f"{y}.weight"], axis=1),
            make("MatMul", [f"{x}.rounded", f"{y}.weight"], [y]),
        ]

    def _blocks(self, node: onnx.NodeProto, weight: str, scheme: Scheme) -> list[onnx.NodeProto]:
        integers = self._integers[weight]
        names = [
            self._constant(f"{weight}.{scheme.weights}", _packed(integers, scheme)),
            self._constant(f"{weight}.scale", integers.scale.numpy().reshape(-1)),
        ]
        return [
            onnx.helper.make_node(
                "MatMulNBits",
                [node.input[0], *names],
                [self._product(node)],
                domain=CONTRIB,
                K=integers.inputs,
                N=len(integers.values),
                bits=4 if scheme.weights == "int4" else 8,
                block_size=scheme.block_size,
                accuracy_level=ACCURACY_FLOAT if scheme.activations == "float" else ACCURACY_INTEGER,
            )
        ]

    def _rows(self, node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
        ids, y, make = node.input[1], node.output[0], onnx.helper.make_node
        integers = self._integers[weight]
        self._scaled.add(y)
        values = self._constant(f"{weight}.int8", integers.values.numpy())
        scale = self._constant(f"{weight}.scale", integers.scale.numpy())
        return [
            make("Gather", [values, ids], [f"{y}.int8"], axis=0),
            make("Gather", [scale, ids], [f"{y}.scale"], axis=0),
            make("Cast", [f"{y}.int8"], [f"{y}.float"], to=onnx.TensorProto.FLOAT),
            make("Mul", [f"{y}.float", f"{y}.scale"], [y]),
        ]


def _packed(integers: QuantizedWeight, scheme: Scheme) -> NDArray[np.uint8]:
    """Unsigned integers [out, blocks, bytes of a block]; of two four-bit ones the first has the low half."""
    half = 8 if scheme.weights == "int4" else 128
    unsigned = (integers.values.numpy().astype(np.int16) + half).astype(np.uint8)
    if scheme.weights == "int8":
        return unsigned
    packed: NDArray[np.uint8] = (unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)).astype(np.uint8)
    return packed
