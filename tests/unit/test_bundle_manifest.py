"""Manifests: one byte form, one digest, required statements, releases that understand each other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_tta
from edge_tta.bundle.canonical import canonical_bytes, document_digest, parse_document
from edge_tta.bundle.manifest import (
    Generation,
    Manifest,
    canonical_json,
    make_manifest,
    parse_manifest,
    seal,
)
from edge_tta.errors import BundleError

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
DOCUMENT: dict[str, Any] = json.loads((TINY / "manifest.json").read_text())


def document(**changes: Any) -> dict[str, Any]:
    """The tiny bundle's manifest with some fields changed."""
    changed: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    return changed | changes


def sealed(changed: dict[str, Any]) -> bytes:
    """Canonical bytes with the digest that belongs to them."""
    return canonical_bytes({**changed, "digest": document_digest(changed)})


def test_the_committed_manifest_is_in_canonical_form() -> None:
    data = (TINY / "manifest.json").read_bytes()
    manifest = parse_manifest(data)
    assert canonical_json(manifest) == data == canonical_json(seal(manifest))
    assert data.isascii() and data.endswith(b"\n") and b": " not in data.split(b'"description"')[0]


def test_the_digest_is_that_of_the_document() -> None:
    """Written as a port would write it: replace the digest by zeros in the text and hash the text."""
    data = (TINY / "manifest.json").read_bytes()
    digest = DOCUMENT["digest"].encode()
    assert data.count(digest) == 1
    assert hashlib.sha256(data.replace(digest, b"0" * 64)).hexdigest().encode() == digest


def test_calibration_is_recorded_and_older_bundles_have_none() -> None:
    record = {"sha256": "a" * 64, "requests": 32}
    variant = DOCUMENT["variants"]["ort-fp32"]
    older = parse_manifest(sealed(document()))
    assert older.variants["ort-fp32"].calibration is None and b"calibration" not in canonical_json(older)
    made = parse_manifest(sealed(document(variants={"ort-int8": variant | {"calibration": record}})))
    found = made.variants["ort-int8"].calibration
    assert found is not None and (found.sha256, found.requests) == ("a" * 64, 32)
    assert canonical_json(made) == sealed(document(variants={"ort-int8": variant | {"calibration": record}}))
    for wrong in (
        {"requests": 32},
        record | {"requests": 0},
        record | {"prompts": []},
        record | {"sha256": ""},
    ):
        with pytest.raises(BundleError, match=r"variants\.ort-int8\.calibration\."):
            parse_manifest(sealed(document(variants={"ort-int8": variant | {"calibration": wrong}})))


EXECUTORCH: dict[str, Any] = json.loads(
    (TINY.with_name("edge-tiny-executorch") / "manifest.json").read_text()
)


def test_delegation_is_recorded_and_older_bundles_have_none() -> None:
    older = parse_manifest(sealed(EXECUTORCH))
    assert older.variants["et-xnnpack-int8"].delegation == {}
    assert b"delegation" not in canonical_json(older)

    def with_record(variant: dict[str, Any], record: Any) -> bytes:
        return sealed(document(variants={"a": variant | {"delegation": record}}))

    found = {"subgraphs": 2, "delegated": {"aten_add_tensor": 3}, "portable": {"aten_arange_start_step": 1}}
    variant = EXECUTORCH["variants"]["et-xnnpack-int8"]
    made = parse_manifest(with_record(variant, {"decoder": found}))
    assert made.variants["a"].delegation["decoder"].portable == {"aten_arange_start_step": 1}
    assert canonical_json(made) == with_record(variant, {"decoder": found})
    for wrong in (
        None,
        {"codec": found},
        {"decoder": {"subgraphs": 2}},
        {"decoder": found | {"subgraphs": -1}},
        {"decoder": found | {"portable": {"aten_add": 0}}},
        {"decoder": found | {"portable": {"\u001b[31m": 1}}},
        {"decoder": found | {"delegated": {f"aten_{number}": 1 for number in range(257)}}},
    ):
        with pytest.raises(BundleError, match=r"variants\.a\.delegation"):
            parse_manifest(with_record(variant, wrong))
    with pytest.raises(BundleError, match="a graph for ort delegates nothing"):
        parse_manifest(with_record(DOCUMENT["variants"]["ort-fp32"], {"decoder": found}))


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=40).map("a".__add__)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)


@given(
    description=words,
    training_data=words,
    name=names,
    guidance=st.lists(st.floats(0, 100), min_size=3, max_size=3).map(sorted),
    tools=st.dictionaries(
        names, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), max_size=4
    ),
    parity=st.floats(-200, 200),
)
@settings(max_examples=200)
def test_round_trip(
    description: str,
    training_data: str,
    name: str,
    guidance: list[float],
    tools: dict[str, str],
    parity: float,
) -> None:
    changed = document(description=description, training_data=training_data, name=name)
    low, middle, high = guidance
    changed["generation"] = {
        "min_guidance": low, "default_guidance": middle, "max_guidance": high, "max_steps": 3,
    }  # fmt: skip
    changed["provenance"]["tools"] = tools
    changed["variants"]["ort-fp32"]["parity_snr_db"] = {"decoder": parity}
    manifest = seal(make_manifest(changed | {"digest": "0" * 64}))
    data = canonical_json(manifest)
    again = parse_manifest(data)
    assert again == manifest and canonical_json(again) == data


