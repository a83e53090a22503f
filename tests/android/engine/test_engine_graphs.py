"""ONNX files that reach out of their bundle, bring code or run on: Kotlin refuses what Python refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import struct
from pathlib import Path

import pytest
from engine_process import Engine, EngineError

from edge_tta.bundle.canonical import canonical_bytes, document_digest
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.bundle.wire import message_field, varint
from edge_tta.errors import BundleError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "edge-tiny"
GRAPHS = sorted((TINY / "ort-fp32").glob("*.onnx"))


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field."""
    return varint(number << 3) + varint(value) if isinstance(value, int) else message_field(number, value)


def in_python(data: bytes) -> str | None:
    """Why a file is refused."""
    try:
        inspect_onnx("stage.onnx", data)
    except BundleError as error:
        return str(error)
    return None


def in_kotlin(engine: Engine, files: list[bytes]) -> list[str | None]:
    """Why files are refused; a command is a line, so not all of them go at once."""
    written = [base64.b64encode(data).decode() for data in files]
    batches = [written[start : start + 200] for start in range(0, len(files), 200)]
    return [reason for batch in batches for reason in engine("inspect", files=batch)]


TENSOR = field(8, b"w") + field(1, 1) + field(2, 1) + field(9, bytes(4))
NEGATIVE = b"\xff" * 9 + b"\x01"
CASES = [
    (field(7, field(1, field(4, b"Add")) + field(5, TENSOR)), None),
    (field(7, field(5, TENSOR + field(14, 0))), None),
    (field(7, b"") + field(8, field(1, b"com.microsoft") + field(2, 24)), None),
    (field(7, field(1, field(5, varint(2 << 3 | 5) + bytes(4) + varint(3 << 3 | 1) + bytes(8)))), None),
    (b"", "0 graphs"),
    (field(7, b"") + field(7, b""), "2 graphs"),
    (field(7, 5), "wire type"),
    (field(7, field(1, 5)), "wire type"),
    (field(7, field(5, TENSOR + field(14, 1))), "external"),
    (field(7, field(5, TENSOR + field(14, b"\1"))), "external"),
    (field(7, field(5, TENSOR + field(14, 2**32))), "external"),
    (field(7, field(5, TENSOR + field(13, b""))), "external"),
    (field(7, field(1, field(5, field(5, TENSOR + field(14, 1))))), "external"),
    (field(7, field(1, field(5, field(10, TENSOR + field(14, 1))))), "external"),
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
    (field(7, b"") + field(8, field(2, b"x")), "wire type"),
    (field(7, b"") + field(8, field(2, 25)), "opset"),
    (field(7, b"") + field(8, varint(2 << 3) + NEGATIVE), "opset"),
    (field(7, b"") + field(8, field(1, b"evil.ops")), "evil.ops"),
    (field(7, field(1, field(4, b"Add") + field(4, b"Loop"))), "Loop"),
    (field(7, field(1, field(4, b"EPContext"))), "EPContext"),
    (field(7, field(1, field(7, b"evil\x1b[2J") + field(7, b""))), "evil"),
    (field(7, field(5, field(1, varint(2**20) + varint(2**20)))), "elements"),
    (field(7, field(5, varint(1 << 3) + NEGATIVE)), "elements"),
    (field(7, field(5, field(1, 2**62) * 2)), "elements"),
    (field(7, field(5, field(1, 1000) + field(9, bytes(499)))), "claims 1000 elements"),
    (field(7, field(1, b"") * 20_001), "more than 20000 nodes"),
    (field(7, field(1, field(6, b"") * 500_000)), "more than 250000 fields"),
    (field(7, field(5, field(1, varint(1) * 500_000))), "more than 250000 fields"),
    (varint(7 << 3 | 3) + varint(7 << 3 | 4), "wire type 3"),
    (varint(7 << 3 | 6), "wire type 6"),
    (b"\x3a" + varint(2**40), "beyond the end"),
    (b"\x3a" + varint(2**63), "beyond the end"),
    (b"\x3a" + b"\xff" * 11, "oversized"),
    (b"\x80" * 100, "oversized"),
    (field(7, b"") + b"\x09" + b"1234567", "beyond the end"),
    (field(7, b"") + b"\x0d" + b"123", "beyond the end"),
    (field(7, b"") + b"\x00\x00", "impossible number"),
    (b"\x12\x99\x00\x00ORTM" + bytes(20) + field(7, b""), "own format"),
]


@pytest.mark.parametrize(("data", "word"), CASES, ids=range(len(CASES)))
def test_what_no_exporter_writes(engine: Engine, data: bytes, word: str | None) -> None:
    (found,) = in_kotlin(engine, [data])
    assert (in_python(data) is None) == (word is None)
    if word is None:
        assert found is None
    else:
        assert found is not None and word in found and found.isprintable()
        assert found.startswith("stage.onnx: not an acceptable ONNX file (")


def test_damaged_graphs_are_judged_as_in_python(engine: Engine) -> None:
    draw = random.Random(5)
    files = []
    for graph in GRAPHS:
        data = graph.read_bytes()
        files += [data[: draw.randrange(len(data))] for _ in range(100)]
        for _ in range(1500):
            damaged = bytearray(data)
            for _ in range(draw.randrange(1, 4)):
                # Structure lies between the weights; most flips in weights change nothing that is looked at.
                damaged[draw.randrange(len(data))] = draw.choice(
                    [0, 1, 8, 0x1A, 0x7F, 0x80, 0xFF, draw.randrange(256)]
                )
            files.append(bytes(damaged))
    files += [draw.randbytes(draw.randrange(1, 400)) for _ in range(500)]
    found = in_kotlin(engine, files)
    expected = [in_python(data) for data in files]
    different = [
        (wanted, got)
        for wanted, got in zip(expected, found, strict=True)
        if (wanted is None) != (got is None)
    ]
    # Stricter in one thing: a number of fixed width in the place of text or of a message is refused at once.
    assert all(got is not None and "wire type" in got for _, got in different), different
    assert len(different) < len(files) // 50
    assert (
        sum(reason is None for reason in found) > 100 and sum(reason is not None for reason in found) > 1000
    )


def test_a_graph_with_external_data_never_gets_out_of_its_bundle(engine: Engine, tmp_path: Path) -> None:
    """Size, hash and digest agree, as a careful attacker would write them."""
    root = Path(shutil.copytree(TINY, tmp_path / "bundle"))
    location = field(13, field(1, b"location") + field(2, b"../secret"))
    graph = field(7, field(5, field(1, 1) + field(2, 1) + location + field(14, 1)))
    graph += field(2, struct.pack("<f", 1.0))
    (root / "ort-fp32" / "decoder.onnx").write_bytes(graph)
    document = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    entry = document["variants"]["ort-fp32"]["stages"]["decoder"]
    entry.update(sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
    document["digest"] = document_digest(document)
    (root / "manifest.json").write_bytes(canonical_bytes(document))
    with pytest.raises(EngineError, match=r"BundleException: ort-fp32/decoder\.onnx: .*external data"):
        engine("stage_file", root=str(root), scratch="/nowhere", variant="ort-fp32", stage="decoder")
