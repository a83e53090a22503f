"""The Core ML backend: with a stand-in that runs saved programs anywhere, and for real where there is a Mac."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coreml_export import StandIn, install_stand_in

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, BundleError, MissingExtraError
from edge_tta.runtime import apple, coreml_backend
from edge_tta.runtime.backend import load_variant, unavailable
from edge_tta.runtime.coreml_backend import COMPUTE_UNITS, CoreMLBackend
from edge_tta.runtime.golden import check_golden

ON_A_MAC = sys.platform == "darwin"


@pytest.fixture
def stand_in(coreml_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return install_stand_in(monkeypatch)


@pytest.fixture
def bundle(coreml_bundle: Path) -> Bundle:
    return Bundle.open(coreml_bundle)


def test_a_sound_is_made(coreml_bundle: Path, stand_in: StandIn) -> None:
    with TextToAudio.open(coreml_bundle, backend="coreml", precision="fp16") as model:
        result = model.generate(GenerationRequest("rain on a tin roof", seconds=0.5, steps=2))
    assert result.audio.samples.shape == (1, 22050) and np.abs(result.audio.samples).max() > 0
    assert (result.backend, result.precision, result.threads) == ("coreml", "fp16", 0)
    assert sorted(name for name, _ in stand_in.opened) == ["decoder", "generator", "text_encoder"]
    assert stand_in.given[0]["ids"].dtype == np.int32
    for given in stand_in.given[1:]:
        assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in given.values())


def test_golden_vectors(bundle: Bundle, stand_in: StandIn) -> None:
    found = check_golden(bundle)
    assert len(found) == 6 and all(stage.passed for stage in found)


def test_what_runs_is_a_verified_copy_that_is_compiled_once_and_removed(
    bundle: Bundle, stand_in: StandIn
) -> None:
    backend = CoreMLBackend(bundle, "coreml-fp16")
    (compiled,) = stand_in.compiled
    assert bundle.root not in compiled.parents and compiled.is_dir()
    backend.close()
    backend.close()
    assert not compiled.exists()
    with pytest.raises(BackendError, match="coreml: the backend is closed"):
        backend.decoder(np.zeros((1, 8, 4), np.float32))


@pytest.mark.parametrize("units", sorted(COMPUTE_UNITS))
def test_compute_units(bundle: Bundle, stand_in: StandIn, units: str) -> None:
    import coremltools

    load_variant(bundle, "coreml-fp16", 1, compute_units=units).backend.close()
    assert {used for _, used in stand_in.opened} == {getattr(coremltools.ComputeUnit, COMPUTE_UNITS[units])}


def test_unknown_compute_units(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match=r"unknown compute units 'ane'; there are all, cpu, cpu\+gpu, cpu\+neural"
    ):
        CoreMLBackend(bundle, "coreml-fp16", "ane")


@pytest.mark.skipif(ON_A_MAC, reason="says what happens elsewhere")
def test_off_a_mac_one_line_says_so(coreml_bundle: Path, bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match=r"^coreml: Core ML is a part of macOS 15 and later, and this is"
    ) as caught:
        TextToAudio.open(coreml_bundle, backend="coreml", precision="fp16")
    assert caught.value.exit_code == 4
    assert unavailable(bundle.variants["coreml-fp16"]) == str(caught.value)


def test_an_older_macos_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apple, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(apple, "platform", SimpleNamespace(mac_ver=lambda: ("14.7.1", ("", "", ""), "arm64")))
    with pytest.raises(BackendError, match=r"macOS 15 or later is needed, this is 14\.7\.1"):
        apple.require_macos()
    monkeypatch.setattr(apple, "platform", SimpleNamespace(mac_ver=lambda: ("26", ("", "", ""), "arm64")))
    apple.require_macos()


def test_a_missing_package_is_named(
    bundle: Bundle, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"the coreml backend needs the 'coreml' extra"):
        CoreMLBackend(bundle, "coreml-fp16")


@pytest.mark.parametrize("damage", ["flipped", "extra"])
def test_damage_is_found_before_anything_is_compiled(
    coreml_bundle: Path, stand_in: StandIn, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(coreml_bundle, tmp_path / "bundle"))
    weights = copy / "coreml-fp16/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    if damage == "flipped":
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    else:
        weights.with_name("more.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"weights/"):
        TextToAudio.open(copy, backend="coreml", precision="fp16")
    assert not stand_in.compiled


def test_a_refusal_by_core_ml_becomes_one_line_and_leaves_nothing(
    bundle: Bundle, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coremltools

    made: list[Path] = []

    def refuse(package: str, destination: str) -> str:
        made.append(Path(package))
        raise RuntimeError("Error compiling model: E5RT said no\nand then a page more")

    monkeypatch.setattr(coremltools.utils, "compile_model", refuse)
    with pytest.raises(BackendError) as caught:
        CoreMLBackend(bundle, "coreml-fp16")
    assert str(caught.value) == "coreml: model.mlpackage was refused: Error compiling model: E5RT said no"
    assert not made[0].exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    bundle: Bundle, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(
        BackendError, match=r"^coreml: coreml-fp16/.* cannot be copied to .*: No space left on"
    ):
        CoreMLBackend(bundle, "coreml-fp16")
    assert not list(tmp_path.iterdir())


def changed_specification(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    import coremltools

    really = coremltools.utils.load_spec

    def load(path: str) -> Any:
        specification = really(path)
        change(specification.description.functions)
        return specification

    monkeypatch.setattr(coremltools.utils, "load_spec", load)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda functions: functions.pop(0),
            "model.mlpackage has no function text_encoder, only decoder, generator",
        ),
        (
            lambda functions: setattr(functions[2].input[0], "name", "noise"),
            "has the inputs noise; the manifest says latent",
        ),
        (lambda functions: functions[1].output.pop(0), "has the outputs ; the manifest says velocity"),
    ],
)
def test_functions_that_are_not_those_of_the_manifest(
    bundle: Bundle, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    changed_specification(monkeypatch, change)
    with pytest.raises(BackendError) as caught:
        CoreMLBackend(bundle, "coreml-fp16")
    assert message in str(caught.value)


def test_a_failing_stage_is_named(
    coreml_bundle: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TextToAudio.open(coreml_bundle, backend="coreml", precision="fp16") as model:
        monkeypatch.setitem(model.model.backend._models, "generator", lambda _: 1 / 0)  # type: ignore[attr-defined]
        with pytest.raises(BackendError, match="coreml: generator failed: division by zero"):
            model.generate(GenerationRequest("rain", seconds=0.5))


def test_a_package_made_for_single_lengths_runs_the_next_longer_one(
    bundle: Bundle, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreml_backend, "_enumerated_lengths", lambda _: (16, 32))
    backend = CoreMLBackend(bundle, "coreml-fp16")
    random = np.random.default_rng(0)
    latent, text = (
        random.standard_normal((1, 20, 4)).astype(np.float32),
        backend.text_encoder(np.array([[5, 6]])),
    )
    velocity = backend.generator(latent, 1.0, 1.0, text, 0.1, 3.0)
    assert velocity.shape == (1, 20, 4) and stand_in.given[-1]["latent"].shape == (1, 32, 4)
    # It goes on with its own beginning: noise, not zeros.
    assert np.array_equal(stand_in.given[-1]["latent"][:, 20:], latent[:, :12])
    assert backend.decoder(latent).shape == (1, 1, 20 * 128)
    assert (
        backend.decoder(latent[:, :16]).shape == (1, 1, 16 * 128)
        and stand_in.given[-1]["latent"].shape[1] == 16
    )
    with pytest.raises(BackendError, match="this variant is made for at most 32 latent frames, not 33"):
        backend.decoder(np.zeros((1, 33, 4), np.float32))
    backend.close()


@pytest.mark.macos
@pytest.mark.skipif(not ON_A_MAC, reason="runs Core ML for real, which is a part of macOS")
@pytest.mark.parametrize("units", sorted(COMPUTE_UNITS))
def test_core_ml_for_real(coreml_bundle: Path, units: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Bundle.open(coreml_bundle)
    assert all(stage.passed for stage in check_golden(opened, variants=["coreml-fp16", "coreml-mixed"]))
    with TextToAudio.open(opened, backend="coreml", precision="fp16", compute_units=units) as model:
        first = model.generate(GenerationRequest("rain on a tin roof", seconds=0.5))
        started = time.perf_counter()
        again = model.generate(GenerationRequest("rain on a tin roof", seconds=0.5))
        taken = time.perf_counter() - started
    assert np.array_equal(first.audio.samples, again.audio.samples)
    with capsys.disabled():
        sys.stdout.write(f"Core ML on {units}: 0.5 s of sound in {taken * 1000:.1f} ms\n")
