"""The whole app is used as a person and a command line would, on stand-ins of Android's classes and the real networks.

Nothing here says how Android itself behaves; what is tested is what the app does with it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from app_builds import APP, ROOT, screen_command
from kotlin_compiler import Kotlin

from edge_tta import GenerationRequest, TextToAudio

# The first test of a run waits for the compiler.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUNDLE = ROOT / "edge_tta" / "assets" / "edge-10m"


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the app stores."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def seen(
    app_classes: Path,
    chain: list[str],
    kotlin: Kotlin,
    storage: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What was to be seen in one session with the app."""
    assets = tmp_path_factory.mktemp("assets")
    shutil.copytree(BUNDLE, assets / "bundle", ignore=shutil.ignore_patterns("ort-fp32", "golden.npz"))
    command = screen_command(kotlin, app_classes, chain, tmp_path_factory.mktemp("screen"))
    done = subprocess.run(
        [*command, str(APP / "res"), str(assets), str(storage)],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)


def test_model_is_opened(seen: dict[str, str]) -> None:
    """From the assets, at the first start, off the main thread."""
    digest = json.loads((BUNDLE / "manifest.json").read_bytes())["digest"][:12]
    assert seen["first"] == "Opening the model…"
    assert seen["opened"] == f"edge-10m@{digest} is ready"


def test_sound_is_made_shown_and_played(seen: dict[str, str]) -> None:
    """What the form says is what is made; the whole sound goes to the player."""
    assert seen["example"] == "a dog barking in the distance"
    assert seen["length"] == "Length: 1.0 s"
    assert seen["can play before"] == "false"
    assert seen["making"] == "Making a sound…"
    assert seen["screen kept on"] == "true"
    assert seen["made"] == "a dog barking, seed 7"
    assert seen["figures"] == "8 lines"
    assert seen["waveform"] == "Waveform of 1.0 seconds"
    assert seen["played"] == "44100"
    assert (seen["button"], seen["button after"]) == ("Stop", "Play")


def test_rotation_keeps_the_sound(seen: dict[str, str]) -> None:
    """The new screen shows what the old one did."""
    assert seen["turned"] == seen["made"]
    assert seen["can play after turning"] == "true"


def test_saved_sound_is_pythons(seen: dict[str, str], storage: Path) -> None:
    """The file that the app writes holds the sound that the Python package makes."""
    assert seen["title"] == "a-dog-barking-7.wav"
    assert seen["saved"] == "Saved"
    with TextToAudio.open(BUNDLE, backend="ort", precision="int8", threads=1) as model:
        expected = model.generate(GenerationRequest("a dog barking", seconds=1.0, seed=7)).audio.samples
    with wave.open(str(storage / "saved.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 44100)
        found = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    np.testing.assert_allclose(found / 32767, expected[0], atol=1 / 32767)


def test_what_goes_wrong_is_one_line(seen: dict[str, str]) -> None:
    """And the app goes on."""
    assert seen["gone"] == "Not saved: it is no longer there; make it again"
    assert seen["unsaved"].startswith("Not saved: /nowhere/at/all.wav")
    assert seen["wrong seed"] == "The seed is a whole number, 0 or more"
    assert seen["no prompt"].startswith("prompt is empty")
    assert seen["cancelled"] == "Cancelled"


def test_benchmark_button(seen: dict[str, str]) -> None:
    """It says what it does, and its record can be saved."""
    assert seen["measuring"] == "Benchmark"
    assert seen["measured"] == "Benchmark done"
    assert seen["can save"] == "true"


def test_about_page(seen: dict[str, str]) -> None:
    """Card and attributions are read from the bundle."""
    assert seen["about"] == "true"


def test_command_line_makes_a_sound(seen: dict[str, str], storage: Path) -> None:
    """Numbers of any type are taken; the record is JSON, and the sound lies beside it until the next start."""
    record = json.loads(seen["sound"])
    assert (record["prompt"], record["seconds"], record["seed"], record["steps"]) == ("rain", 1.0, 5, 1)
    assert record["variant"] == "ort-int8"
    assert record["sound"] == "result.wav"
    assert set(record["stages"]) == {"tokenizer", "text_encoder", "generator", "decoder", "total"}
    assert record["real_time_factor"] == pytest.approx(record["stages"]["total"])
    assert record["peak_rss_bytes"] > 50 * 2**20
    assert not (storage / "external" / "result.wav").exists()


def test_command_line_measures(seen: dict[str, str]) -> None:
    """The record has what the engine knows and what the app adds."""
    record = json.loads(seen["bench"])
    assert record["schema"] == "android-bench/1"
    assert (record["runs"], record["seconds"], record["variant"]) == (2, 1.0, "ort-int8")
    assert len(record["totals"]) == 2
    assert record["load_seconds"] > 0
    assert record["peak_rss_bytes"] > 50 * 2**20
    assert record["device"]["cores"] >= 1


def test_command_line_is_told_of_errors(seen: dict[str, str]) -> None:
    """A script need not wait for ever."""
    assert json.loads(seen["wrong"]) == {"error": "steps 99 is out of range: allowed are 1 to 8"}
