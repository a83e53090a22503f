"""ONNX files that reach out of their bundle, bring code or run on: Kotlin refuses what Python refuses."""

from __future__ import annotations

import base64
import random
import struct
from pathlib import Path

import pytest
from engine_process import Engine, EngineError
from odd_graphs import ACCEPTED, REFUSED, bundle_with, field

from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import BundleError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "edge-tiny"
GRAPHS = sorted((TINY / "ort-fp32").glob("*.onnx"))


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


def test_what_no_exporter_writes_is_refused_with_a_reason(engine: Engine) -> None:
    for case, found in zip(REFUSED, in_kotlin(engine, [case.data for case in REFUSED]), strict=True):
        assert in_python(case.data) is not None
        assert found is not None and case.kotlin in found and found.isprintable()
        assert found.startswith("stage.onnx: not an acceptable ONNX file (")


def test_what_exporters_write_is_accepted(engine: Engine) -> None:
    assert in_kotlin(engine, ACCEPTED) == [in_python(data) for data in ACCEPTED] == [None] * len(ACCEPTED)


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
    location = field(13, field(1, b"location") + field(2, b"../secret"))
    graph = field(7, field(5, field(1, 1) + field(2, 1) + location + field(14, 1)))
    root = bundle_with(TINY, tmp_path, graph + field(2, struct.pack("<f", 1.0)))
    with pytest.raises(EngineError, match=r"BundleException: ort-fp32/decoder\.onnx: .*external data"):
        engine("stage_file", root=str(root), scratch="/nowhere", variant="ort-fp32", stage="decoder")
