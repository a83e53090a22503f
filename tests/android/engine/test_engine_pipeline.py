"""Whole sounds on a backend of plain arithmetic: Kotlin makes and refuses what Python does, and can be stopped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_process import Engine, EngineError, unpack
from forged_manifests import read_manifest, seal_manifest
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.canonical import canonical_bytes
from edge_tta.config import AudioSpec
from edge_tta.errors import BackendError, EdgeTTAError, RequestError
from edge_tta.runtime.backend import model_of
from edge_tta.runtime.pipeline import TextToAudio
from edge_tta.runtime.request import GenerationRequest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "golden" / "edge-tiny"
SHIPPED = ROOT / "edge_tta" / "assets" / "edge-10m"
WIDTH = 8
Floats = NDArray[np.float32]
KINDS = {"RequestError": "RequestException", "BackendError": "BackendException"}


class FakeBackend:
    """The arithmetic of the harness's backend, in the same order."""

    name, precision, threads = "fake", "fp32", 1

    def __init__(self, audio: AudioSpec, gain: float, fault: str) -> None:
        self.audio, self.gain, self.fault = audio, np.float32(gain), fault

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        tokens = (ids[0][:, None] + np.arange(WIDTH)).astype(np.float32) / np.float32(1000)
        pooled = (ids.shape[1] + np.arange(WIDTH)).astype(np.float32) / np.float32(16)
        return self._spoiled("text_encoder", tokens[None]), pooled[None]

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        shift = np.float32(time) * np.float32(0.25) - np.float32(duration) * np.float32(0.125)
        shift = shift + np.float32(seconds) * np.float32(0.01) + np.float32(guidance) * np.float32(0.001)
        shift = shift + text[1][0, 1]
        tokens = np.resize(text[0], latent.size).reshape(latent.shape)
        return self._spoiled("generator", latent * np.float32(0.5) + tokens + shift)

    def decoder(self, latent: Floats) -> Floats:
        sample = np.arange(latent.shape[1] * self.audio.hop)
        sides = [
            latent[0, sample // self.audio.hop, (sample + channel) % latent.shape[2]]
            for channel in range(self.audio.channels)
        ]
        return self._spoiled("decoder", np.stack(sides)[None] * self.gain)

    def close(self) -> None:
        """Nothing to release."""

    def _spoiled(self, stage: str, values: Floats) -> Floats:
        if self.fault == f"{stage}-nan":
            values.reshape(-1)[values.size // 2] = np.nan
        if self.fault == f"{stage}-infinite":
            values.reshape(-1)[0] = -np.inf
        if self.fault == f"{stage}-throws":
            raise RuntimeError("no such thing\nand more")
        if self.fault == f"{stage}-memory":
            raise RuntimeError("std::bad_alloc")
        if self.fault == f"{stage}-heap":
            raise MemoryError("heap")
        return values


def in_python(
    root: Path, request: dict[str, Any], gain: float = 1.0, fault: str = ""
) -> tuple[Floats, bytes, list[str]]:
    """Samples, WAV file and warnings."""
    bundle = Bundle.open(root, verify=False)
    with TextToAudio(model_of(bundle)(FakeBackend(bundle.config.audio, gain, fault))) as model:
        result = model.generate(GenerationRequest(**request))
    return result.audio.samples, result.audio.to_bytes(), list(result.warnings)


def altered(folder: Path, **changes: dict[str, Any]) -> Path:
    """The tiny bundle with parts of its manifest changed."""
    root = Path(shutil.copytree(TINY, folder / "altered"))
    document = read_manifest(root)
    for place, fields in changes.items():
        for part in (document, document["config"]):
            if place in part:
                part[place].update(fields)
    config = canonical_bytes(document["config"]).removesuffix(b"\n")
    document["config_digest"] = hashlib.sha256(config).hexdigest()
    seal_manifest(root, document)
    return root


def same_sound(engine: Engine, root: Path, request: dict[str, Any], gain: float = 1.0) -> dict[str, Any]:
    """Both make the same samples, files and warnings; the engine's answer."""
    samples, wave, warnings = in_python(root, request, gain)
    found: dict[str, Any] = engine("generate", root=str(root), scratch="/nowhere", request=request, gain=gain)
    np.testing.assert_array_equal(unpack(found["samples"]).reshape(samples.shape), samples)
    assert base64.b64decode(found["wave"]) == wave
    assert found["warnings"] == warnings
    assert [found["channels"], found["frames"]] == list(samples.shape)
    *stages, total = found["timings"]
    assert all(time >= 0 for time in stages) and sum(stages) <= total * (1 + 1e-12)
    return found


@pytest.mark.parametrize("root", [SHIPPED, TINY], ids=lambda root: root.name)
@pytest.mark.parametrize("gain", [0.0, 0.1, 1.0, 40.0])
@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "rain on a tin roof"},
        {"prompt": "Rain  ON a tin roof", "seconds": 0.5, "seed": 2**63 - 1},
        {"prompt": "a dog barks", "seconds": 12.0, "seed": 1, "steps": 8, "guidance": 4.25},
        {"prompt": "雨の音 and thunder " * 9, "seconds": 1.2345, "seed": 77, "steps": 3},
        {"prompt": "1", "seconds": 5, "guidance": 3},
        {"prompt": "Rain on a tin roof + distant  thunder (-6 dB)", "seconds": 1.3, "seed": 5},
        {
            "prompt": "雨の音 雨の音 雨の音 (+2.5dB) ＋ wind (\u22123.125 dB) + dogs + rain (40 dB)",
            "seconds": 0.7,
            "steps": 2,
        },
        {"prompt": "wind 1+1 (-6 dB)", "seconds": 0.5},
        {"prompt": "wind + 雨の \"音\" 'の' \\ 雨の音 (3 dB)", "seconds": 0.5},
    ],
)
def test_sounds_are_those_of_python(
    engine: Engine, root: Path, gain: float, request_: dict[str, Any]
) -> None:
    same_sound(engine, root, request_, gain)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8])
