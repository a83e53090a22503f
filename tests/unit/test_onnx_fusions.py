"""Patterns of a float graph become single operators where they are those patterns, and the numbers stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_tta.runtime.golden import signal_to_noise_db
from export.onnx_fusions import fuse
from quantization.calibration import open_session

HEADS, LENGTH, WIDTH = 2, 5, 8
Nodes = list[onnx.NodeProto]
node = helper.make_node


def model(nodes: Nodes, inputs: dict[str, tuple[int, ...]], **constants: Any) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, inputs["x"])]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ports, out, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def norm(scale: float = 1.0) -> onnx.ModelProto:
    """Root-mean-square norm as the exporter writes it."""
    nodes = [
        node("Mul", ["x", "x"], ["square"]),
        node("ReduceMean", ["square", "last"], ["mean"]),
        node("Add", ["mean", "epsilon"], ["sum"]),
        node("Sqrt", ["sum"], ["root"]),
        node("Reciprocal", ["root"], ["inverse"]),
        node("Mul", ["x", "inverse"], ["normed"]),
        node("Mul", ["normed", "scale"], ["y"]),
    ]
    scales = np.full(WIDTH, scale, dtype=np.float32)
    return model(nodes, {"x": (1, LENGTH, WIDTH)}, last=[-1], epsilon=np.float32(1e-6), scale=scales)


def rotation(first: str = "Cos", concat_axis: int = -1, crossed: bool = False) -> onnx.ModelProto:
    """Rotary positions in the half-split layout as the exporter writes them; ``crossed`` exchanges halves."""
    c, d = ("a", "b") if crossed else ("b", "a")
    nodes = [
        node(first, ["angle"], ["cosine"]),
        node("Sin", ["angle"], ["sine"]),
        node("Split", ["x"], ["a", "b"], axis=3, num_outputs=2),
        node("Mul", ["a", "cosine"], ["ac"]),
        node("Mul", ["b", "sine"], ["bs"]),
        node("Sub", ["ac", "bs"], ["one"]),
        node("Mul", [c, "cosine"], ["bc"]),
        node("Mul", [d, "sine"], ["as"]),
        node("Add", ["bc", "as"], ["other"]),
        node("Concat", ["one", "other"], ["y"], axis=concat_axis),
    ]
    return model(nodes, {"x": (1, HEADS, LENGTH, WIDTH), "angle": (LENGTH, WIDTH // 2)})


def modulation(weight: float = 1.0, batch: int = 1, rows: int = 1) -> onnx.ModelProto:
    """Layer norm without parameters, scaled and shifted by a row of the condition."""
    nodes = [
        node("Add", ["condition", "one"], ["scale"]),
        node("LayerNormalization", ["x", "weight"], ["normed"], axis=-1, epsilon=1e-6),
        node("Mul", ["normed", "scale"], ["scaled"]),
        node("Neg", ["condition"], ["shift"]),
        node("Add", ["scaled", "shift"], ["y"]),
    ]
    weights = np.full(WIDTH, weight, dtype=np.float32)
    inputs = {"x": (batch, LENGTH, WIDTH), "condition": (batch, rows, WIDTH)}
    return model(nodes, inputs, one=np.float32(1), weight=weights)


def outputs(made: onnx.ModelProto) -> np.ndarray:
    random = np.random.default_rng(0)
    feeds = {
        port.name: random.standard_normal([d.dim_value for d in port.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for port in made.graph.input
    }
    (found,) = open_session(made.SerializeToString()).run(None, feeds)
    return np.asarray(found)


@pytest.mark.parametrize(
    ("made", "name", "operators"),
    [
        (norm(scale=0.5), "norms", {"Mul": 2, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1}),
        (rotation(), "rotations", {"Cos": 1, "Sin": 1, "RotaryEmbedding": 1}),
        (rotation(concat_axis=3), "rotations", {"Cos": 1, "Sin": 1, "RotaryEmbedding": 1}),
        (modulation(), "modulations", {"Add": 1, "Neg": 1, "Reshape": 2, "LayerNormalization": 1}),
    ],
    ids=["norm", "rotation", "rotation, axis from the front", "modulation"],
)
def test_a_pattern_becomes_fewer_operators_and_the_same_numbers(
    made: onnx.ModelProto, name: str, operators: dict[str, int]
) -> None:
    before = outputs(made)
    found = fuse(made)
    onnx.checker.check_model(made)
    assert found[name] == found.total() == 1
    assert Counter(item.op_type for item in made.graph.node) == operators
    assert signal_to_noise_db(before, outputs(made)) > 130
    used = {name for item in made.graph.node for name in item.input}
    assert {tensor.name for tensor in made.graph.initializer} <= used


@pytest.mark.parametrize(
    "made",
    [
        rotation(first="Sinh"),
        rotation(concat_axis=2),
        rotation(crossed=True),
        modulation(weight=0.5),
        modulation(batch=2),
        modulation(rows=LENGTH),
    ],
    ids=[
        "no cosine",
        "joined along time",
        "halves crossed",
        "a norm with weights",
        "two sounds",
        "a row a frame",
    ],
)
def test_what_only_looks_like_a_pattern_is_left(made: onnx.ModelProto) -> None:
    before = made.SerializeToString(deterministic=True)
    assert fuse(made).total() == 0
    assert made.SerializeToString(deterministic=True) == before


def test_an_inverse_that_is_no_norm_is_left() -> None:
    nodes = [
        node("Sqrt", ["x"], ["root"]),
        node("Reciprocal", ["root"], ["r"]),
        node("Mul", ["x", "r"], ["y"]),
    ]
    assert fuse(model(nodes, {"x": (1, LENGTH, WIDTH)})).total() == 0
