"""ONNX files that reach out of their bundle, bring code or run on: refused before a native loader sees them."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from odd_graphs import ACCEPTED, REFUSED, OddGraph, bundle_with, field

from edge_tta.bundle import Bundle
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import BundleError

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"


@pytest.fixture(autouse=True)
def no_native_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a bundle must never reach ONNX Runtime."""
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a native loader was called")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


def onnx_with(**kind: Any) -> bytes:
    """A small ONNX file with one oddity."""
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    if "dims" in kind:
        value.dims[:] = kind["dims"]
    if kind.get("external"):
        value.ClearField("float_data")
        value.data_location = TensorProto.EXTERNAL
        entry = value.external_data.add()
        entry.key, entry.value = "location", kind["external"]
    node = helper.make_node(kind.get("operator", "Add"), ["x", "w"], ["y"], domain=kind.get("domain", ""))
    if kind.get("subgraph"):
        node.attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [value])
    opsets = [helper.make_opsetid(kind.get("import_domain", ""), kind.get("opset", 20))]
    model = helper.make_model(graph, opset_imports=opsets)
    if kind.get("function"):
        model.functions.append(onnx.FunctionProto(name="f", domain="d"))
    return bytes(model.SerializeToString())


def test_plain_onnx_passes(tmp_path: Path) -> None:
    inspect_onnx("plain.onnx", onnx_with())
    Bundle.open(bundle_with(TINY, tmp_path, onnx_with()))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ({"external": "../secret"}, "external"),
        ({"external": "/etc/passwd"}, "external"),
        ({"external": "weights.bin"}, "external"),
        ({"domain": "evil.ops"}, "evil.ops"),
        ({"import_domain": "evil.ops"}, "evil.ops"),
        ({"opset": 99}, "opset"),
        ({"operator": "Loop"}, "Loop"),
        ({"operator": "If"}, "If"),
        ({"operator": "Scan"}, "Scan"),
        ({"operator": "EPContext", "domain": "com.microsoft"}, "EPContext"),
        ({"domain": "ai.onnx.ml"}, "ai.onnx.ml"),
        ({"domain": "com.microsoft.evil"}, "com.microsoft.evil"),
        ({"domain": "ai.onnx\x1b[2J"}, "ai.onnx"),
        ({"import_domain": "com.microsoft", "opset": 2**40}, "opset"),
        ({"subgraph": True}, "subgraph"),
        ({"function": True}, "function"),
        ({"dims": [2**20, 2**20]}, "elements"),
        ({"dims": [2**31]}, "elements"),
        ({"dims": [-1]}, "elements"),
        ({"dims": [1000]}, "claims 1000 elements"),
    ],
)
def test_onnx_that_reaches_out_or_runs_on(tmp_path: Path, kind: dict[str, Any], word: str) -> None:
    bundle = bundle_with(TINY, tmp_path, onnx_with(**kind))
    started = time.process_time()
    with pytest.raises(BundleError, match=word) as caught:
        Bundle.open(bundle)
    assert time.process_time() - started < 1.0
    assert str(caught.value).startswith("ort-fp32/decoder.onnx: ") and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "case", REFUSED, ids=[f"{number}-{case.python}" for number, case in enumerate(REFUSED)]
)
def test_bytes_that_no_exporter_writes(case: OddGraph) -> None:
    started = time.process_time()
    with pytest.raises(BundleError, match=case.python):
        inspect_onnx("stage.onnx", case.data)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("data", ACCEPTED, ids=range(len(ACCEPTED)))
def test_bytes_that_exporters_write(data: bytes) -> None:
    inspect_onnx("stage.onnx", data)


def test_a_file_in_the_runtimes_own_format_under_the_name_of_onnx(tmp_path: Path) -> None:
    (model,) = (case.data for case in REFUSED if case.python == "own format")
    assert model[4:8] == b"ORTM"
    with pytest.raises(BundleError, match="own format"):
        Bundle.open(bundle_with(TINY, tmp_path, model))


def test_a_graph_deeper_than_any_is_refused_quickly() -> None:
    model = b""
    for _ in range(2000):
        model = field(7, field(1, field(5, field(6, model))))
    started = time.process_time()
    with pytest.raises(BundleError, match="subgraph"):
        inspect_onnx("deep.onnx", model)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("stage", ["text_encoder", "generator", "decoder"])
def test_flipped_bytes_with_a_forged_hash_end_in_an_answer(stage: str) -> None:
    """An attacker recomputes the hash; the inspection still ends, with a refusal or with a graph."""
    draw = random.Random(stage)
    data = (TINY / f"ort-fp32/{stage}.onnx").read_bytes()
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(draw.randrange(1, 5)):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        started = time.process_time()
        try:
            inspect_onnx("flipped.onnx", bytes(damaged))
        except BundleError as error:
            assert str(error).isprintable()
        assert time.process_time() - started < 0.5


def test_onnx_cut_anywhere_is_refused_or_still_a_graph() -> None:
    data = (TINY / "ort-fp32/decoder.onnx").read_bytes()
    for size in range(0, len(data), max(1, len(data) // 200)):
        try:
            inspect_onnx("cut.onnx", data[:size])
        except BundleError:
            continue
        assert size == len(data)


def test_random_bytes_are_no_onnx() -> None:
    draw = random.Random(0)
    for _ in range(300):
        with pytest.raises(BundleError):
            inspect_onnx("noise.onnx", draw.randbytes(draw.randrange(1, 400)))
