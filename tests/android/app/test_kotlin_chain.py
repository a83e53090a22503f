"""The app's engine and ONNX Runtime backend make the sounds that the Python package makes, sample by sample.

What runs is the Kotlin that ships in the app, unchanged, on this machine's Java. Only the Java classes of ONNX Runtime
are replaced, by a shim over the library in Python's package.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_builds import ROOT
from forged_manifests import read_manifest, seal_manifest

from edge_tta import GenerationRequest, TextToAudio

# The first test of a run waits for the compiler.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUNDLE = ROOT / "edge_tta" / "assets" / "edge-10m"
TINY = ROOT / "tests" / "golden" / "edge-tiny"
SHIPPED_IN_APP = ("manifest.json", "tokenizer.model", "MODEL_CARD.md", "ATTRIBUTIONS.csv")
MIN_SNR_DB = 80.0
REQUESTS = [
    GenerationRequest("rain on a tin roof", seconds=0.5, seed=0),
    GenerationRequest("a dog barking in the distance", seconds=5.0, seed=7),
    GenerationRequest("thunder rolling over hills, then rain", seconds=12.0, seed=2**63 - 1),
    GenerationRequest("Schritte auf Kies — ❄ slowly", seconds=5.0, seed=123456789),
    GenerationRequest("waves on a beach with gulls", seconds=0.5, seed=3, steps=4),
    GenerationRequest("a steam train passing by", seconds=5.0, seed=4, steps=4),
    GenerationRequest("an engine starts, idles and stops", seconds=12.0, seed=5, steps=4),
    GenerationRequest("word " * 90, seconds=3.21, seed=6, steps=2),
]


def run_chain(
    chain: list[str], folder: Path, bundle: Path, requests: list[GenerationRequest], threads: int = 1
) -> list[str]:
    """Lines that the driver prints; sounds are in ``folder`` as N.f32."""
    return run_lines(
        chain,
        folder,
        bundle,
        [f"{request.seconds}\t{request.seed}\t{request.steps}\t{request.prompt}" for request in requests],
        threads,
    )


def run_lines(
    chain: list[str],
    folder: Path,
    bundle: Path,
    lines: list[str],
    threads: int = 1,
    variant: str = "ort-int8",
) -> list[str]:
    """The same of requests as the driver reads them."""
    listed = folder / "requests.tsv"
    listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [*chain, str(bundle), str(folder), variant, str(threads), str(listed)]
    command.insert(1, "-Dfile.encoding=UTF-8")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def snr_db(reference: np.ndarray, found: np.ndarray) -> float:
    """Signal-to-noise ratio; infinite for equal samples."""
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    return (
        math.inf
        if noise == 0
        else 10 * math.log10(float(np.square(reference.astype(np.float64)).sum()) / noise)
    )


def test_same_samples_as_python(chain: list[str], tmp_path: Path) -> None:
    """Every sample of every sound, for short and long sounds, one step and four, cut and foreign prompts."""
    lines = run_chain(chain, tmp_path, BUNDLE, REQUESTS)
    assert len(lines) == len(REQUESTS)
    ratios = []
    with TextToAudio.open(BUNDLE, backend="ort", precision="int8", threads=1) as model:
        for number, request in enumerate(REQUESTS):
            assert lines[number].split()[0] == str(number), lines[number]
            expected = model.generate(request).audio.samples
            found = np.fromfile(tmp_path / f"{number}.f32", dtype="<f4").reshape(expected.shape)
            ratios.append(snr_db(expected, found))
    assert min(ratios) > MIN_SNR_DB, ratios


def test_same_samples_with_two_threads(chain: list[str], tmp_path: Path) -> None:
    """The number of threads reaches the library: sounds are made as Python makes them with as many."""
    run_chain(chain, tmp_path, BUNDLE, REQUESTS[1:2], threads=2)
    with TextToAudio.open(BUNDLE, backend="ort", precision="int8", threads=2) as model:
        expected = model.generate(REQUESTS[1]).audio.samples
    found = np.fromfile(tmp_path / "0.f32", dtype="<f4").reshape(expected.shape)
    assert snr_db(expected, found) > MIN_SNR_DB


def test_other_bundles_run(chain: list[str], tmp_path: Path) -> None:
    """The tiny bundle of the tests, in float."""
    with TextToAudio.open(TINY, backend="ort", precision="fp32", threads=1) as model:
        request = GenerationRequest("rain", seconds=model.model.audio.max_seconds, seed=11)
        expected = model.generate(request).audio.samples
        line = f"{request.seconds}\t{request.seed}\t1\t{request.prompt}"
    lines = run_lines(chain, tmp_path, TINY, [line], variant="ort-fp32")
    assert lines[0].startswith("0 "), lines
    found = np.fromfile(tmp_path / "0.f32", dtype="<f4").reshape(expected.shape)
    assert snr_db(expected, found) > MIN_SNR_DB


@pytest.fixture
def part_of_bundle(tmp_path: Path) -> Path:
    """What the app's assets hold of the shipped bundle."""
    target = tmp_path / "bundle"
    target.mkdir()
    for name in SHIPPED_IN_APP:
        shutil.copy(BUNDLE / name, target / name)
    shutil.copytree(BUNDLE / "ort-int8", target / "ort-int8")
    return target


