"""Every known way to hand the runtime a bad bundle: each is refused by name, before anything native sees a byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.canonical import MAX_MANIFEST_BYTES
from edge_tta.bundle.manifest import parse_manifest
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
    started = time.process_time()
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle)
    assert time.process_time() - started < 1.0
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


def stage(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One graph's entry in a manifest."""
    entry: dict[str, Any] = document["variants"]["ort-fp32"]["stages"][name]
    return entry


def configure(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    """Change the configuration and make its digest agree, as a careful attacker would."""
    change(document["config"])
    text = json.dumps(document["config"], sort_keys=True, separators=(",", ":"))
    document["config_digest"] = hashlib.sha256(text.encode()).hexdigest()


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


def test_socket_in_the_place_of_a_file(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    (bundle / "tokenizer.model").unlink()
    monkeypatch.chdir(bundle)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("tokenizer.model")
        refused(bundle, "tokenizer.model", "regular")


def test_device_in_the_place_of_a_file(bundle: Path) -> None:
    (bundle / "tokenizer.model").unlink()
    try:
        os.mknod(bundle / "tokenizer.model", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        open(bundle / "tokenizer.model", "rb").close()
    except PermissionError:
        pytest.skip("devices cannot be made or opened here")
    refused(bundle, "tokenizer.model", "regular")


def test_fifo_in_the_place_of_the_manifest_does_not_hang(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    refused(bundle, "manifest.json", "regular")


def test_link_in_the_place_of_the_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to(TINY / "manifest.json")
    refused(bundle, "manifest.json", "link")


def test_directory_in_the_place_of_a_file(bundle: Path) -> None:
    (bundle / "tokenizer.model").unlink()
    (bundle / "tokenizer.model").mkdir()
    refused(bundle, "tokenizer.model")


def test_file_swapped_after_verification_is_not_used(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    (bundle / "tokenizer.model").write_bytes(b"x" * opened.manifest.tokenizer.bytes)
    with pytest.raises(BundleError, match="SHA-256"):
        opened.tokenizer_bytes()


def test_what_is_read_is_what_was_hashed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changes at the very moment its hash is known: the caller still gets the hashed bytes."""
    opened = Bundle.open(bundle)
    path, original = bundle / "tokenizer.model", (bundle / "tokenizer.model").read_bytes()
    real = hashlib.sha256

    def hash_then_swap(data: bytes = b"") -> Any:
        digest = real(data)
        path.write_bytes(b"evil" * (len(original) // 4))
        return digest

    monkeypatch.setattr(hashlib, "sha256", hash_then_swap)
    assert opened.tokenizer_bytes() == original
    assert path.read_bytes() != original


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
        b'{"schema_version": Infinity}',
        b'{"schema_version": 1e999}',
        b'{"schema_version": ' + b"9" * 5000 + b"}",
        b'{"schema_version": 1, "name": "\\ud800"}',
        b'{"schema_version": 1, "name": "\xff"}',
        b'{"schema_version": 1} {}',
        b"\x00" * 100,
        b"[" * 100000 + b"]" * 100000,
        b"[" * 1000000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b" " * (MAX_MANIFEST_BYTES + 1),
    ],
    ids=[
        *(
            "empty",
            "cut",
            "list",
            "null",
            "bom",
            "utf16",
            "nan",
            "duplicate",
            "infinity",
            "exponent",
            "digits",
        ),
        *("surrogate", "bytes", "two", "zeros", "deep", "deeper", "nested", "large"),
    ],
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
        (lambda d: d["variants"]["ort-fp32"].update(precision="int9"), "precision"),
        (lambda d: d["variants"].update({f"v{n}": d["variants"]["ort-fp32"] for n in range(16)}), "variants"),
        (lambda d: d["variants"]["ort-fp32"].update(parity_snr_db={"decoder": 1e999}), "manifest.json"),
        (
            lambda d: stage(d, "decoder")["inputs"].append({"name": "x", "dtype": "float32", "shape": []}),
            "inputs",
        ),
        (lambda d: stage(d, "decoder")["outputs"][0].update(shape=[10**12]), "shape"),
        (lambda d: stage(d, "decoder")["outputs"][0].update(shape=[0]), "shape"),
        (lambda d: stage(d, "decoder")["outputs"][0].update(dtype="object"), "dtype"),
        (lambda d: stage(d, "generator").update(outputs=[]), "velocity"),
        (lambda d: stage(d, "generator").update(bytes=2**31), "bytes"),
        (lambda d: d["generation"].update(max_steps=10**6), "max_steps"),
        (lambda d: d["generation"].update(default_guidance=99.0), "between"),
        (lambda d: d["provenance"].update(tools={f"t{n}": "1" for n in range(65)}), "tools"),
        (lambda d: d["provenance"].update(commit="\x1b]0;title\x07"), "commit"),
        (lambda d: d["golden"].update(bytes=2**30), "golden.npz"),
        (lambda d: d["model_card"].update(bytes=2**30), "MODEL_CARD.md"),
        (lambda d: d["tokenizer"].update(max_tokens=17), "max_tokens"),
        (lambda d: d["tokenizer"].update(file="manifest.json"), "manifest itself"),
        (lambda d: d["tokenizer"].update(file="Manifest.JSON"), "manifest itself"),
        (lambda d: d["tokenizer"].update(file="a/b/c/d/e/f/g/h/i"), "too deep"),
        (lambda d: d["tokenizer"].update(file="golden.npz/model"), "a file and a directory"),
        (lambda d: d["tokenizer"].update(file="Ort-fp32/model"), "two ways"),
        (lambda d: stage(d, "generator").update(file="ort-fp32/generator.bin"), "ends in .onnx"),
        (lambda d: stage(d, "generator").update(file="ort-fp32/generator.ONNX"), "ends in .onnx"),
        (lambda d: stage(d, "generator").update(file="ort-fp32/generator.onnx.gz"), "ends in .onnx"),
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


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c["audio"].update(max_seconds=10**9), "max_seconds"),
        (lambda c: c["audio"].update(max_seconds=-1), "max_seconds"),
        (lambda c: c["audio"].update(sample_rate=10**12), "sample_rate"),
        (lambda c: c["audio"].update(hop=0), "hop"),
        (lambda c: c["audio"].update(hop=1), "audio.hop 1"),
        (lambda c: c["audio"].update(channels=10**6), "channels"),
        (lambda c: c["audio"].update(latent_channels=10**6), "latent_channels"),
        (lambda c: c["audio"].update(latent_channels=5), "latent_channels"),
        (lambda c: c["text_encoder"].update(max_tokens=10**9), "max_tokens"),
        (lambda c: c["text_encoder"].update(vocab_size=10**12), "vocab_size"),
        (lambda c: c["generator"].update(width=10**9), "width"),
        (lambda c: c["codec"].update(n_fft=2**40), "n_fft"),
        (lambda c: c["codec"].update(noise_frames=2**40), "noise_frames"),
        (lambda c: c["codec"].update(stack=0), "stack"),
        (lambda c: c["codec"].update(stack=2), "codec 2 times 4"),
        (lambda c: c.update(schema_version=2), "schema_version"),
        (lambda c: c.update(name=5), "name"),
        (lambda c: c.pop("audio") and c.update(audio=[]), "audio"),
    ],
)
def test_configuration_that_asks_for_the_world(
    bundle: Path, change: Callable[[dict[str, Any]], object], word: str
) -> None:
    edit(bundle, lambda document: configure(document, change))
    refused(bundle, "manifest.json", word)


@pytest.mark.parametrize("key", ["a\nb", "\x1b[2J", "x" * 100_000, "\u202ereversed", "é"])
def test_keys_of_a_stranger_cannot_write_on_the_terminal(bundle: Path, key: str) -> None:
    for change in (
        lambda document: document.update({key: 1}),
        lambda document: document["variants"].update({key: document["variants"]["ort-fp32"]}),
        lambda document: configure(document, lambda config: config.update({key: 1})),
    ):
        original = (bundle / "manifest.json").read_bytes()
        edit(bundle, change)
        with pytest.raises(BundleError) as caught:
            Bundle.open(bundle)
        assert str(caught.value).isprintable() and len(str(caught.value)) <= 300
        (bundle / "manifest.json").write_bytes(original)


def test_more_bytes_than_allowed_in_all() -> None:
    document = json.loads((TINY / "manifest.json").read_text())
    parse_manifest(sealed(document).encode())
    for entry in document["variants"]["ort-fp32"]["stages"].values():
        entry["bytes"] = 2**31 - 1
    with pytest.raises(BundleError, match="bytes in all"):
        parse_manifest(sealed(document).encode())


NASTY: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**31,
        2**63,
        10**30,
        0.5,
        -0.0,
        1e308,
        "",
        "x",
        "../x",
        "\x00",
        "\u202e",
        "a\nb",
    ),
    *([], {}, [[]], [None], {"": None}, "9" * 500, ["x"] * 100, {"file": "x"}, "CON", "fp32", "é" * 100),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a document."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(inner for key, child in children for inner in places(child, (*path, key)))]


def test_manifests_changed_at_random_are_refused_or_whole() -> None:
    """500 careful forgeries: one place of the document replaced, removed or doubled, the digest made to agree."""
    draw = random.Random(7)
    original = json.loads((TINY / "manifest.json").read_text())
    found = places(original)[1:]
    outcomes = {"refused": 0, "accepted": 0}
    for _ in range(500):
        document = json.loads(json.dumps(original))
        path = draw.choice(found)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if draw.random() < 0.2:
            del parent[path[-1]]
        else:
            parent[path[-1]] = draw.choice(NASTY)
        started = time.process_time()
        try:
            manifest = parse_manifest(sealed(document).encode())
        except BundleError as error:
            outcomes["refused"] += 1
            assert str(error).isprintable()
        else:
            outcomes["accepted"] += 1
            assert manifest.model_config_of_bundle().audio.max_seconds <= 60
            assert all(0 < entry.bytes < 2**31 and ".." not in entry.file for entry in manifest.files())
        # Forty milliseconds; where others press on the processor's caches, ten times that.
        assert time.process_time() - started < 1
    assert outcomes["refused"] > 300 and outcomes["accepted"] > 0


def test_manifests_damaged_at_random_are_refused() -> None:
    """500 random damages without care: not one passes."""
    draw = random.Random(8)
    original = (TINY / "manifest.json").read_bytes()
    for _ in range(500):
        data = bytearray(original)
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(data))
            match draw.randrange(3):
                case 0:
                    data[place] ^= 1 << draw.randrange(8)
                case 1:
                    del data[place : place + draw.randrange(1, 20)]
                case _:
                    data[place:place] = draw.randbytes(draw.randrange(1, 20))
        if bytes(data) != original:
            with pytest.raises(BundleError, match=r"^manifest\.json: "):
                parse_manifest(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_256_flipped_bytes(bundle: Path, name: str) -> None:
    draw = random.Random(name)
    data = (bundle / name).read_bytes()
    for _ in range(256):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (bundle / name).write_bytes(damaged)
        refused(bundle, name)
