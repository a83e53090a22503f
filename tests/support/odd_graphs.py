"""ONNX files that no exporter writes, byte by byte: what both readers of bundles, Python's and Kotlin's, are asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from forged_manifests import describe_file, read_manifest, seal_manifest


class OddGraph(NamedTuple):
    """A file and a word of why it is refused."""

    data: bytes
    python: str
    kotlin: str


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


def bundle_with(source: Path, directory: Path, graph: bytes) -> Path:
    """A bundle with another float32 decoder, every hash and digest made to agree, as a careful attacker would."""
    bundle = Path(shutil.copytree(source, directory / "bundle"))
    (bundle / "ort-fp32" / "decoder.onnx").write_bytes(graph)
    document = read_manifest(bundle)
    document["variants"]["ort-fp32"]["stages"]["decoder"] |= describe_file(graph)
    seal_manifest(bundle, document)
    return bundle


TENSOR = field(8, b"w") + field(1, 1) + field(2, 1) + field(9, bytes(4))
NEGATIVE = b"\xff" * 9 + b"\x01"
FIXED_WIDTH = number(2 << 3 | 5) + bytes(4) + number(3 << 3 | 1) + bytes(8)


def _refused(word: str, *files: bytes, kotlin: str = "") -> list[OddGraph]:
    return [OddGraph(data, word, kotlin or word) for data in files]


ACCEPTED = [
    field(7, field(1, field(4, b"Add")) + field(5, TENSOR)),
    field(7, field(5, TENSOR + field(14, 0))),
    field(7, b"") + field(8, field(1, b"com.microsoft") + field(2, 24)),
    field(7, field(1, field(5, FIXED_WIDTH))),
]
REFUSED = [
    *_refused("0 graphs", b""),
    *_refused("2 graphs", field(7, b"") + field(7, b"")),
    *_refused("a number where a message", field(7, 5), field(7, field(1, 5)), kotlin="wire type"),
    *_refused(
        "external",
        field(7, field(5, TENSOR + field(14, 1))),
        field(7, field(5, TENSOR + field(14, b"\1"))),
        field(7, field(5, TENSOR + field(14, 2**32))),
        field(7, field(5, TENSOR + field(13, b""))),
        field(7, field(1, field(5, field(5, TENSOR + field(14, 1))))),
        field(7, field(1, field(5, field(10, TENSOR + field(14, 1))))),
    ),
    *_refused(
        "subgraph", field(7, field(1, field(5, field(6, b"")))), field(7, field(1, field(5, field(11, b""))))
    ),
    *_refused(
        "sparse",
        field(7, field(1, field(5, field(22, b"")))),
        field(7, field(1, field(5, field(23, b"")))),
        field(7, field(15, b"")),
    ),
    *_refused("training", field(7, b"") + field(20, b"")),
    *_refused("function", field(7, b"") + field(25, b"")),
    *_refused("unknown field 99 of the model", field(7, b"") + field(99, b"")),
    *_refused("unknown field 99 of the graph", field(7, field(99, b""))),
    *_refused("unknown field 99 of a node", field(7, field(1, field(99, 1)))),
    *_refused("unknown field 99 of an attribute", field(7, field(1, field(5, field(99, 1))))),
    *_refused("unknown field 99 of a tensor", field(7, field(5, field(99, 1)))),
    *_refused("unknown field 3 of an opset", field(7, b"") + field(8, field(3, 1))),
    *_refused("a message where a number", field(7, b"") + field(8, field(2, b"x")), kotlin="wire type"),
    *_refused(
        "opset", field(7, b"") + field(8, field(2, 25)), field(7, b"") + field(8, number(2 << 3) + NEGATIVE)
    ),
    *_refused("evil.ops", field(7, b"") + field(8, field(1, b"evil.ops"))),
    *_refused("Loop", field(7, field(1, field(4, b"Add") + field(4, b"Loop")))),
    *_refused("EPContext", field(7, field(1, field(4, b"EPContext")))),
    *_refused(
        "evil",
        field(7, field(1, field(7, b"evil") + field(7, b""))),
        field(7, field(1, field(7, b"evil\x1b[2J") + field(7, b""))),
    ),
    *_refused(
        "elements",
        field(7, field(5, field(1, number(2**20) + number(2**20)))),
        field(7, field(5, number(1 << 3) + NEGATIVE)),
        field(7, field(5, field(1, 2**62) * 2)),
    ),
    *_refused("claims 1000 elements", field(7, field(5, field(1, 1000) + field(9, bytes(499))))),
    *_refused("more than 20000 nodes", field(7, field(1, b"") * 20_001)),
    *_refused(
        "more than 250000 fields",
        field(7, field(1, field(6, b"") * 500_000)),
        field(7, field(5, field(1, number(1) * 500_000))),
        field(7, field(5, field(5, 1) * 500_000)),
    ),
    *_refused("wire type 3", number(7 << 3 | 3) + number(7 << 3 | 4)),
    *_refused("wire type 6", number(7 << 3 | 6)),
    *_refused(
        "beyond the end",
        b"\x3a" + number(2**40),
        b"\x3a" + number(2**63),
        field(7, b"") + b"\x09" + b"1234567",
        field(7, b"") + b"\x0d" + b"123",
    ),
    *_refused("oversized", b"\x3a" + b"\xff" * 11, b"\x80" * 100),
    *_refused("unknown field 0", field(7, b"") + b"\x00\x00", kotlin="impossible number"),
    # The runtime looks for its own format's mark before it looks for protobuf, so one file could be both.
    *_refused("own format", b"\x12\x99\x00\x00ORTM" + bytes(20) + field(7, b"")),
]
