"""Core ML packages as an attacker would write them: Core ML opens a directory, so all of it is checked before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coreml_cases as cases
import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.coreml_package import inspect_package_file
from edge_tta.bundle.manifest import canonical_json, parse_manifest
from edge_tta.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return cases.write_coreml_bundle(tmp_path / "bundle")


def refused(bundle: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle)
    message = str(caught.value)
    assert message.isprintable() and len(message) <= 300
    for word in words:
        assert word in message


def test_the_untouched_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    variant = opened.variants["coreml-fp16"]
    assert variant.size() == sum(
        (bundle / name).stat().st_size for name in (cases.MODEL, cases.WEIGHTS, cases.LIST)
    )
    data = (bundle / "manifest.json").read_bytes()
    assert canonical_json(parse_manifest(data)) == data


@pytest.mark.parametrize("name", [cases.MODEL, cases.WEIGHTS, cases.LIST])
def test_every_file_of_a_package_is_hashed(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 0x20
    (bundle / name).write_bytes(data)
    refused(bundle, name, "SHA-256")
    (bundle / name).write_bytes(data[:-1])
    refused(bundle, name, "bytes")
    (bundle / name).unlink()
    refused(bundle, name, "missing")


@pytest.mark.parametrize(
    "path",
    [
        "extra.bin",
        "Data/extra.bin",
        "Data/com.apple.CoreML/weights/more.bin",
        "Data/com.apple.CoreML/model.mlmodelc/code.espresso",
        "Data/com.apple.CoreML/.hidden",
        "Data/com.apple.CoreML/weights/\n\x1b[2J",
    ],
)
def test_extra_file_in_a_package(bundle: Path, path: str) -> None:
    extra = bundle / cases.PACKAGE / path
    extra.parent.mkdir(parents=True, exist_ok=True)
    extra.write_bytes(b"x")
    refused(bundle, "the manifest does not name it")


def test_empty_directory_in_a_package(bundle: Path) -> None:
    (bundle / cases.PACKAGE / "Data" / "com.example").mkdir()
    refused(bundle, "com.example", "the manifest does not name it")


def test_link_beside_the_files_of_a_package(bundle: Path) -> None:
    (bundle / cases.PACKAGE / "Data" / "link").symlink_to("/etc/passwd")
    refused(bundle, "Data/link", "symbolic link")


def test_fifo_beside_the_files_of_a_package_does_not_hang(bundle: Path) -> None:
    os.mkfifo(bundle / cases.PACKAGE / "Data" / "pipe")
    refused(bundle, "Data/pipe")


@pytest.mark.parametrize("name", [cases.MODEL, cases.WEIGHTS, cases.LIST])
def test_link_in_the_place_of_a_file(bundle: Path, name: str) -> None:
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")
    refused(bundle, name, "link")


@pytest.mark.parametrize(
    "directory", [cases.PACKAGE, f"{cases.PACKAGE}/Data", str(Path(cases.WEIGHTS).parent)]
)
def test_link_in_the_place_of_a_directory(bundle: Path, directory: str) -> None:
    (bundle / directory).rename(bundle.parent / "elsewhere")
    (bundle / directory).symlink_to(bundle.parent / "elsewhere")
    refused(bundle, cases.PACKAGE)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda v: v["companions"].pop(), "weight.bin' is missing"),
        (lambda v: v.pop("companions"), "is missing"),
        (
            lambda v: v["companions"].append(cases.described(f"{cases.PACKAGE}/more", b"x")),
            "no part of a package",
        ),
        (lambda v: v["companions"].append(cases.described("elsewhere.bin", b"x")), "no part of a package"),
        (lambda v: v["stages"]["decoder"].update(file="coreml-fp16/decoder.mlmodel"), "a Core ML graph is"),
        (lambda v: v["stages"]["decoder"].update(file="x.mlpackage/model.mlmodel"), "a Core ML graph is"),
        (
            lambda v: v["stages"]["decoder"].update(file="x/Data/com.apple.CoreML/model.mlmodel"),
            "a Core ML graph is",
        ),
        (
            lambda v: v["stages"]["decoder"].update(file="x.mlpackage/Data/com.apple.CoreML/model.mlmodel"),
            "x.mlpackage/Data/com.apple.CoreML/weights/weight.bin' is missing",
        ),
        (lambda v: v.update(delegate="coreml"), "has no delegate"),
    ],
)
def test_manifest_that_describes_a_package_wrongly(
    bundle: Path, change: Callable[[dict[str, Any]], object], word: str
) -> None:
    cases.edit(bundle, lambda document: change(document["variants"]["coreml-fp16"]))
    refused(bundle, "manifest.json", word[:20])
    with pytest.raises(BundleError, match=word):
        Bundle.open(bundle)


def test_companions_of_another_backend(bundle: Path) -> None:
    """They would be a way to external data."""
    extra = cases.described("weights.bin", b"x")
    cases.edit(bundle, lambda document: document["variants"]["ort-fp32"].update(companions=[extra]))
    refused(bundle, "no part of a package")


def item(path: str) -> dict[str, str]:
    return {"author": "com.apple.CoreML", "description": "x", "name": "x", "path": path}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"fileFormatVersion":"1.0.0","fileFormatVersion":"1.0.0"}',
        b"[" * 5000 + b"]" * 5000,
        "{}é".encode(),
        *(
            json.dumps(document).encode()
            for document in (
                cases.package_list(rootModelIdentifier="weights"),
                cases.package_list(rootModelIdentifier=["model.mlmodel"]),
                cases.package_list(surprise=1),
                cases.package_list(itemInfoEntries=[]),
                cases.package_list(itemInfoEntries={"model.mlmodel": item("com.apple.CoreML/model.mlmodel")}),
                cases.package_list(
                    itemInfoEntries={
                        "model.mlmodel": item("com.apple.CoreML/model.mlmodel"),
                        "weights": item("../../../../secret"),
                    }
                ),
                cases.package_list(
                    itemInfoEntries={
                        "model.mlmodel": item("/etc/passwd"),
                        "weights": item("com.apple.CoreML/weights"),
                    }
                ),
                cases.package_list(
                    itemInfoEntries={
                        **cases.package_list()["itemInfoEntries"],
                        "code": item("com.apple.CoreML/code.dylib"),
                    }
                ),
            )
        ),
    ],
)
def test_package_list_that_reaches_elsewhere(tmp_path: Path, data: bytes) -> None:
    hostile = cases.write_coreml_bundle(tmp_path / "hostile", {cases.LIST: data or b" "})
    refused(hostile, cases.LIST, "not an acceptable Core ML package")


FIRST = cases.constant()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (cases.model(cases.constant("@model_path/../../secret")), "weights in"),
        (cases.model(cases.constant("/etc/passwd")), "weights in"),
        (cases.model(cases.constant("@model_path/weights/weight.bin/..")), "weights in"),
        (cases.model(FIRST, cases.field(1, "custom_layer")), "custom_layer"),
        (cases.model(FIRST, cases.field(1, "while_loop")), "while_loop"),
        (cases.model(cases.field(1, "add") + cases.field(4, cases.block(FIRST))), "with blocks"),
        (
            cases.model(
                cases.field(1, "add")
                + cases.entry(
                    2, "x", cases.field(1, cases.field(2, cases.field(5, cases.field(1, "@model_path/x"))))
                )
            ),
            "weights in",
        ),
        (cases.model(FIRST, version=10), "version 10"),
        (cases.model(FIRST) + cases.field(10, 1), "updatable"),
        (cases.field(1, 9) + cases.field(500, b""), "kind 500"),
        (cases.field(1, 9) + cases.field(555, b""), "kind 555"),
        (cases.field(1, 9) + cases.field(556, b""), "kind 556"),
        (cases.field(1, 9) + cases.field(202, b""), "kind 202"),
        (cases.field(1, 9), "0 programs"),
        (cases.model(FIRST) + cases.field(502, b""), "2 programs"),
        (cases.model(FIRST)[:-3], "beyond the end"),
        (b"\xff" * 64, "number"),
        (cases.field(1, b"nine") + cases.field(502, b""), "a message where a number belongs"),
        (cases.field(502, 1), "a number where a message belongs"),
        (cases.model(*[b""] * 100_000), "more than 250000 fields"),
    ],
)
def test_program_that_is_more_than_a_program(tmp_path: Path, data: bytes, word: str) -> None:
    hostile = cases.write_coreml_bundle(tmp_path / "hostile", {cases.MODEL: data})
    refused(hostile, cases.MODEL, word)


@pytest.mark.parametrize("size", range(1, len(cases.model(FIRST)), 7))
def test_any_prefix_of_a_program_is_judged_without_a_crash(size: int) -> None:
    with pytest.raises(BundleError):
        inspect_package_file(cases.MODEL, cases.model(FIRST)[:size])
