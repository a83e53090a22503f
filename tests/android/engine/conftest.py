"""The engine of the Android demo, compiled once and run on this machine's Java beside the Python package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# What tests share lies beside them; none of these folders is a package.
sys.path[:0] = [str(HERE), str(HERE.parent)]

from engine_process import Engine  # noqa: E402
from kotlin_compiler import CompilationFailed, KotlinUnavailable, find_kotlin  # noqa: E402

SOURCES = HERE.parents[2] / "android_demo" / "engine" / "src"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The compiled engine; tests that need it are skipped where there is no compiler."""
    try:
        kotlin = find_kotlin()
    except KotlinUnavailable as error:
        pytest.skip(str(error))
    classes = tmp_path_factory.mktemp("engine")
    try:
        kotlin.compile_kotlin([SOURCES], [], classes, ["-Werror", "-Xjdk-release=1.8"])
    except CompilationFailed as error:
        pytest.fail(str(error))
    running = Engine(kotlin.command("org.edgetta.engine.HarnessKt", [classes], ["-Xmx512m"]))
    yield running
    running.close()
