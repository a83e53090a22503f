"""Graphs that are stored in several files, for hosts that limit the size of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import write_bundle
from edge_tta.bundle.canonical import canonical_bytes, document_digest
from edge_tta.bundle.manifest import Manifest, Variant, make_manifest
from edge_tta.errors import BundleError

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
PART, GRAPH = 12_000, "ort-fp32/generator.onnx"


def split(manifest: Manifest, part_bytes: int) -> Manifest:
    """The manifest with the generator in parts."""
    (name, variant), *_ = manifest.variants.items()
    stages = {
        **variant.stages,
        "generator": variant.stages["generator"].model_copy(update={"part_bytes": part_bytes}),
    }
    changed: Variant = variant.model_copy(update={"stages": stages})
    return manifest.model_copy(update={"variants": {name: changed}})


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """The tiny bundle with its generator in three parts."""
    whole = Bundle.open(TINY)
    contents = {entry.file: whole.read(entry) for entry in whole.manifest.files()}
    write_bundle(tmp_path / "parted", split(whole.manifest, PART), contents)
    return tmp_path / "parted"


def test_parts_joined_are_the_graph(parted: Path) -> None:
    whole = (TINY / GRAPH).read_bytes()
    files = sorted(path for path in (parted / "ort-fp32").iterdir() if "generator" in path.name)
    assert [path.name for path in files] == [f"generator.onnx.part-0{number}" for number in (1, 2, 3)]
    assert [path.stat().st_size for path in files] == [PART, PART, len(whole) - 2 * PART]
    assert b"".join(path.read_bytes() for path in files) == whole
    bundle = Bundle.open(parted)
    assert bundle.read(bundle.variants["ort-fp32"].stages["generator"]) == whole
    assert bundle.variants["ort-fp32"].size() == Bundle.open(TINY).variants["ort-fp32"].size()


def test_a_bundle_in_parts_makes_the_same_sound(parted: Path) -> None:
    sounds = []
    for root in (TINY, parted):
        with TextToAudio.open(root, threads=1, precision="fp32") as model:
            sounds.append(model.generate(GenerationRequest("rain", seconds=1.0)).audio.samples)
    np.testing.assert_array_equal(*sounds)


def test_a_bundle_without_parts_says_nothing_of_them(parted: Path) -> None:
    assert b"part_bytes" not in (TINY / "manifest.json").read_bytes()
    document = json.loads((parted / "manifest.json").read_text(encoding="utf-8"))
    stages = document["variants"]["ort-fp32"]["stages"]
    assert [name for name in stages if "part_bytes" in stages[name]] == ["generator"]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "part-0{}: file is missing"),
        ("longer", "part-0{}: .* bytes, the manifest says"),
        ("shorter", "part-0{}: .* bytes, the manifest says"),
        ("changed", "generator.onnx: content does not match its SHA-256"),
        ("link", "part-0{}: symbolic links are not allowed"),
    ],
)
def test_a_damaged_part_is_refused(parted: Path, number: int, damage: str, message: str) -> None:
    path = parted / f"{GRAPH}.part-0{number}"
    data = path.read_bytes()
    path.unlink()
    if damage == "longer":
        path.write_bytes(data + b"x")
    elif damage == "shorter":
        path.write_bytes(data[:-1])
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "link":
        (parted / "elsewhere").write_bytes(data)
        path.symlink_to(parted / "elsewhere")
    with pytest.raises(BundleError, match=message.format(number)):
        Bundle.open(parted)


def test_parts_in_another_order_are_refused(parted: Path) -> None:
    first, second = (parted / f"{GRAPH}.part-0{number}" for number in (1, 2))
    shutil.move(first, parted / "aside")
    shutil.move(second, first)
    shutil.move(parted / "aside", second)
    with pytest.raises(BundleError, match=r"generator\.onnx: content does not match"):
        Bundle.open(parted)


@pytest.mark.parametrize(
    ("part_bytes", "message"),
    [(1, "greater than or equal to"), (34_488, "2 to 32 parts"), (2**31, "2 to 32 parts"), (12.5, "integer")],
)
def test_parts_that_make_no_sense_are_refused(parted: Path, part_bytes: float, message: str) -> None:
    path = parted / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["variants"]["ort-fp32"]["stages"]["generator"]["part_bytes"] = part_bytes
    document["digest"] = document_digest(document)
    path.write_bytes(canonical_bytes(document))
    with pytest.raises(BundleError, match=message):
        Bundle.open(parted)


def test_a_part_may_not_be_another_file(parted: Path) -> None:
    document = json.loads((parted / "manifest.json").read_text(encoding="utf-8"))
    document["golden"]["file"] = f"{GRAPH}.part-02"
    with pytest.raises(BundleError, match="part-02' is described twice"):
        make_manifest(document)


def test_a_graph_in_parts_and_whole_is_described_twice(parted: Path) -> None:
    document = json.loads((parted / "manifest.json").read_text(encoding="utf-8"))
    document["variants"]["ort-int8"] = {
        **document["variants"]["ort-fp32"],
        "precision": "int8",
    }
    make_manifest(document)
    for part_bytes in (None, PART + 1):
        twice = json.loads(json.dumps(document))
        twice["variants"]["ort-int8"]["stages"]["generator"]["part_bytes"] = part_bytes
        with pytest.raises(BundleError, match="described twice"):
            make_manifest(twice)
