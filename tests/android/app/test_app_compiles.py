"""The whole app compiles, and uses of Java and Android only what the oldest supported system has."""

from __future__ import annotations

import re
import zipfile
from functools import cache
from pathlib import Path

import pytest
from app_builds import ROOT
from class_references import Reference, all_references, class_version, declarations
from kotlin_compiler import Kotlin
from npm_packages import ANDROID_TYPES, EXECUTORCH_CLASSES, PackageUnavailable
from platform_index import PlatformIndex

# The first test of a run waits for the compiler.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MIN_API = 26
PLATFORM = ("android.", "java.", "javax.", "org.json.")
SYSTEM_PARTS = (".Life", ".Sender", ".Filler")


@pytest.fixture(scope="session")
def platform() -> PlatformIndex:
    """Android's public interface."""
    return read_platform()


@cache
def read_platform() -> PlatformIndex:
    try:
        return PlatformIndex(ANDROID_TYPES.file().read_text(encoding="utf-8"))
    except PackageUnavailable as error:
        pytest.skip(str(error))


def test_index_knows_what_is_known(platform: PlatformIndex) -> None:
    """The oracle itself, on facts that are written in the platform's documentation."""
    assert len(platform.classes) > 5000
    assert platform.level("android.media.AudioTrack.Builder", "setBufferSizeInBytes", 1) == 23
    assert platform.level("android.widget.SeekBar", "setProgress", 1) == 21, "inherited"
    assert platform.level("android.os.Build", "SOC_MODEL", None) == 31
    assert platform.level("java.time.Instant", "now", 0) == 26
    assert platform.level("android.media.AudioTrack", "fly", 0) is None


def test_app_compiles(app_classes: Path) -> None:
    """Engine, both backends and the screen, without a warning."""
    names = {file.name for file in app_classes.rglob("*.class")}
    assert {"OrtBackend.class", "EtBackend.class", "MainActivity.class", "TextToAudio.class"} <= names
    assert {class_version(file.read_bytes()) for file in app_classes.rglob("*.class")} == {52}


def test_code_in_the_guide_compiles(app_classes: Path, kotlin: Kotlin, tmp_path: Path) -> None:
    """What readers copy into apps of their own."""
    guide = (ROOT / "docs" / "how-to" / "android.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```kotlin\n(.*?)```", guide, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        source = tmp_path / f"Guide{number}.kt"
        source.write_text(block, encoding="utf-8")
        kotlin.compile_kotlin([source], [app_classes], tmp_path / f"guide{number}", ["-Werror"])


def test_executorch_classes_are_those_expected() -> None:
    """The ExecuTorch backend is compiled against classes of Java 11, which the build's Java 17 reads."""
    try:
        file = EXECUTORCH_CLASSES.file()
    except PackageUnavailable as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(file) as archive:
        assert class_version(archive.read("org/pytorch/executorch/Module.class")) == 55


def test_app_uses_only_what_the_oldest_system_has(app_classes: Path, platform: PlatformIndex) -> None:
    """Every method and field of the platform exists, and came with API level 26 or before."""
    used = {found for found in all_references(app_classes) if found.owner.startswith(PLATFORM)}
    assert len(used) > 200
    assert sum(found.owner.startswith("android.") for found in used) > 80
    missing, newer = judge(used, platform)
    assert not missing
    assert not newer


def test_stand_ins_are_like_the_platform(app_classes: Path, platform: PlatformIndex) -> None:
    """The hand-written classes that the app is compiled against invent nothing: what they declare, the platform has."""
    files = sorted((app_classes.parent / "stubs").rglob("*.class"))
    declared = {found for file in files for found in declarations(file.read_bytes())}
    judged = {
        found
        for found in declared
        # A class that says nothing of constructors gets one from the compiler.
        if found.owner.startswith(PLATFORM) and (found.member, found.parameters) != ("<init>", 0)
        # Anonymous classes, and what does the part of the system.
        if not found.owner.split(".")[-1].isdigit() and not found.owner.endswith(SYSTEM_PARTS)
    }
    assert len({found.owner for found in judged}) > 40
    missing, _ = judge(judged, platform)
    assert not missing


def judge(
    used: set[Reference], platform: PlatformIndex
) -> tuple[list[Reference], list[tuple[Reference, int]]]:
    """References that do not exist, and those that are newer than the oldest supported system."""
    missing, newer = [], []
    for found in sorted(used, key=lambda reference: (reference.owner, reference.member)):
        level = platform.level(found.owner, found.member, found.parameters)
        if level is None:
            missing.append(found)
        elif level > MIN_API:
            newer.append((found, level))
    return missing, newer
