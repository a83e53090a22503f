"""Everything the comparison needs and this machine may lack: emulator, Arm system, Arm wheels, cross compiler."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import edge_tta
from benchmarks.arm.apt import (
    NEWER_SUITES,
    Apt,
    Source,
    configured_sources,
    debian_release,
    system_architecture,
    unpack,
)
from benchmarks.arm.errors import EmulationError
from benchmarks.arm.steps import Tell, call, once

OLDEST_EMULATOR = 10
"""QEMU 7.2 computes SME wrongly: ONNX Runtime's int8 came out at -1 dB there, and right in 10.0 and 11.1."""
ARCHITECTURE = "arm64"
TRIPLET = "aarch64-linux-gnu"
SYSTEM_PACKAGES = ("python3", "libstdc++6", "libgomp1")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
"""What the wheels may be built for: the C library of every Debian since 11 is newer than 2.28."""
CHECKOUT = Path(edge_tta.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Emulator:
    """QEMU's user mode for 64-bit Arm."""

    program: Path
    version: str


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler with what it must be called with."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def emulator_version(program: Path) -> str:
    """Version of a QEMU program ("11.1.3").

    Raises:
        EmulationError: it does not run, or is no QEMU.
    """
    said = call([program, "--version"], f"asking {program.name} for its version")
    found = re.search(r"version (\d+(?:\.\d+)*)", said)
    if found is None:
        raise EmulationError(f"{program} does not tell its version as QEMU does: {said[:80]!r}")
    return found[1]


def is_usable(version_text: str) -> bool:
    """Whether a QEMU of this version computes right."""
    return int(version_text.split(".")[0]) >= OLDEST_EMULATOR


def core_requirements() -> list[str]:
    """The core install's dependencies, each pinned to the version this Python has.

    Raises:
        EmulationError: one is not installed here.
    """
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=!~;\[ ]", text, maxsplit=1)[0] for text in project["dependencies"]]
    return [f"{name}=={installed(name)}" for name in names]


def installed(package: str) -> str:
    """Version of a package in this Python.

    Raises:
        EmulationError: it is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        raise EmulationError(
            f"{package} is not installed here, so there is nothing to compare with"
        ) from None


class Kit:
    """Makes each part when it is first asked for and keeps it in a folder.

    Args:
        folder: where everything is kept.
        tell: told what is being made.
        python: interpreter whose pip fetches wheels.
    """

    def __init__(self, folder: Path, tell: Tell, python: str) -> None:
        self.folder, self._tell, self._python = folder.absolute(), tell, python
        self._sources: list[Source] = []

    @cached_property
    def emulator(self) -> Emulator:
        """A QEMU that is new enough: the system's, or else one of a newer Debian suite.

        Raises:
            EmulationError: there is none.
        """
        for name in ("qemu-aarch64", "qemu-aarch64-static"):
            if found := shutil.which(name):
                if is_usable(known := emulator_version(Path(found))):
                    return Emulator(Path(found), known)
                self._tell(f"{found} is QEMU {known}, which computes SME wrongly; a newer one is fetched")
        folder = once(self.folder / "qemu", {"oldest": OLDEST_EMULATOR}, self._fetch_emulator)
        program = folder / "qemu-aarch64"
        return Emulator(program, emulator_version(program))

    def _fetch_emulator(self, folder: Path) -> None:
        self._tell("fetching QEMU")
        reasons = []
        for suite in reversed(NEWER_SUITES):
            source = Source(self._release_sources()[0].archive, suite)
            try:
                apt = Apt(self.folder / f"apt-{suite}", system_architecture(), [source], suite, False)
                unpacked = folder / "unpacked"
                unpack([apt.fetch_alone("qemu-user", suite, folder)], unpacked)
                shutil.move(unpacked / "usr" / "bin" / "qemu-aarch64", folder / "qemu-aarch64")
                found = emulator_version(folder / "qemu-aarch64")
            except (EmulationError, OSError) as error:
                reasons.append(f"{suite}: {error}")
                continue
            shutil.rmtree(unpacked)
            for package in folder.glob("*.deb"):
                package.unlink()
            if is_usable(found):
                return
            reasons.append(f"{suite} has {found}")
        raise EmulationError(
            f"QEMU {OLDEST_EMULATOR} or later is needed (older ones compute SME wrongly) and cannot be had: "
            + "; ".join(reasons)
        )

    def root(self) -> Path:
        """An Arm system: C library and Python of this machine's Debian release, unpacked.

        Raises:
            EmulationError: it cannot be fetched.
        """
        made_from = {"release": debian_release(), "packages": SYSTEM_PACKAGES}

        def fill(folder: Path) -> None:
            self._tell("fetching the Arm system")
            sources = self._release_sources()
            apt = Apt(self.folder / f"apt-{ARCHITECTURE}", ARCHITECTURE, sources, debian_release(), False)
            unpack(apt.fetch(SYSTEM_PACKAGES), folder)

        return once(self.folder / "root", made_from, fill)

    def python_of_root(self) -> Path:
        """The Arm interpreter."""
        return next((self.root() / "usr" / "bin").glob("python3.[0-9]*[0-9]"))

    def packages(self) -> Path:
        """The core install's dependencies as Arm wheels, in the versions this Python has.

        Raises:
            EmulationError: a wheel cannot be fetched.
        """
        return self._wheels("packages", core_requirements(), dependencies=True)

    def executorch(self) -> Path:
        """ExecuTorch's headers and Arm libraries, in the version this Python has; its Python part is not used.

        Raises:
            EmulationError: the wheel cannot be fetched.
        """
        folder = self._wheels("executorch", [f"executorch=={installed('executorch')}"], dependencies=False)
        return folder / "executorch"

    def _wheels(self, name: str, requirements: list[str], dependencies: bool) -> Path:
        python = self.python_of_root().name.removeprefix("python")

        def fill(folder: Path) -> None:
            self._tell(f"fetching Arm wheels: {', '.join(requirements)}")
            platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
            command = [self._python, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile"]
            command += ["--disable-pip-version-check", "--target", str(folder), "--only-binary=:all:"]
            command += ["--implementation", "cp", "--python-version", python, *platforms]
            command += [] if dependencies else ["--no-deps"]
            call([*command, *requirements], "pip install for Arm")

        return once(self.folder / name, {"python": python, "requirements": requirements}, fill)

    def cross_compiler(self) -> Compiler:
        """A C++ compiler for Arm: the system's, or else what installing it would add, unpacked.

        Raises:
            EmulationError: it cannot be fetched.
        """
        name = f"{TRIPLET}-g++"
        if found := shutil.which(name):
            return Compiler((found,))

        def fill(folder: Path) -> None:
            self._tell("fetching the cross compiler")
            sources, host = self._release_sources(), system_architecture()
            apt = Apt(self.folder / f"apt-{host}", host, sources, debian_release(), True)
            unpack(apt.fetch([f"g++-{TRIPLET}"]), folder)

        folder = once(self.folder / "compiler", {"release": debian_release()}, fill)
        libraries = ":".join(str(path) for path in sorted((folder / "usr" / "lib").glob("*-linux-gnu")))
        command = str(folder / "usr" / "bin" / name), f"--sysroot={folder}"
        return Compiler(command, {"LD_LIBRARY_PATH": libraries})

    def _release_sources(self) -> list[Source]:
        if not self._sources:
            self._sources = configured_sources(debian_release())
        return self._sources
