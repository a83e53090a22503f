"""Small Core ML packages written by hand, byte by byte: right ones and wrong ones, without coremltools."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
PACKAGE = "coreml-fp16/model.mlpackage"
MODEL = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
LIST = f"{PACKAGE}/Manifest.json"


def varint(value: int) -> bytes:
    """A number of the wire format."""
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(number: int, key: str, value: bytes) -> bytes:
    """One entry of a map."""
    return field(number, field(1, key) + field(2, value))


def constant(reference: str = "@model_path/weights/weight.bin") -> bytes:
    """An operation that takes its value from a weight file."""
    return field(1, "const") + entry(5, "val", field(5, field(1, reference) + field(2, 64)))


def block(*operations: bytes) -> bytes:
    """Operations in order."""
    return b"".join(field(3, operation) for operation in operations)


def program(*operations: bytes) -> bytes:
    """A program with the three stages as functions of the same operations."""
    body = field(2, "CoreML8") + entry(3, "CoreML8", block(*operations))
    return b"".join(entry(2, name, body) for name in ("text_encoder", "generator", "decoder"))


def model(*operations: bytes, version: int = 9) -> bytes:
    """A whole ``model.mlmodel``."""
    return field(1, version) + field(502, program(*operations))


def package_list(**changes: Any) -> dict[str, Any]:
    """The list of items in a package."""
    paths = ("com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights")
    items = {
        name: {"author": "com.apple.CoreML", "description": "x", "name": name, "path": path}
        for name, path in zip(("model.mlmodel", "weights"), paths, strict=True)
    }
    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": "model.mlmodel",
    } | changes


def described(name: str, data: bytes) -> dict[str, Any]:
    """A file's entry in a manifest."""
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def sealed(document: dict[str, Any]) -> str:
    """Canonical text with a right digest, as a careful attacker would write it."""

    def canonical() -> str:
        return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"

    document["digest"] = "0" * 64
    document["digest"] = hashlib.sha256(canonical().encode()).hexdigest()
    return canonical()


def write_coreml_bundle(target: Path, files: dict[str, bytes] | None = None) -> Path:
    """The tiny bundle with a Core ML variant whose program does nothing.

    Args:
        target: directory to make.
        files: other contents of the package's files, by path in the bundle.
    """
    shutil.copytree(TINY, target)
    contents = {
        MODEL: model(constant()),
        WEIGHTS: b"\1" * 128,
        LIST: json.dumps(package_list()).encode(),
    } | (files or {})
    for name, data in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)

    def add(document: dict[str, Any]) -> None:
        stages = document["variants"]["ort-fp32"]["stages"]
        document["variants"]["coreml-fp16"] = {
            "backend": "coreml",
            "precision": "fp16",
            "parity_snr_db": {},
            "companions": [described(name, contents[name]) for name in (LIST, WEIGHTS)],
            "stages": {name: {**stages[name], **described(MODEL, contents[MODEL])} for name in stages},
        }

    edit(target, add)
    return target


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest and seal it again."""
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(sealed(document))
