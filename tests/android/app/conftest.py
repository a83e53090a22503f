"""The app side of the Android demo, compiled once for all tests; they are skipped where a tool is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# What tests share lies beside them; none of these folders is a package.
sys.path[:0] = [str(HERE), str(HERE.parent)]

from app_builds import ToolMissing, build_app, build_chain  # noqa: E402
from kotlin_compiler import CompilationFailed, Kotlin, KotlinUnavailable, find_kotlin  # noqa: E402
from npm_packages import PackageUnavailable  # noqa: E402


@pytest.fixture(scope="session")
def kotlin() -> Kotlin:
    """Java and the Kotlin compiler."""
    try:
        return find_kotlin()
    except KotlinUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def chain(kotlin: Kotlin, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Command line that makes sounds with the app's engine and ONNX Runtime backend."""
    try:
        return build_chain(kotlin, tmp_path_factory.mktemp("chain"))
    except ToolMissing as error:
        pytest.skip(str(error))
    except CompilationFailed as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def app_classes(kotlin: Kotlin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the whole app's classes; the signatures it was compiled against are in "stubs" beside it."""
    try:
        return build_app(kotlin, tmp_path_factory.mktemp("app"))
    except PackageUnavailable as error:
        pytest.skip(str(error))
    except CompilationFailed as error:
        pytest.fail(str(error))