def test_a_bundle_carried_in_part_runs(chain: list[str], tmp_path: Path, part_of_bundle: Path) -> None:
    """Without the files of other variants and the golden arrays, in Kotlin as in Python."""
    lines = run_chain(chain, tmp_path, part_of_bundle, REQUESTS[:1])
    assert lines[0].startswith("0 "), lines
    with TextToAudio.open(part_of_bundle, backend="ort", precision="int8", threads=1) as model:
        expected = model.generate(REQUESTS[0]).audio.samples
    found = np.fromfile(tmp_path / "0.f32", dtype="<f4").reshape(expected.shape)
    assert snr_db(expected, found) > MIN_SNR_DB


def test_damaged_graph_is_refused(chain: list[str], tmp_path: Path, part_of_bundle: Path) -> None:
    """A file that is not what the manifest says never reaches the library."""
    graph = part_of_bundle / "ort-int8" / "generator.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    lines = run_chain(chain, tmp_path, part_of_bundle, REQUESTS[:1])
    assert lines == [
        "open BundleException: ort-int8/generator.onnx: content does not match its SHA-256; the file is damaged"
    ]


def altered_tiny(target: Path, change: Callable[[dict[str, Any], Path], None]) -> Path:
    """The tiny bundle with something changed in its float stages, and a manifest that agrees with the change."""
    shutil.copytree(TINY, target)
    document = read_manifest(target)
    change(document["variants"]["ort-fp32"]["stages"], target)
    seal_manifest(target, document)
    return target


def test_graph_that_the_library_refuses(chain: list[str], tmp_path: Path) -> None:
    """What ONNX Runtime says arrives as one line that names stage and file."""

    def rename(stages: dict[str, Any], root: Path) -> None:
        entry = stages["decoder"]
        # An operator that no release has: well-formed, so that our own checks let it pass.
        data = (root / entry["file"]).read_bytes().replace(b"\x22\x06MatMul", b"\x22\x06MatMuX")
        (root / entry["file"]).write_bytes(data)
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    lines = run_lines(chain, tmp_path, altered_tiny(tmp_path / "bundle", rename), [], variant="ort-fp32")
    assert len(lines) == 1
    assert "MatMuX" in lines[0]
    assert lines[0].startswith("open BackendException: ort: decoder (ort-fp32/decoder.onnx) was refused: ")


def test_graph_that_is_not_what_the_manifest_says(chain: list[str], tmp_path: Path) -> None:
    """Inputs are compared before anything runs."""

    def forget(stages: dict[str, Any], _: Path) -> None:
        stages["generator"]["inputs"] = [
            port for port in stages["generator"]["inputs"] if port["name"] != "guidance"
        ]

    lines = run_lines(chain, tmp_path, altered_tiny(tmp_path / "bundle", forget), [], variant="ort-fp32")
    assert len(lines) == 1
    assert lines[0].startswith(
        "open BackendException: ort: generator (ort-fp32/generator.onnx) has the inputs "
    )


def test_library_failures_arrive_as_errors(chain: list[str], tmp_path: Path) -> None:
    """Unknown variants, and stages of a backend that is closed."""
    lines = run_lines(chain, tmp_path, BUNDLE, [], variant="ort-int3")
    assert lines == ["open BackendException: ort: the bundle has no variant 'ort-int3'"]
    lines = run_lines(chain, tmp_path, BUNDLE, ["0.5\t0\t1\tclose the backend", "99\t0\t1\train"])
    assert lines[0] == "0 BackendException: ort: the backend is closed"
    assert lines[1].startswith("1 RequestException: seconds 99 is out of range")
