"""Every known way to hand the runtime a bad bundle: each is refused by name, before anything native sees a byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.canonical import MAX_MANIFEST_BYTES
from edge_tta.bundle.manifest import parse_manifest
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import BundleError

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
FILES = sorted(path.relative_to(TINY).as_posix() for path in TINY.rglob("*") if path.is_file())
ATTACK_PATHS = (Path(__file__).parent / "paths.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def no_native_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a bundle must never reach ONNX Runtime or SentencePiece."""
    import onnxruntime
    import sentencepiece

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a native loader was called")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    monkeypatch.setattr(sentencepiece, "SentencePieceProcessor", refuse)


def refused(bundle: Path, *words: str) -> None:
    started = time.perf_counter()
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle)
    assert time.perf_counter() - started < 1.0
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def sealed(document: dict[str, Any]) -> str:
    """Canonical text with a right digest, as a careful attacker would write it."""

    def canonical() -> str:
        return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"

    document["digest"] = "0" * 64
    document["digest"] = hashlib.sha256(canonical().encode()).hexdigest()
    return canonical()


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(sealed(document))


def test_the_untouched_bundle_opens(bundle: Path) -> None:
    Bundle.open(bundle)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    for size in sorted({0, 1, len(data) // 4, len(data) // 2, len(data) - 1}):
        (bundle / name).write_bytes(data[:size])
        refused(bundle, name)


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    for offset in range(0, len(data), max(1, len(data) // 16)):
        damaged = bytearray(data)
        damaged[offset] ^= 0x20
        (bundle / name).write_bytes(damaged)
        refused(bundle, name)


@pytest.mark.parametrize("name", FILES)
def test_missing_file(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refused(bundle, name, "missing")


@pytest.mark.parametrize("path", ATTACK_PATHS)
def test_path_trick(bundle: Path, path: str) -> None:
    before = sorted(bundle.parent.rglob("*"))
    name = path.encode().decode("unicode_escape")
    edit(bundle, lambda document: document["tokenizer"].update(file=name))
    refused(bundle, "manifest.json")
    assert sorted(bundle.parent.rglob("*")) == before


def test_symbolic_link_to_a_file(bundle: Path) -> None:
    target = bundle / "tokenizer.model"
    target.rename(bundle.parent / "elsewhere")
    target.symlink_to(bundle.parent / "elsewhere")
    refused(bundle, "tokenizer.model", "link")


def test_symbolic_link_to_a_directory(bundle: Path) -> None:
    (bundle / "ort-fp32").rename(bundle.parent / "elsewhere")
    (bundle / "ort-fp32").symlink_to(bundle.parent / "elsewhere")
    refused(bundle, "ort-fp32")


def test_fifo_in_the_place_of_a_file_does_not_hang(bundle: Path) -> None:
    (bundle / "tokenizer.model").unlink()
    os.mkfifo(bundle / "tokenizer.model")
    refused(bundle, "tokenizer.model", "regular")


def test_directory_in_the_place_of_a_file(bundle: Path) -> None:
    (bundle / "tokenizer.model").unlink()
    (bundle / "tokenizer.model").mkdir()
    refused(bundle, "tokenizer.model")


def test_file_swapped_after_verification_is_not_used(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    (bundle / "tokenizer.model").write_bytes(b"x" * opened.manifest.tokenizer.bytes)
    with pytest.raises(BundleError, match="SHA-256"):
        opened.tokenizer_bytes()


def test_stages_swapped(bundle: Path) -> None:
    first, second = bundle / "ort-fp32/generator.onnx", bundle / "ort-fp32/decoder.onnx"
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    refused(bundle, "ort-fp32/")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b'{"schema_version": NaN}',
        b'{"schema_version": 1, "schema_version": 1}',
        b"[" * 100000 + b"]" * 100000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b" " * (MAX_MANIFEST_BYTES + 1),
    ],
    ids=["empty", "cut", "list", "null", "bom", "utf16", "nan", "duplicate", "deep", "nested", "large"],
)
def test_malformed_manifest(bundle: Path, data: bytes) -> None:
    (bundle / "manifest.json").write_bytes(data)
    refused(bundle, "manifest.json")


def test_manifest_in_another_form(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    refused(bundle, "canonical")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d.update(schema_version=2), "upgrade"),
        (lambda d: d.update(schema_version="1"), "schema_version"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("licence"), "licence"),
        (lambda d: d.pop("training_data"), "training_data"),
        (lambda d: d.update(training_data=""), "training_data"),
        (lambda d: d["tokenizer"].update(bytes=-1), "tokenizer"),
        (lambda d: d["tokenizer"].update(bytes=2**40), "tokenizer"),
        (lambda d: d["tokenizer"].update(sha256="0" * 63), "tokenizer"),
        (lambda d: d["tokenizer"].update(max_tokens=10**9), "tokenizer"),
        (lambda d: d["config"]["audio"].update(max_seconds=10**9), "config"),
        (lambda d: d["config"]["audio"].update(hopp=1), "config"),
        (lambda d: d.update(variants={}), "variants"),
        (lambda d: d["variants"]["ort-fp32"]["stages"].pop("decoder"), "stages"),
        (lambda d: d["variants"]["ort-fp32"].update(backend="shell"), "backend"),
        (lambda d: d["golden"].update(d["model_card"], file="golden.npz"), "golden.npz"),
    ],
)
def test_manifest_that_lies(bundle: Path, change: Callable[[dict[str, Any]], object], word: str) -> None:
    edit(bundle, change)
    refused(bundle, word)


def test_case_collision_is_refused() -> None:
    document = json.loads((TINY / "manifest.json").read_text())
    document["model_card"]["file"] = "golden.NPZ"
    with pytest.raises(BundleError, match="described twice"):
        parse_manifest(sealed(document).encode())


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(BundleError, match="neither a directory nor a shipped bundle"):
        Bundle.open("no-such-bundle")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 10000])
def test_impossible_names(name: str) -> None:
    with pytest.raises(BundleError):
        Bundle.open(name if name else "\0")


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


def test_plain_onnx_passes() -> None:
    inspect_onnx("plain.onnx", onnx_with())


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
        ({"subgraph": True}, "subgraph"),
        ({"function": True}, "function"),
        ({"dims": [2**20, 2**20]}, "elements"),
    ],
)
def test_onnx_that_reaches_out_or_runs_on(kind: dict[str, Any], word: str) -> None:
    with pytest.raises(BundleError, match=word):
        inspect_onnx("stage.onnx", onnx_with(**kind))


def test_onnx_cut_anywhere_is_refused_or_still_a_graph() -> None:
    data = (TINY / "ort-fp32/decoder.onnx").read_bytes()
    for size in range(0, len(data), max(1, len(data) // 200)):
        try:
            inspect_onnx("cut.onnx", data[:size])
        except BundleError:
            continue
        assert size == len(data)


def test_random_bytes_are_no_onnx() -> None:
    import random

    draw = random.Random(0)
    for _ in range(300):
        with pytest.raises(BundleError):
            inspect_onnx("noise.onnx", draw.randbytes(draw.randrange(1, 400)))