def test_ping_pong_sounds_are_those_of_python(engine: Engine, tmp_path: Path, steps: int) -> None:
    root = altered(tmp_path, generation={"sampler": "ping-pong"})
    request = {"prompt": "wind", "seconds": 2.0, "seed": steps, "steps": steps}
    found = same_sound(engine, root, request, 0.1)
    same_sound(engine, root, request | {"prompt": "wind + rain (3 dB) + dogs"}, 0.1)
    plain = engine("generate", root=str(TINY), scratch="/nowhere", request=request, gain=0.1)
    assert (plain["samples"] == found["samples"]) == (steps == 1)


def test_stereo_sounds_are_those_of_python(engine: Engine, tmp_path: Path) -> None:
    root = altered(tmp_path, audio={"channels": 2, "sample_rate": 22_050})
    for prompt in ("wind", "wind + rain (-9 dB)"):
        assert same_sound(engine, root, {"prompt": prompt, "seconds": 1.5}, 0.1)["sample_rate"] == 22_050


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": ""}, {"prompt": "…"}, {"prompt": "a\x00"}, {"prompt": "\ud800"}, {"prompt": "x" * 5000},
        {"prompt": "a", "seconds": 0.0}, {"prompt": "a", "seconds": -1.5}, {"prompt": "a", "seconds": math.nan},
        {"prompt": "a", "seconds": math.inf}, {"prompt": "a", "seconds": 0.49999}, {"prompt": "a", "seconds": 12.00001},
        {"prompt": "a", "seconds": 1e300}, {"prompt": "a", "seconds": 1e-300}, {"prompt": "a", "seed": -1},
        {"prompt": "a", "steps": 0}, {"prompt": "a", "steps": 9}, {"prompt": "a", "steps": -3},
        {"prompt": "a", "guidance": -0.5}, {"prompt": "a", "guidance": math.nan}, {"prompt": "a", "guidance": 0.25},
        {"prompt": "a", "guidance": 5.000001}, {"prompt": "a", "guidance": 123456789.0},
        {"prompt": "rain +"}, {"prompt": "+ rain"}, {"prompt": "rain + + wind"}, {"prompt": "rain + (-6 dB)"},
        {"prompt": "rain + !"}, {"prompt": "a + b + c + d + e"}, {"prompt": "a + b (40.5 dB)"},
        {"prompt": "a (-999db) + b"}, {"prompt": "\ufdfa" * 1000 + " + b"}, {"prompt": "a + +", "seed": -1},
        {"prompt": "", "seconds": -1.0, "seed": -1}, {"prompt": "a", "seconds": 99.0, "guidance": 99.0},
    ],
)  # fmt: skip
def test_requests_are_refused_as_in_python(engine: Engine, request_: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as expected:
        in_python(TINY, request_)
    written = {
        name: str(value).replace("nan", "NaN").replace("inf", "Infinity")
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in request_.items()
    }
    with pytest.raises(EngineError) as refused:
        engine("generate", root=str(TINY), scratch="/nowhere", request=written)
    assert str(refused.value) == f"RequestException: {expected.value}"


def test_a_bundle_may_take_fewer_steps(engine: Engine, tmp_path: Path) -> None:
    root = altered(tmp_path, generation={"max_steps": 2})
    with pytest.raises(EngineError, match="steps 3 is out of range: this bundle takes 1 to 2"):
        engine("generate", root=str(root), scratch="/nowhere", request={"prompt": "a", "steps": 3})


@pytest.mark.parametrize("stage", ["text_encoder", "generator", "decoder"])
@pytest.mark.parametrize("fault", ["nan", "infinite", "throws", "memory", "heap"])
def test_failures_of_a_backend_are_told_as_in_python(engine: Engine, stage: str, fault: str) -> None:
    request = {"prompt": "rain", "seconds": 0.5}
    with pytest.raises(EdgeTTAError) as expected:
        in_python(TINY, request, fault=f"{stage}-{fault}")
    assert isinstance(expected.value, BackendError)
    with pytest.raises(EngineError) as failed:
        engine("generate", root=str(TINY), scratch="/nowhere", request=request, fault=f"{stage}-{fault}")
    assert str(failed.value) == f"BackendException: {expected.value}"


@pytest.mark.parametrize("stage", ["text_encoder", "generator", "decoder"])
def test_results_that_are_too_short_are_refused(engine: Engine, stage: str) -> None:
    request = {"prompt": "rain", "seconds": 0.5}
    with pytest.raises(EngineError, match=rf"BackendException: fake: {stage} made"):
        engine("generate", root=str(TINY), scratch="/nowhere", request=request, fault=f"{stage}-short")


def test_a_damaged_tokenizer_stops_the_opening(engine: Engine, tmp_path: Path) -> None:
    root = Path(shutil.copytree(TINY, tmp_path / "bundle"))
    data = bytearray((root / "tokenizer.model").read_bytes())
    data[50] ^= 1
    (root / "tokenizer.model").write_bytes(data)
    with pytest.raises(EngineError, match=r"BundleException: tokenizer\.model: content does not match"):
        engine("generate", root=str(root), scratch="/nowhere", request={"prompt": "rain"})


@pytest.mark.parametrize(
    ("during", "ran"),
    [
        ("text_encoder", ["text_encoder"]),
        ("generator", ["text_encoder", "generator"]),
        ("decoder", ["text_encoder", "generator", "generator", "generator", "decoder"]),
    ],
)
def test_cancelling_from_another_thread(engine: Engine, during: str, ran: list[str]) -> None:
    request = {"prompt": "rain", "seconds": 0.5, "steps": 3}
    found = engine("cancel", root=str(TINY), scratch="/nowhere", request=request, during=during)
    # The last stage gives way to nothing; calls that come later are not touched.
    first = "made" if during == "decoder" else "CancelledException"
    assert found == {"first": first, "stages": ran, "second": 22_050}


def test_cancelling_between_the_sounds_of_a_prompt(engine: Engine) -> None:
    request = {"prompt": "rain + wind", "seconds": 0.5}
    found = engine("cancel", root=str(TINY), scratch="/nowhere", request=request, during="decoder")
    stages = ["text_encoder", "generator", "decoder"]
    assert found == {"first": "CancelledException", "stages": stages, "second": 22_050}


def test_closing_from_another_thread(engine: Engine) -> None:
    found = engine("close", root=str(TINY), scratch="/nowhere", request={"prompt": "rain", "seconds": 0.5})
    closed = "BackendException: the pipeline is closed; open it again"
    assert found == {"messages": [closed, closed], "closed": 1}


def test_a_benchmark_is_one_record(engine: Engine) -> None:
    request = {"prompt": "rain", "seconds": 0.5, "steps": 2}
    found = engine("bench", root=str(SHIPPED), scratch="/nowhere", request=request, rounds=5)
    record = json.loads(found["record"])
    assert found["rounds"] == [1, 2, 3, 4, 5]
    assert found["record"] == canonical_bytes(record).decode().removesuffix("\n")
    manifest = Bundle.open(SHIPPED, verify=False).manifest
    stages, totals = record.pop("stages"), record.pop("totals")
    assert stages.keys() == {"tokenizer", "text_encoder", "generator", "decoder", "total"}
    assert len(totals) == 5 and stages["total"]["best"] == min(totals)
    assert math.isclose(stages["total"]["median"], np.median(totals), rel_tol=1e-9)
    assert math.isclose(record.pop("real_time_factor"), np.median(totals) / 0.5, rel_tol=1e-9)
    assert record.pop("warm_up_seconds") > 0
    assert record == {
        "schema": "android-bench/1", "engine_version": "0.1.0", "device": {"model": "none", "cores": 8},
        "bundle": f"edge-10m@{manifest.digest[:12]}", "bundle_digest": manifest.digest,
        "bundle_commit": manifest.provenance.commit, "recipes": manifest.provenance.recipes,
        "backend": "fake", "precision": "fp32", "threads": 1, "seconds": 0.5, "steps": 2, "runs": 5,
        "load_seconds": 0.25, "peak_rss_bytes": None,
    }  # fmt: skip


def test_distributions_are_those_of_numpy(engine: Engine) -> None:
    generator = np.random.default_rng(6)
    for count in (1, 2, 3, 19, 20, 21, 100):
        values = generator.exponential(size=count)
        wanted = [values.min(), np.median(values), np.percentile(values, 95)]
        np.testing.assert_allclose(engine("distribution", values=values.tolist()), wanted, rtol=1e-14)
