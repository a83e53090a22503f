"""Bundles open in Kotlin as in Python, and what is damaged or hostile is refused by both."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, EngineError
from forged_manifests import read_manifest, seal_manifest

import edge_tta
from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import write_bundle
from edge_tta.bundle.canonical import canonical_bytes
from edge_tta.bundle.manifest import Manifest, parse_manifest
from edge_tta.errors import BundleError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "edge-tiny"
BUNDLES = [
    ROOT / "edge_tta" / "assets" / "edge-10m",
    TINY,
    ROOT / "tests" / "golden" / "edge-tiny-executorch",
]
ATTACK_PATHS = (ROOT / "tests" / "hostile" / "paths.txt").read_text(encoding="utf-8").splitlines()
GRAPH = "ort-fp32/generator.onnx"
Document = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "bundle"))


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """The tiny bundle with its generator in three parts."""
    whole = Bundle.open(TINY)
    contents = {entry.file: whole.read(entry) for entry in whole.manifest.files()}
    variant = whole.variants["ort-fp32"]
    generator = variant.stages["generator"].model_copy(update={"part_bytes": 12_000})
    changed = variant.model_copy(update={"stages": {**variant.stages, "generator": generator}})
    manifest: Manifest = whole.manifest.model_copy(update={"variants": {"ort-fp32": changed}})
    write_bundle(tmp_path / "parted", manifest, contents)
    return tmp_path / "parted"


def refused(engine: Engine, kind: str, do: str, **arguments: Any) -> str:
    """The message with which a command is refused."""
    with pytest.raises(EngineError) as caught:
        engine(do, **arguments)
    assert caught.value.kind == kind, caught.value
    message = str(caught.value).removeprefix(f"{kind}: ")
    assert message.isprintable()
    return message


def open_refused(engine: Engine, root: Path) -> str:
    return refused(engine, "BundleException", "open", root=str(root), scratch=str(root.parent / "scratch"))


def stage_file(engine: Engine, root: Path, stage: str, variant: str = "ort-fp32") -> Path:
    scratch = root.parent / "scratch"
    return Path(engine("stage_file", root=str(root), scratch=str(scratch), variant=variant, stage=stage))


def stage_refused(engine: Engine, root: Path, stage: str, variant: str = "ort-fp32") -> str:
    with pytest.raises(EngineError) as caught:
        stage_file(engine, root, stage, variant)
    assert caught.value.kind == "BundleException", caught.value
    return str(caught.value).removeprefix("BundleException: ")


@pytest.mark.parametrize("root", BUNDLES, ids=lambda root: root.name)
def test_bundles_say_the_same_as_in_python(engine: Engine, root: Path, tmp_path: Path) -> None:
    expected = Bundle.open(root, verify=False)
    found = engine("open", root=str(root), scratch=str(tmp_path / "scratch"))
    assert not (tmp_path / "scratch").exists()
    manifest, audio = expected.manifest, expected.config.audio
    assert found["name"] == expected.name and found["digest"] == expected.digest
    assert found["audio"] == [
        audio.sample_rate, audio.channels, audio.hop, audio.latent_channels, audio.min_seconds, audio.max_seconds,
    ]  # fmt: skip
    limits = manifest.generation
    assert found["generation"] == [
        limits.default_guidance, limits.min_guidance, limits.max_guidance, limits.max_steps, limits.sampler,
    ]  # fmt: skip
    assert found["variants"].keys() == manifest.variants.keys()
    for name, variant in manifest.variants.items():
        described = found["variants"][name]
        assert described["size"] == variant.size()
        assert [described[field] for field in ("backend", "precision", "delegate", "parity")] == [
            variant.backend, variant.precision, variant.delegate, variant.parity_snr_db,
        ]  # fmt: skip
        for stage, entry in variant.stages.items():
            graph = described["stages"][stage]
            assert [graph[field] for field in ("file", "bytes", "sha256")] == [
                entry.file, entry.bytes, entry.sha256,
            ]  # fmt: skip
            assert graph["inputs"] == [[port.name, port.dtype, port.shape] for port in entry.inputs]
            assert graph["outputs"] == [[port.name, port.dtype, port.shape] for port in entry.outputs]
            assert graph["stored"] == [[path, size] for path, size in entry.stored()]
            file = engine("stage_file", root=str(root), scratch="/nowhere", variant=name, stage=stage)
            assert Path(file) == root / entry.file


def test_the_engine_follows_this_release(engine: Engine) -> None:
    assert engine("engine_version") == edge_tta.__version__


def test_what_there_is_not(engine: Engine, tmp_path: Path) -> None:
    assert "no directory" in open_refused(engine, tmp_path / "absent")
    assert "no directory" in open_refused(engine, TINY / "manifest.json")
    assert "manifest.json: file is missing" in open_refused(engine, tmp_path)
    arguments = {"root": str(TINY), "scratch": str(tmp_path), "variant": "ort-int8", "stage": "generator"}
    assert "it has ort-fp32" in refused(engine, "BackendException", "stage_file", **arguments)
    arguments |= {"variant": "ort-fp32", "stage": "tokenizer"}
    assert "text_encoder" in refused(engine, "BackendException", "stage_file", **arguments)


def test_any_flipped_byte_of_a_manifest_is_refused(engine: Engine, bundle: Path) -> None:
    data = (bundle / "manifest.json").read_bytes()
    draw = random.Random(2)
    for offset in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << draw.randrange(8)
        (bundle / "manifest.json").write_bytes(damaged)
        assert open_refused(engine, bundle).startswith("manifest.json: ")


def test_a_manifest_that_is_cut_off_or_too_long_is_refused(engine: Engine, bundle: Path) -> None:
    data = (bundle / "manifest.json").read_bytes()
    for size in (0, 1, len(data) // 2, len(data) - 1):
        (bundle / "manifest.json").write_bytes(data[:size])
        open_refused(engine, bundle)
    (bundle / "manifest.json").write_bytes(data + b" " * 2**18)
    assert "at most" in open_refused(engine, bundle)


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "missing", "link", "directory", "pipe"])
@pytest.mark.parametrize("name", ["tokenizer.model", GRAPH])
def test_damaged_files_are_refused(engine: Engine, bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    data = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(data[:100] + bytes([data[100] ^ 0x20]) + data[101:])
    elif damage in ("cut", "longer"):
        path.write_bytes(data[:-1] if damage == "cut" else data + b"x")
    elif damage == "link":
        (bundle / "elsewhere").write_bytes(data)
        path.symlink_to(bundle / "elsewhere")
    elif damage == "directory":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    message = open_refused(engine, bundle) if name != GRAPH else stage_refused(engine, bundle, "generator")
    with pytest.raises(BundleError) as expected:
        Bundle.open(bundle)
    # Python calls all that is no regular file by other errors of the system, but the same way.
    assert message == str(expected.value)


def test_a_link_to_a_directory_is_refused(engine: Engine, bundle: Path) -> None:
    (bundle / "ort-fp32").rename(bundle.parent / "elsewhere")
    (bundle / "ort-fp32").symlink_to(bundle.parent / "elsewhere")
    assert "link" in stage_refused(engine, bundle, "decoder")


def test_other_files_do_not_matter_until_they_are_asked_for(engine: Engine, bundle: Path) -> None:
    (bundle / GRAPH).write_bytes(b"nothing")
    (bundle / "golden.npz").unlink()
    engine("open", root=str(bundle), scratch="/nowhere")
    assert stage_file(engine, bundle, "decoder") == bundle / "ort-fp32" / "decoder.onnx"


@pytest.mark.parametrize("path", ATTACK_PATHS)
def test_path_tricks_are_refused(engine: Engine, bundle: Path, path: str) -> None:
    document = read_manifest(bundle)
    document["tokenizer"]["file"] = path.encode().decode("unicode_escape")
    seal_manifest(bundle, document)
    assert open_refused(engine, bundle).startswith("manifest.json: tokenizer.file")


def test_a_key_that_appears_twice_is_refused(engine: Engine, bundle: Path) -> None:
    data = (bundle / "manifest.json").read_text(encoding="utf-8")
    (bundle / "manifest.json").write_text(data.replace('{"attributions"', '{"name":"x","attributions"', 1))
    assert "a key appears twice" in open_refused(engine, bundle)


@pytest.mark.parametrize("version", [0, -1, 2, 10**30, "1", 1.0, True, None])
def test_other_schemas_are_refused(engine: Engine, bundle: Path, version: object) -> None:
    seal_manifest(bundle, read_manifest(bundle) | {"schema_version": version, "later": 1})
    assert "schema" in open_refused(engine, bundle)


def test_a_bundle_for_a_later_release_is_refused(engine: Engine, bundle: Path) -> None:
    seal_manifest(bundle, read_manifest(bundle) | {"min_runtime": "0.10.0", "later": 1})
    assert "needs edge-tta 0.10.0 or later" in open_refused(engine, bundle)


def test_a_tokenizer_with_more_pieces_than_rows_is_refused(engine: Engine, bundle: Path) -> None:
    document = read_manifest(bundle)
    document["config"]["text_encoder"]["vocab_size"] = 200
    document["config_digest"] = hashlib.sha256(
        canonical_bytes(document["config"]).removesuffix(b"\n")
    ).hexdigest()
    seal_manifest(bundle, document)
    assert "288 pieces, the text encoder knows 200" in open_refused(engine, bundle)


@pytest.mark.parametrize(
    ("stack", "hop", "channels", "accepted"),
    [
        (1, 128, 4, True), (2, 256, 8, True), (4, 128, 16, True), (0, 128, 4, False), (65, 128, 260, False),
        (2, 256, 4, False), (3, 128, 12, False), (1, 128, 8, False), (True, 128, 4, False), (1.0, 128, 4, False),
    ],
)  # fmt: skip
def test_stacked_latents_are_judged_as_in_python(
    engine: Engine, bundle: Path, stack: object, hop: int, channels: int, accepted: bool
) -> None:
    document = read_manifest(bundle)
    config = document["config"]
    config["audio"] |= {"hop": hop, "latent_channels": channels}
    config["generator"]["latent_channels"] = channels
    config["codec"]["stack"] = stack
    document["config_digest"] = hashlib.sha256(canonical_bytes(config).removesuffix(b"\n")).hexdigest()
    seal_manifest(bundle, document)
    if accepted:
        assert engine("parse", path=str(bundle / "manifest.json")) == Bundle.open(bundle).digest
    else:
        with pytest.raises(BundleError):
            Bundle.open(bundle)
        open_refused(engine, bundle)


@pytest.mark.parametrize(
    "record",
    [
        {}, [], 32, {"sha256": "0" * 64}, {"sha256": "0" * 63, "requests": 1}, {"sha256": "0" * 64, "requests": 0},
        {"sha256": "0" * 64, "requests": 2**31}, {"sha256": "0" * 64, "requests": 1.0},
        {"sha256": "0" * 64, "requests": 1, "prompts": 1},
    ],
)  # fmt: skip
def test_odd_records_of_a_calibration_are_refused_as_in_python(
    engine: Engine, bundle: Path, record: object
) -> None:
    document = read_manifest(bundle)
    document["variants"]["ort-fp32"]["calibration"] = record
    seal_manifest(bundle, document)
    with pytest.raises(BundleError):
        Bundle.open(bundle)
    assert "calibration" in open_refused(engine, bundle)


NODES = {"aten_add_tensor": 3}
DELEGATION = {"subgraphs": 2, "delegated": NODES, "portable": {}}


@pytest.mark.parametrize(
    ("backend", "record", "accepted"),
    [
        ("executorch", {"decoder": DELEGATION}, True),
        ("executorch", {"decoder": DELEGATION, "text_encoder": DELEGATION | {"portable": NODES}}, True),
        ("executorch", {}, True),
        ("ort", {}, True),
        ("ort", {"decoder": DELEGATION}, False),
        ("executorch", None, False),
        ("executorch", {"codec": DELEGATION}, False),
        ("executorch", {"decoder": {"subgraphs": 1, "delegated": NODES}}, False),
        ("executorch", {"decoder": DELEGATION | {"subgraphs": -1}}, False),
        ("executorch", {"decoder": DELEGATION | {"nodes": 3}}, False),
        ("executorch", {"decoder": DELEGATION | {"portable": {"aten_add": 0}}}, False),
        ("executorch", {"decoder": DELEGATION | {"portable": {"aten add": 1}}}, False),
        ("executorch", {"decoder": DELEGATION | {"portable": {"": 1}}}, False),
        ("executorch", {"decoder": DELEGATION | {"portable": {f"a{n}": 1 for n in range(256)}}}, True),
        ("executorch", {"decoder": DELEGATION | {"portable": {f"a{n}": 1 for n in range(257)}}}, False),
    ],
)
def test_records_of_delegation_are_judged_as_in_python(
    engine: Engine, tmp_path: Path, backend: str, record: object, accepted: bool
) -> None:
    root = next(root for root in BUNDLES if (backend == "executorch") == root.name.endswith("executorch"))
    document = read_manifest(root)
    next(iter(document["variants"].values()))["delegation"] = record
    seal_manifest(tmp_path, document)
    path = tmp_path / "manifest.json"
    if accepted:
        assert engine("parse", path=str(path)) == parse_manifest(path.read_bytes()).digest
    else:
        with pytest.raises(BundleError):
            parse_manifest(path.read_bytes())
        assert "delegation" in refused(engine, "BundleException", "parse", path=str(path))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


VALUES: list[Any] = [
    None, True, 0, 1, -1, 2, 3, 64, 4096, 2**31 - 1, 2**31, 2**63, 0.5, 1.0, 3.0, 1e300, "", "a", "A", "ort", "coreml",
    "int8", "float32", "0" * 64, "a/b.onnx", "A.onnx", "../x", "é", "\u202e", "x" * 300,
    [], {}, ["a"], {"a": 1}, [1, "length", 4],
]  # fmt: skip


def mutations(document: Document, seed: int, count: int) -> list[Document]:
    """Documents with one to two fields changed, left out, copied from elsewhere or added; config digests are right."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        changed = copy.deepcopy(document)
        for _ in range(draw.choice([1, 1, 2])):
            path = draw.choice(places(changed))
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            action = draw.choice(["change", "change", "copy", "drop", "add"])
            if action == "drop":
                del parent[path[-1]]
            elif action == "add" and isinstance(parent, dict):
                fields = ["extra", "part_bytes", "companions", "delegate", "calibration", "sampler", "a"]
                parent[draw.choice(fields)] = draw.choice(VALUES)
            elif action == "copy":
                source: Any = document
                for key in draw.choice(places(document)):
                    source = source[key]
                parent[path[-1]] = copy.deepcopy(source)
            else:
                parent[path[-1]] = draw.choice(VALUES)
        if isinstance(changed.get("config"), dict) and draw.random() < 0.9:
            text = json.dumps(changed["config"], sort_keys=True, separators=(",", ":"))
            changed["config_digest"] = hashlib.sha256(text.encode()).hexdigest()
        found.append(changed)
    return found


