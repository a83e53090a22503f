"""Convolutions as shifted copies: rounding before the copies gives the same bits, and is only done where it may be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantization.calibration import open_session
from quantization.onnx_unfold import round_before_unfolding

CHANNELS, KERNEL = 6, 3
Nodes = list[onnx.NodeProto]


def unfolding(value: float | None = None, mode: str | None = "constant") -> Nodes:
    """Zeros around [1, n, 6], three shifted copies side by side, rounded."""
    pad = helper.make_node("Pad", ["x", "pads", *([] if value is None else ["value"])], ["padded"])
    if mode:
        pad.attribute.append(helper.make_attribute("mode", mode))
    slices = [
        helper.make_node("Slice", ["padded", f"start{k}", f"end{k}", "axis"], [f"copy{k}"])
        for k in range(KERNEL)
    ]
    return [
        pad,
        *slices,
        helper.make_node("Concat", [f"copy{k}" for k in range(KERNEL)], ["wide"], axis=2),
        helper.make_node("DynamicQuantizeLinear", ["wide"], ["wide.uint8", "wide.scale", "wide.zero"]),
        helper.make_node("MatMulInteger", ["wide.uint8", "weight", "wide.zero"], ["y"]),
    ]


def model(nodes: Nodes, length: int) -> bytes:
    constants = {
        "pads": np.array([0, 1, 0, 0, 1, 0]),
        "value": np.array(0.5, dtype=np.float32),
        "axis": np.array([1]),
        "weight": np.random.default_rng(1).integers(-127, 127, (KERNEL * CHANNELS, 5)).astype(np.int8),
        **{f"start{k}": np.array([k]) for k in range(KERNEL)},
        **{f"end{k}": np.array([k + length]) for k in range(KERNEL)},
    }
    ports = [helper.make_tensor_value_info("y", TensorProto.INT32, [1, length, 5])]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, length, CHANNELS])
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [source], ports, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_the_same_sums_to_the_last_bit(length: int, shift: float) -> None:
    before = unfolding()
    after = round_before_unfolding(before)
    assert [node.op_type for node in after] == [
        "DynamicQuantizeLinear", "Pad", "Slice", "Slice", "Slice", "Concat", "MatMulInteger",
    ]  # fmt: skip
    # All above or below zero as well: the zeros around are then the end of the range.
    x = np.random.default_rng(0).standard_normal((1, length, CHANNELS)).astype(np.float32) + np.float32(shift)
    sums = [open_session(model(nodes, length)).run(None, {"x": x})[0] for nodes in (before, after)]
    assert np.array_equal(*sums) and np.abs(sums[0]).max() > 0


def read_elsewhere(name: str) -> Callable[[Nodes], Nodes]:
    return lambda nodes: [*nodes, helper.make_node("Neg", [name], ["elsewhere"])]


@pytest.mark.parametrize(
    "nodes",
    [
        unfolding(value=0.5),
        unfolding(mode="edge"),
        unfolding()[1:],
        read_elsewhere("padded")(unfolding()),
        read_elsewhere("copy1")(unfolding()),
        read_elsewhere("wide")(unfolding()),
        [*unfolding()[:3], helper.make_node("Neg", ["padded"], ["copy2"]), *unfolding()[4:]],
    ],
    ids=[
        "another value",
        "edges",
        "no padding",
        "padded is read",
        "a copy is read",
        "all are read",
        "no slice",
    ],
)
def test_what_would_change_or_save_nothing_is_left(nodes: Nodes) -> None:
    assert round_before_unfolding(nodes) == nodes


def test_a_mode_that_is_not_said_is_constant() -> None:
    assert round_before_unfolding(unfolding(mode=None))[0].op_type == "DynamicQuantizeLinear"
