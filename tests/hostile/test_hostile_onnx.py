"""ONNX files that reach out of their bundle, bring code or run on: refused before a native loader sees them."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.canonical import canonical_bytes, document_digest
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


def bundle_with(directory: Path, graph: bytes) -> Path:
    """The tiny bundle with another decoder, every hash and digest made to agree."""
    bundle = Path(shutil.copytree(TINY, directory / "bundle"))
    (bundle / "ort-fp32/decoder.onnx").write_bytes(graph)
    document = json.loads((bundle / "manifest.json").read_text())
    entry = document["variants"]["ort-fp32"]["stages"]["decoder"]
    entry.update(sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    document["digest"] = document_digest(document)
    (bundle / "manifest.json").write_bytes(canonical_bytes(document))
    return bundle


def number(value: int) -> bytes:
    """A protobuf varint."""
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(tag: int, value: bytes | int) -> bytes:
    """One protobuf field: a number or length-delimited bytes."""
    if isinstance(value, int):
        return number(tag << 3) + number(value)
    return number(tag << 3 | 2) + number(len(value)) + value


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
    Bundle.open(bundle_with(tmp_path, onnx_with()))


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
    bundle = bundle_with(tmp_path, onnx_with(**kind))
    started = time.process_time()
    with pytest.raises(BundleError, match=word) as caught:
        Bundle.open(bundle)
    assert time.process_time() - started < 1.0
    assert str(caught.value).startswith("ort-fp32/decoder.onnx: ") and str(caught.value).isprintable()


EXTERNAL = field(8, b"w") + field(1, 1) + field(2, 1) + field(9, bytes(4)) + field(14, 1)
PLAIN_TENSOR = field(8, b"w") + field(1, 1) + field(2, 1) + field(9, bytes(4))


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (b"", "graphs"),
        (field(7, b"") + field(7, b""), "2 graphs"),
        (field(7, 5), "a number where a message"),
        (field(7, field(1, 5)), "a number where a message"),
        (field(7, field(5, EXTERNAL)), "external"),
        (field(7, field(1, field(5, field(5, EXTERNAL)))), "external"),
        (field(7, field(1, field(5, field(10, EXTERNAL)))), "external"),
        (field(7, field(5, PLAIN_TENSOR + field(14, b"\1"))), "external"),
        (field(7, field(5, PLAIN_TENSOR + field(14, 2**32))), "external"),
        (field(7, field(5, PLAIN_TENSOR + field(13, b""))), "external"),
        (field(7, field(1, field(5, field(6, b"")))), "subgraph"),
        (field(7, field(1, field(5, field(11, b"")))), "subgraph"),
        (field(7, field(1, field(5, field(22, b"")))), "sparse"),
        (field(7, field(1, field(5, field(23, b"")))), "sparse"),
        (field(7, field(15, b"")), "sparse"),
        (field(7, b"") + field(20, b""), "training"),
        (field(7, b"") + field(25, b""), "function"),
        (field(7, b"") + field(99, b""), "unknown field 99 of the model"),
        (field(7, field(99, b"")), "unknown field 99 of the graph"),
        (field(7, field(1, field(99, 1))), "unknown field 99 of a node"),
        (field(7, field(1, field(5, field(99, 1)))), "unknown field 99 of an attribute"),
        (field(7, field(5, field(99, 1))), "unknown field 99 of a tensor"),
        (field(7, b"") + field(8, field(3, 1)), "unknown field 3 of an opset"),
        (field(7, b"") + field(8, field(2, b"x")), "a message where a number"),
        (field(7, field(1, field(4, b"Add") + field(4, b"Loop"))), "Loop"),
        (field(7, field(1, field(7, b"evil") + field(7, b""))), "evil"),
        (field(7, field(5, field(1, number(2**20) + number(2**20)))), "elements"),
        (field(7, field(1, b"") * 20001), "more than 20000 nodes"),
        (field(7, field(1, field(6, b"") * 500_000)), "more than 250000 fields"),
        (field(7, field(5, field(1, number(1) * 500_000))), "more than 250000 fields"),
        (field(7, field(5, field(5, 1) * 500_000)), "more than 250000 fields"),
        (number(7 << 3 | 3) + number(7 << 3 | 4), "wire type 3"),
        (number(7 << 3 | 6), "wire type 6"),
        (b"\x3a" + number(2**40), "beyond the end"),
        (b"\x3a" + b"\xff" * 11, "oversized"),
        (b"\x80" * 100, "oversized"),
        (field(7, b"") + b"\x09" + b"1234567", "beyond the end"),
        (field(7, b"") + b"\x0d" + b"123", "beyond the end"),
        (field(7, b"") + b"\x00\x00", "unknown field 0"),
    ],
)
def test_bytes_that_no_exporter_writes(model: bytes, word: str) -> None:
    started = time.process_time()
    with pytest.raises(BundleError, match=word):
        inspect_onnx("stage.onnx", model)
    assert time.process_time() - started < 1.0


def test_a_file_in_the_runtimes_own_format_under_the_name_of_onnx(tmp_path: Path) -> None:
    """The runtime looks for this mark before it looks for protobuf, so one file could be both."""
    inner = b"\x00ORTM" + bytes(20)
    model = b"\x12" + number(len(inner)) + b"\x00" + inner[1:] + field(7, b"")
    assert model.index(b"ORTM") == 3
    model = b"\x12" + b"\x99\x00" + b"\x00" + inner[1:] + field(7, b"")
    assert model[4:8] == b"ORTM"
    with pytest.raises(BundleError, match="own format"):
        Bundle.open(bundle_with(tmp_path, model))


def test_a_graph_deeper_than_any_is_refused_quickly() -> None:
    model = b""
    for _ in range(2000):
        model = field(7, field(1, field(5, field(6, model))))
    started = time.process_time()
    with pytest.raises(BundleError, match="subgraph"):
        inspect_onnx("deep.onnx", model)
    assert time.process_time() - started < 1.0


def test_numbers_with_fixed_width_are_read() -> None:
    fixed = number(2 << 3 | 5) + struct.pack("<f", 1.0) + number(3 << 3 | 1) + bytes(8)
    inspect_onnx("fixed.onnx", field(7, field(1, field(5, fixed))))


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
