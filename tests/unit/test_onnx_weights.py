"""Graphs without weights: the same model to the last bit, from ranges of the verified file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.bundle.wire import Fields, Malformed, message_field, varint
from edge_tta.runtime import onnx_weights
from edge_tta.runtime.onnx_weights import MIN_BYTES, WEIGHTS, graph_without_weights

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
WIDTH = 64


def product(weight: TensorProto) -> bytes:
    """[1, 64] times a weight [64, n]."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def weight(columns: int, raw: bool = True) -> TensorProto:
    values = np.random.default_rng(0).standard_normal((WIDTH, columns)).astype(np.float32)
    if raw:
        return numpy_helper.from_array(values, "w")
    return helper.make_tensor("w", TensorProto.FLOAT, values.shape, values.ravel())


def session(graph: bytes, weights: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def test_weights_are_named_where_they_lie_in_the_file() -> None:
    model = product(weight(32))
    graph = onnx.load_from_string(graph_without_weights(model))
    (tensor,) = graph.graph.initializer
    where = {entry.key: entry.value for entry in tensor.external_data}
    start, size = int(where["offset"]), int(where["length"])
    assert (
        where["location"] == WEIGHTS and tensor.data_location == TensorProto.EXTERNAL and not tensor.raw_data
    )
    assert model[start : start + size] == weight(32).raw_data
    # Nothing else is another: with the numbers put back it is the model.
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = model[start : start + size]
    assert graph == onnx.load_from_string(model)


def test_the_sums_are_those_of_the_whole_file() -> None:
    model = product(weight(1000))
    graph = graph_without_weights(model)
    assert len(graph) < MIN_BYTES < len(model)
    x = np.random.default_rng(1).standard_normal((1, WIDTH)).astype(np.float32)
    whole = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert np.array_equal(session(graph, model).run(None, {"x": x})[0], whole)


@pytest.mark.parametrize(
    "model", [product(weight(2)), product(weight(1000, raw=False))], ids=["small", "number by number"]
)
def test_what_need_not_move_is_left_byte_by_byte(model: bytes) -> None:
    assert graph_without_weights(model) == model


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("root", "variant"), [(TINY, "ort-fp32"), (None, "ort-int8")], ids=["tiny", "shipped"]
)
def test_every_stage_computes_the_same_from_parts(
    root: Path | None, variant: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if root is not None:
        monkeypatch.setattr(onnx_weights, "MIN_BYTES", 64)
    bundle = Bundle.open(root)
    model = bundle.read(bundle.variants[variant].stages[stage])
    graph, golden = graph_without_weights(model), {**bundle.golden()}
    assert len(graph) < len(model)
    golden["latent"] = golden["noise"] if stage == "generator" else golden["latent"]
    whole = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {port.name: golden[port.name] for port in whole.get_inputs()}
    for ours, theirs in zip(session(graph, model).run(None, feeds), whole.run(None, feeds), strict=True):
        assert np.array_equal(ours, theirs)


def test_fields_are_written_as_they_are_read() -> None:
    for number in (0, 1, 127, 128, 300, 2**31, 2**63):
        data = memoryview(varint(5 << 3) + varint(number) + message_field(6, b"x" * 200))
        (_, first), (_, second) = read = list(Fields().read(data))
        assert [field for field, _ in read] == [5, 6] and (first, bytes(second)) == (number, b"x" * 200)
        assert b"".join(span for _, _, span in Fields().spans(data)) == data


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(Malformed):
        graph_without_weights(message_field(7, b"\xff" * MIN_BYTES))