@pytest.mark.parametrize("root", BUNDLES, ids=lambda root: root.name)
def test_changed_manifests_are_judged_as_in_python(engine: Engine, root: Path, tmp_path: Path) -> None:
    accepted = 0
    mutated = mutations(read_manifest(root), len(root.name), 1500)
    for document in mutated:
        seal_manifest(tmp_path, document)
        data = (tmp_path / "manifest.json").read_bytes()
        try:
            digest = parse_manifest(data).digest
        except BundleError as error:
            digest = ""
            reason = str(error)
        try:
            found = engine("parse", path=str(tmp_path / "manifest.json"))
        except EngineError as error:
            assert error.kind == "BundleException" and not digest, f"{error} {data!r}"
        else:
            assert found == digest, f"{reason} {data!r}"
            accepted += 1
    assert 50 < accepted < len(mutated) - 50


def share(document: Document) -> None:
    """A second variant of the same files."""
    document["variants"]["ort-int8"] = document["variants"]["ort-fp32"] | {"precision": "int8"}


CHANGES: dict[str, Callable[[Document], Any]] = {
    "ping-pong": lambda document: document["generation"].update(sampler="ping-pong"),
    "one step": lambda document: document["generation"].update(max_steps=1),
    "part": lambda document: document["variants"]["ort-fp32"]["stages"]["generator"].update(part_bytes=12_000),
    "whole": lambda document: document["variants"]["ort-fp32"]["stages"]["generator"].update(part_bytes=None),
    "calibration": lambda document: document["variants"]["ort-fp32"].update(
        calibration={"sha256": "0" * 64, "requests": 32}
    ),
    "no calibration": lambda document: document["variants"]["ort-fp32"].update(calibration=None),
    "any language": lambda document: document.update(description="雨の音, été\nзвук"),
    "shared": share,
    "older": lambda document: (document.pop("min_runtime"), document["provenance"].pop("recipes")),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_other_manifests_open(engine: Engine, bundle: Path, name: str) -> None:
    document = read_manifest(bundle)
    CHANGES[name](document)
    seal_manifest(bundle, document)
    assert engine("open", root=str(bundle), scratch="/nowhere")["digest"] == document["digest"]
    assert parse_manifest((bundle / "manifest.json").read_bytes()).digest == document["digest"]


def test_a_core_ml_package_is_described_whole(engine: Engine, bundle: Path) -> None:
    document = read_manifest(bundle)
    package = "coreml-fp32/model.mlpackage"
    entry = {"sha256": "0" * 64, "bytes": 5}
    stages = copy.deepcopy(document["variants"]["ort-fp32"]["stages"])
    for stage in stages.values():
        stage |= entry | {"file": f"{package}/Data/com.apple.CoreML/model.mlmodel"}
    names = ["Manifest.json", "Data/com.apple.CoreML/weights/weight.bin"]
    variant = {
        "backend": "coreml",
        "precision": "fp32",
        "stages": stages,
        "companions": [entry | {"file": f"{package}/{name}"} for name in names],
    }
    document["variants"]["coreml-fp32"] = variant
    seal_manifest(bundle, document)
    assert "coreml-fp32" in engine("open", root=str(bundle), scratch="/nowhere")["variants"]
    variant["companions"].pop()
    seal_manifest(bundle, document)
    assert "weight.bin' is missing" in open_refused(engine, bundle)


def test_parts_are_joined_once(engine: Engine, parted: Path) -> None:
    first = stage_file(engine, parted, "generator")
    assert first.parent == parted.parent / "scratch"
    assert first.suffix == ".onnx" and first.read_bytes() == (TINY / GRAPH).read_bytes()
    before = first.stat()
    assert stage_file(engine, parted, "generator") == first
    assert first.stat().st_mtime_ns == before.st_mtime_ns and first.stat().st_ino == before.st_ino
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.parametrize("damage", ["changed", "cut", "link"])
def test_a_joined_copy_that_is_damaged_is_made_anew(engine: Engine, parted: Path, damage: str) -> None:
    joined = stage_file(engine, parted, "generator")
    whole = joined.read_bytes()
    if damage == "link":
        joined.rename(parted.parent / "elsewhere")
        joined.symlink_to(parted.parent / "elsewhere")
    else:
        joined.write_bytes(whole[:-1] + (b"" if damage == "cut" else bytes([whole[-1] ^ 1])))
    assert stage_file(engine, parted, "generator") == joined
    assert joined.read_bytes() == whole and not joined.is_symlink()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", ["missing", "longer", "shorter", "changed", "link"])
def test_a_damaged_part_is_refused(engine: Engine, parted: Path, number: int, damage: str) -> None:
    path = parted / f"{GRAPH}.part-0{number}"
    data = path.read_bytes()
    path.unlink()
    if damage == "link":
        (parted / "elsewhere").write_bytes(data)
        path.symlink_to(parted / "elsewhere")
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage != "missing":
        path.write_bytes(data + b"x" if damage == "longer" else data[:-1])
    message = stage_refused(engine, parted, "generator")
    with pytest.raises(BundleError) as expected:
        Bundle.open(parted)
    assert message == str(expected.value)
    scratch = parted.parent / "scratch"
    assert not scratch.exists() or not list(scratch.iterdir())


def test_a_folder_that_cannot_be_written_is_said(engine: Engine, parted: Path) -> None:
    (parted.parent / "scratch").write_text("no folder")
    assert "cannot be joined" in stage_refused(engine, parted, "generator")
