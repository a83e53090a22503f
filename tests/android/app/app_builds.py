"""Compiles the Android demo on this machine: the shim of ONNX Runtime, the chain that is run, and the whole app."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from kotlin_compiler import Kotlin
from npm_packages import EXECUTORCH_CLASSES
from resource_ids import r_class, resource_names

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEMO = ROOT / "android_demo"
SHIM = HERE.parent / "ort_shim"
ENGINE = DEMO / "engine" / "src" / "main" / "kotlin"
BACKENDS = DEMO / "backends" / "src" / "main" / "kotlin" / "org" / "edgetta" / "backends"
APP = DEMO / "app" / "src" / "main"
PACKAGE = "org.edgetta.demo"


class ToolMissing(Exception):
    """A tool or library is not on this machine; the message is what a skipped test says."""


def java_classes(kotlin: Kotlin, sources: Sequence[Path], output: Path) -> Path:
    """Compile Java sources to a folder of classes."""
    command = [kotlin.javac, "-nowarn", "-d", str(output), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def shim_library(kotlin: Kotlin, output: Path) -> Path:
    """The shim's native side.

    Raises:
        ToolMissing: there is no C compiler, or Java came without the headers for it.
    """
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ToolMissing("no C compiler is installed")
    include = Path(kotlin.javac).resolve().parents[1] / "include"
    if not (include / "jni.h").is_file():
        raise ToolMissing(f"no jni.h in {include}")
    places = [f"-I{include}", *(f"-I{folder}" for folder in include.iterdir() if folder.is_dir())]
    source = str(SHIM / "native" / "shim.c")
    command = [
        compiler,
        "-O2",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        *places,
        source,
        "-o",
        str(output),
        "-ldl",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def onnxruntime_library() -> Path:
    """The library in Python's package.

    Raises:
        ToolMissing: this build of the package keeps it elsewhere.
    """
    folder = Path(sysconfig.get_paths()["platlib"]) / "onnxruntime" / "capi"
    found = sorted(folder.glob("libonnxruntime.so.*"))
    if not found:
        raise ToolMissing(f"no libonnxruntime.so in {folder}")
    return found[0]


def build_chain(kotlin: Kotlin, folder: Path) -> list[str]:
    """Command line of the driver: the engine and the unchanged OrtBackend.kt, over the shim.

    Raises:
        ToolMissing: see ``shim_library`` and ``onnxruntime_library``.
    """
    library = onnxruntime_library()
    native = shim_library(kotlin, folder / "libshim.so")
    shim = java_classes(kotlin, sorted((SHIM / "java").rglob("*.java")), folder / "shim")
    backend = [BACKENDS / "OrtBackend.kt", BACKENDS / "Failures.kt"]
    classes = folder / "chain"
    kotlin.compile_kotlin([ENGINE, *backend, HERE / "driver"], [shim], classes, ["-Werror"])
    options = [f"-Dedgetta.shim={native}", f"-Dedgetta.onnxruntime={library}", "-Xmx512m"]
    return kotlin.command("ChainKt", [classes, shim], options)


def build_app(kotlin: Kotlin, folder: Path) -> Path:
    """Classes of the whole app, both backends among them, compiled against signatures of Android.

    Raises:
        PackageUnavailable: the classes of ExecuTorch are not here.
    """
    executorch = EXECUTORCH_CLASSES.file()
    stubs = java_classes(kotlin, sorted((HERE / "stubs").rglob("*.java")), folder / "stubs")
    shim = java_classes(kotlin, sorted((SHIM / "java").rglob("*.java")), folder / "shim")
    source = folder / "R.java"
    source.write_text(r_class(PACKAGE, resource_names(APP / "res")), encoding="utf-8")
    resources = java_classes(kotlin, [source], folder / "resources")
    classes = folder / "app"
    sources = [ENGINE, BACKENDS, APP / "kotlin"]
    kotlin.compile_kotlin(sources, [stubs, shim, resources, executorch], classes, ["-Werror"])
    return classes


def parts_command(kotlin: Kotlin, app: Path, chain: Sequence[str], folder: Path) -> list[str]:
    """Command line of the driver that runs single parts of the compiled app."""
    return _driver(kotlin, app, chain, folder, "Parts")


def screen_command(kotlin: Kotlin, app: Path, chain: Sequence[str], folder: Path) -> list[str]:
    """Command line of the driver that uses the whole compiled app."""
    return _driver(kotlin, app, chain, folder, "Screen")


def _driver(kotlin: Kotlin, app: Path, chain: Sequence[str], folder: Path, name: str) -> list[str]:
    beside = [app.parent / other for other in ("stubs", "shim", "resources")] + [EXECUTORCH_CLASSES.file()]
    # What the app keeps to itself is open to its friends.
    friends = [f"-Xfriend-paths={app}", "-Werror"]
    kotlin.compile_kotlin([HERE / name.lower()], [app, *beside], folder, friends)
    # What Java prints has the encoding of the locale.
    options = [option for option in chain if option.startswith("-D")] + ["-Dstdout.encoding=UTF-8"]
    return kotlin.command(
        f"{PACKAGE}.{name}Kt", [folder, app, *beside], [*options, "-Dsun.stdout.encoding=UTF-8"]
    )
