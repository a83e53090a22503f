"""A backend's package that is absent, broken or interrupted while it is imported: three different things."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_tta.cli.main import app
from edge_tta.cli.start import Terminated
from edge_tta.errors import BackendError, MissingExtraError, interrupt_behind
from edge_tta.runtime import TextToAudio
from edge_tta.runtime.coreml_backend import _import_coremltools
from edge_tta.runtime.et_program import import_runtime
from edge_tta.runtime.imports import import_failures

BROKEN = 'raise ImportError("DLL load failed while importing the extension\\nand more")'
INTERRUPTED = """
try:
    raise KeyboardInterrupt
except KeyboardInterrupt as error:
    raise ImportError("the extension failed to import") from error
"""
INTERRUPTED_UNSAID = INTERRUPTED.replace(" from error", "")


class _Without:
    """A finder that does not find one package."""

    def __init__(self, finder: Any, package: str) -> None:
        self.finder, self.package = finder, package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name == self.package else self.finder.find_spec(name, path, target)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Put a package of this source in the place of the installed one; None for none at all."""

    def put(name: str, source: str | None) -> None:
        for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        if source is None:
            monkeypatch.setattr(sys, "meta_path", [_Without(finder, name) for finder in sys.meta_path])
            return
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    return put


def open_ort(bundle: Path) -> None:
    TextToAudio.open(bundle, backend="ort", threads=1).close()


def test_absent_packages_are_said_to_be_absent(
    package: Callable[[str, str | None], None], toy_bundle: Path
) -> None:
    package("onnxruntime", None)
    with pytest.raises(BackendError, match=r"^onnxruntime is not installed: pip install onnxruntime$"):
        open_ort(toy_bundle)
    package("coremltools", None)
    with pytest.raises(MissingExtraError, match="the 'coreml' extra"):
        _import_coremltools()
    package("executorch", None)
    with pytest.raises(MissingExtraError, match="the 'executorch' extra"):
        import_runtime()


def test_broken_packages_are_not_said_to_be_absent(
    package: Callable[[str, str | None], None], toy_bundle: Path
) -> None:
    for name in ("onnxruntime", "coremltools", "executorch"):
        package(name, BROKEN)
    cause = "cannot be imported: DLL load failed while importing the extension$"
    with pytest.raises(BackendError, match=f"^ort: onnxruntime {cause}"):
        open_ort(toy_bundle)
    with pytest.raises(BackendError, match=f"^coreml: coremltools {cause}"):
        _import_coremltools()
    with pytest.raises(BackendError, match=f"^executorch: executorch {cause}"):
        import_runtime()


def test_what_a_package_lacks_is_not_the_package(
    package: Callable[[str, str | None], None], toy_bundle: Path
) -> None:
    package("onnxruntime", "import onnxruntime_needs_this")
    with pytest.raises(
        BackendError, match="onnxruntime cannot be imported: No module named 'onnxruntime_needs"
    ):
        open_ort(toy_bundle)


@pytest.mark.parametrize("source", [INTERRUPTED, INTERRUPTED_UNSAID])
def test_an_interrupt_inside_the_import_is_an_interrupt(
    source: str, package: Callable[[str, str | None], None], toy_bundle: Path
) -> None:
    package("onnxruntime", source)
    with pytest.raises(KeyboardInterrupt):
        open_ort(toy_bundle)
    result = CliRunner().invoke(app, ["generate", "wind", "--bundle", str(toy_bundle)])
    assert (result.exit_code, result.stderr) == (130, "edge-tta: cancelled\n")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_an_interrupt_may_be_two_errors_deep(kind: type[BaseException]) -> None:
    with pytest.raises(kind), import_failures("ort", ("onnxruntime",), BackendError("absent")):
        try:
            try:
                raise kind
            except kind as error:
                raise SystemError("the initialisation raised") from error
        except SystemError as error:
            raise ImportError("failed") from error


def test_an_interrupt_that_was_dealt_with_before_is_not_raised_again() -> None:
    with pytest.raises(BackendError, match="cannot be imported"):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            with import_failures("ort", ("onnxruntime",), BackendError("absent")):
                raise ImportError("broken") from None
    with pytest.raises(BackendError, match="cannot be imported"):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            with import_failures("ort", ("onnxruntime",), BackendError("absent")):
                __import__("json").loads("{")


def test_errors_of_every_kind_have_no_interrupt_behind_them() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert interrupt_behind(first) is None and interrupt_behind(None) is None


def test_doctor_opens_a_graph(
    package: Callable[[str, str | None], None], toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_tta.bundle.shipped.ASSETS", toy_bundle.parent)
    assert "runtime: onnxruntime opens a graph\n" in CliRunner().invoke(app, ["doctor"]).stdout

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("no kernel for this processor")

    with monkeypatch.context() as patched:
        patched.setattr("onnxruntime.InferenceSession", refuse)
        result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 4
    assert result.stderr == (
        "edge-tta: ort: generator (onnx/generator.onnx) was refused: no kernel for this processor\n"
    )
    package("onnxruntime", BROKEN)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 4 and "runtime: ort: onnxruntime cannot be imported: DLL load" in result.stdout
    assert "installed" not in result.stderr