@pytest.mark.parametrize(
    "field",
    ["licence", "training_data", "provenance", "attributions", "model_card", "config_digest", "golden"],
)
def test_what_must_be_said_is_asked_for_by_name(field: str) -> None:
    changed = document()
    del changed[field]
    for attempt in (lambda: make_manifest(changed), lambda: parse_manifest(sealed(changed))):
        with pytest.raises(BundleError, match=field):
            attempt()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("licence", ""),
        ("licence", "MIT\n"),
        ("training_data", ""),
        ("training_data", " \n "),
        ("description", "\x1b[2J gone"),
        ("description", "desc \u202e reversed"),
        ("description", "x" * 2001),
        ("name", "Edge 10M"),
        ("name", "../x"),
        ("version", "1.0"),
        ("min_runtime", "one"),
        ("config", {}),
        ("config_digest", "0" * 64),
        ("variants", {}),
    ],
)
def test_fields_that_say_nothing_or_too_much(field: str, value: object) -> None:
    with pytest.raises(BundleError, match=field) as caught:
        parse_manifest(sealed(document(**{field: value})))
    assert str(caught.value).isprintable()


def test_any_language_may_describe() -> None:
    assert parse_manifest(sealed(document(description="雨の音, été\nзвук"))).description.startswith("雨")


def test_a_later_schema_is_refused_with_the_next_step() -> None:
    with pytest.raises(BundleError) as caught:
        parse_manifest(sealed(document(schema_version=2, anything={"goes": ["here"]})))
    assert str(caught.value) == (
        "manifest.json: schema version 2 is newer than this runtime knows (1); upgrade edge-tta"
    )


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_other_schema_versions_are_refused(version: object) -> None:
    with pytest.raises(BundleError, match="schema_version"):
        parse_manifest(sealed(document(schema_version=version)))


def test_a_bundle_for_a_later_release_is_refused_before_its_unknown_fields() -> None:
    with pytest.raises(BundleError) as caught:
        parse_manifest(sealed(document(min_runtime="9.10.0", new_field=1)))
    assert str(caught.value) == (
        f"manifest.json: the bundle needs edge-tta 9.10.0 or later, this is {edge_tta.__version__}; upgrade edge-tta"
    )


def test_releases_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_tta.bundle.manifest.__version__", "0.10.0")
    assert parse_manifest(sealed(document(min_runtime="0.9.0"))).min_runtime == "0.9.0"
    with pytest.raises(BundleError, match=r"0\.11\.0"):
        parse_manifest(sealed(document(min_runtime="0.11.0")))


def test_a_manifest_from_before_an_optional_field_still_opens() -> None:
    """Form and digest belong to the text as it was written, not to the fields of today."""
    older = document()
    del older["min_runtime"], older["provenance"]["recipes"]
    manifest = parse_manifest(sealed(older))
    assert manifest.min_runtime == "0.1.0" and manifest.provenance.recipes == {}


def test_a_configuration_from_before_a_field_still_opens() -> None:
    older = document()
    del older["config"]["codec"]["noise_frames"]
    older["config_digest"] = hashlib.sha256(
        json.dumps(older["config"], sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
    assert parse_manifest(sealed(older)).model_config_of_bundle().codec.noise_frames == 1040


def test_manifests_do_not_change() -> None:
    manifest = parse_manifest((TINY / "manifest.json").read_bytes())
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]


def test_guidance_is_ordered() -> None:
    with pytest.raises(ValueError, match="between"):
        Generation(default_guidance=9.0, min_guidance=1.0, max_guidance=5.0, max_steps=1)


def test_files_are_listed_once_per_use() -> None:
    manifest = parse_manifest((TINY / "manifest.json").read_bytes())
    files = [entry.file for entry in manifest.files()]
    assert sorted(files) == sorted(
        path.relative_to(TINY).as_posix()
        for path in TINY.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    )


def test_the_schema_can_be_given_to_other_languages() -> None:
    schema = Manifest.model_json_schema()
    assert schema["additionalProperties"] is False and "training_data" in schema["required"]


def test_documents_are_objects() -> None:
    with pytest.raises(ValueError, match="not an object"):
        parse_document(b"[1]")


@pytest.mark.parametrize("text", ['"\\"[[[["', '"\\\\"', '{"a":"]]]]"}', '{"a\\\\":"[[[[[[[[["}'])
def test_brackets_in_strings_are_no_depth(text: str) -> None:
    assert parse_document(f'{{"key":{text}}}'.encode())["key"] == json.loads(text)


def test_the_sampler_is_written_only_where_it_is_not_the_usual_one() -> None:
    """A bundle that needs nothing new stays readable by releases that do not know the field."""
    assert "sampler" not in DOCUMENT["generation"]
    assert parse_manifest(sealed(DOCUMENT)).generation.sampler == "euler"
    changed = document(generation={**DOCUMENT["generation"], "sampler": "ping-pong"})
    manifest = parse_manifest(sealed(changed))
    assert manifest.generation.sampler == "ping-pong"
    assert canonical_json(manifest) == sealed(changed)
    with pytest.raises(BundleError, match=r"generation.sampler"):
        parse_manifest(sealed(document(generation={**DOCUMENT["generation"], "sampler": "heun"})))
