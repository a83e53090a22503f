"""Parts of the app that need no Android: installing a bundle, the picture of a sound, names of files, memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from app_builds import ROOT, parts_command
from kotlin_compiler import Kotlin

# The first test of a run waits for the compiler.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TINY = ROOT / "tests" / "golden" / "edge-tiny"
TINY_NAME = "edge-tiny@"
Parts = Callable[..., str]


@pytest.fixture(scope="session")
def parts(
    app_classes: Path, chain: list[str], kotlin: Kotlin, tmp_path_factory: pytest.TempPathFactory
) -> Parts:
    """Runs a part of the app and returns what it says."""
    command = parts_command(kotlin, app_classes, chain, tmp_path_factory.mktemp("parts"))

    def run(*arguments: object) -> str:
        # Java takes the encoding of arguments and output from the locale.
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Assets with the tiny bundle in part, storage for adb, the app's own, its cache."""
    made = [tmp_path / name for name in ("assets", "pushed", "files", "cache")]
    for folder in made:
        folder.mkdir()
    shutil.copytree(TINY, made[0] / "bundle", ignore=shutil.ignore_patterns("golden.npz"))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_bundle_is_copied_once(parts: Parts, folders: list[Path]) -> None:
    """The copy is equal, nothing else is left, and a second start writes nothing."""
    assert parts("install", *folders).startswith(f"bundle {TINY_NAME}")
    copy = folders[2] / "bundle"
    assert contents(copy) == contents(folders[0] / "bundle")
    assert [entry.name for entry in folders[2].iterdir()] == ["bundle"]
    times = {file: file.stat().st_mtime_ns for file in copy.rglob("*")}
    parts("install", *folders)
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*")} == times


def test_interrupted_and_outdated_copies_are_replaced(parts: Parts, folders: list[Path]) -> None:
    """What an interrupted start left is thrown away, and so is another bundle of an earlier app."""
    (folders[2] / "bundle.part").mkdir()
    (folders[2] / "bundle.part" / "stray").write_text("x")
    (folders[2] / "bundle").mkdir()
    (folders[2] / "bundle" / "manifest.json").write_text("{}")
    (folders[2] / "bundle" / "old.onnx").write_text("x")
    assert parts("install", *folders).startswith(f"bundle {TINY_NAME}")
    assert contents(folders[2] / "bundle") == contents(folders[0] / "bundle")
    assert [entry.name for entry in folders[2].iterdir()] == ["bundle"]


def test_damaged_assets_are_not_installed(parts: Parts, folders: list[Path]) -> None:
    """A flipped bit in any file is named, and no folder of the final name appears."""
    graph = folders[0] / "bundle" / "ort-fp32" / "decoder.onnx"
    data = bytearray(graph.read_bytes())
    data[100] ^= 1
    graph.write_bytes(data)
    said = parts("install", *folders)
    assert said.startswith("BundleException: ort-fp32/decoder.onnx: content does not match its SHA-256")
    assert not (folders[2] / "bundle").exists()


def test_pushed_bundle_comes_first(parts: Parts, folders: list[Path]) -> None:
    """It is opened where it is, and nothing is copied."""
    shutil.copytree(TINY, folders[1] / "bundle")
    assert parts("install", *folders).startswith(f"bundle {TINY_NAME}")
    assert not list(folders[2].iterdir())


def test_app_without_bundle(parts: Parts, folders: list[Path]) -> None:
    """No error: the screen says what to do."""
    shutil.rmtree(folders[0] / "bundle")
    assert parts("install", *folders) == "nothing"


def test_cancel_before_the_model_is_open(parts: Parts, tmp_path: Path) -> None:
    """It stops the work that was begun and no later one; a model stays open for the same variant and threads."""
    said = parts("cancel", TINY, tmp_path)
    assert said == "cancelled, then same true, other true, took true"


def test_waveform_lines(parts: Parts) -> None:
    """Each column spans its samples; the edges are kept to; nothing gives nothing."""
    assert parts("lines", 2, 11, "0,1,-1,0") == "0.5, 0.0, 0.5, 5.0, 1.5, 5.0, 1.5, 10.0"
    assert parts("lines", 1, 11, "5,-5") == "0.5, 0.0, 0.5, 10.0"
    assert parts("lines", 4, 3, "0") == ", ".join(f"{x}.5, 1.0, {x}.5, 2.0" for x in range(4))
    assert parts("lines", 0, 11, "0,1") == ""
    assert parts("lines", 5, 11, "") == ""


def test_interleaving(parts: Parts) -> None:
    """Frame by frame of channel by channel."""
    assert parts("interleave", 2, "1,2,3,4,5,6") == "1.0, 4.0, 2.0, 5.0, 3.0, 6.0"
    assert parts("interleave", 1, "1,2") == "1.0, 2.0"


def test_file_names(parts: Parts) -> None:
    """Words of the prompt, whatever else is in it."""
    prompts = ["Rain on a tin roof!", "../../etc/passwd", "Füße — im Kies", "***", "word " * 40]
    assert parts("names", *prompts).splitlines() == [
        "rain-on-a-tin-roof-7",
        "etc-passwd-7",
        "füße-im-kies-7",
        "sound-7",
        "word-word-word-word-word-word-word-word-7",
    ]


def test_peak_memory(parts: Parts) -> None:
    """Read from what Linux says of a process; 0 where it says nothing."""
    assert parts("peak", "VmPeak:\t 9 kB", "VmHWM:\t    2048 kB", "VmRSS:\t 1 kB") == str(2048 * 1024)
    assert parts("peak", "Name: x") == "0"
    assert int(parts("own peak")) > 10 * 2**20
