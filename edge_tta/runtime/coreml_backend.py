"""Core ML on macOS: verified copies of the packages are compiled once, and every stage is a function of them."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.coreml_package import package_of
from edge_tta.bundle.manifest import STAGES, StageFile, Variant
from edge_tta.errors import BackendError, MissingExtraError
from edge_tta.runtime.apple import require_macos
from edge_tta.runtime.backend import COMPUTE_UNITS, Floats, check_compute_units, generator_inputs
from edge_tta.runtime.failures import first_line
from edge_tta.runtime.imports import import_failures

Predict = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""A function of a package: outputs by name of inputs by name."""
# Compiling writes to places that all instances share.
_CREATION = threading.Lock()


class CoreMLBackend:
    """One variant of a bundle in Core ML.

    Core ML opens directories, not bytes. So the files of a package are read and verified, written to a private
    temporary directory, and compiled from there; what lies beside them in the bundle is refused and never copied.

    Args:
        bundle: opened bundle.
        variant: name of one of its variants.
        compute_units: what Core ML may run on, one of ``COMPUTE_UNITS``; the system decides what it uses of that.

    Raises:
        MissingExtraError: coremltools is not installed.
        BackendError: not macOS or too old, coremltools cannot be imported, Core ML refuses a package, or a function has
            other inputs or outputs than the manifest says.
        BundleError: a file is damaged, or a package holds what the manifest does not name.
    """

    name = "coreml"
    threads = 0
    """Core ML has no setting for threads."""

    def __init__(self, bundle: Bundle, variant: str, compute_units: str = "all") -> None:
        check_compute_units(compute_units)
        self._require()
        coremltools = _import_coremltools()
        described = bundle.variants[variant]
        self.precision: str = described.precision
        self._models: dict[str, Predict] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        # A graph folded for one step asks for less.
        self._wanted = [port.name for port in described.stages["generator"].inputs]
        bundle.check_packages(described)
        # Core ML maps the compiled weights into memory, so they stay until the backend is closed.
        self._directory = _temporary_directory()
        root = Path(self._directory.name)
        try:
            _copy(bundle, described, root)
            units = COMPUTE_UNITS[compute_units]
            for package in sorted({package_of(stage.file) for stage in described.stages.values()}):
                stages = {name: s for name, s in described.stages.items() if package_of(s.file) == package}
                self._load(coremltools, root / package, stages, units)
            assert set(self._models) == set(STAGES)
        except BaseException:
            self.close()
            raise

    def _require(self) -> None:
        """Raise BackendError where packages cannot be run at all."""
        require_macos()

    def _compile(self, package: Path, units: str) -> Callable[[str], Predict]:
        """Prepare a package; the result opens one of its functions by name. Called with ``_CREATION`` held."""
        coremltools = _import_coremltools()
        compiled = coremltools.utils.compile_model(str(package), str(package.with_suffix(".mlmodelc")))
        chosen = getattr(coremltools.ComputeUnit, units)

        def open_function(name: str) -> Predict:
            model = coremltools.models.CompiledMLModel(compiled, chosen, function_name=name)
            predict: Predict = model.predict
            return predict

        return open_function

    def _load(self, coremltools: Any, package: Path, stages: dict[Any, StageFile], units: str) -> None:
        """Compile a package and open the functions of these stages."""
        with _CREATION, _refusals(package.name):
            functions = {f.name: f for f in coremltools.utils.load_spec(str(package)).description.functions}
            open_function = self._compile(package, units)
        for stage, entry in stages.items():
            if stage not in functions:
                raise BackendError(
                    f"coreml: {package.name} has no function {stage}, only {', '.join(sorted(functions))}"
                )
            _check_interface(stage, functions[stage], entry)
            self._lengths[stage] = _enumerated_lengths(functions[stage])
            with _CREATION, _refusals(stage):
                self._models[stage] = open_function(stage)

    def _run(self, stage: str, inputs: dict[str, NDArray[Any]]) -> dict[str, Floats]:
        predict = self._models.get(stage)
        if predict is None:
            raise BackendError("coreml: the backend is closed")
        found = predict(inputs)
        return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in found.items()}

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See ``Backend``."""
        found = self._run("text_encoder", {"ids": np.ascontiguousarray(ids, dtype=np.int32)})
        return found["tokens"], found["pooled"]

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        """See ``Backend``."""
        lengthened = self._lengthened("generator", latent)
        inputs = generator_inputs(lengthened, time, duration, text, seconds, guidance)
        found = self._run("generator", {name: inputs[name] for name in self._wanted})
        return np.ascontiguousarray(found["velocity"][:, : latent.shape[1]])

    def decoder(self, latent: Floats) -> Floats:
        """See ``Backend``."""
        longer = self._lengthened("decoder", latent)
        waveform = self._run("decoder", {"latent": longer})["waveform"]
        kept = waveform.shape[2] // longer.shape[1] * latent.shape[1]
        return np.ascontiguousarray(waveform[:, :, :kept])

    def _lengthened(self, stage: str, latent: Floats) -> Floats:
        """A latent of a length the package was made for: it goes on with its own beginning, so that what follows is
        noise as the rest is, and is cut off afterwards.

        Raises:
            BackendError: it is longer than the package allows.
        """
        length, allowed = latent.shape[1], self._lengths[stage]
        fitting = [size for size in allowed if size >= length]
        if allowed and not fitting:
            raise BackendError(
                f"coreml: this variant is made for at most {max(allowed)} latent frames, not {length}"
            )
        if allowed and min(fitting) > length:
            latent = np.take(latent, np.arange(min(fitting)) % length, axis=1)
        return np.ascontiguousarray(latent, dtype=np.float32)

    def close(self) -> None:
        """See ``Backend``."""
        self._models.clear()
        self._directory.cleanup()


def _import_coremltools() -> Any:
    # It warns of versions of other packages that matter for converting alone.
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    absent = MissingExtraError("coreml", "the coreml backend")
    try:
        with import_failures("coreml", ("coremltools",), absent):
            import coremltools
    finally:
        logger.setLevel(level)
    return coremltools


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="edge-tta-")
    except OSError as error:
        raise BackendError(f"coreml: there is no temporary directory: {error.strerror or error}") from error


def _copy(bundle: Bundle, variant: Variant, root: Path) -> None:
    """Write the verified files of a variant below a directory."""
    for entry in {entry.file: entry for entry in variant.files()}.values():
        data, path = bundle.read(entry), root / entry.file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise BackendError(
                f"coreml: {entry.file} cannot be copied to {root}: {error.strerror or error}"
            ) from error


def _check_interface(stage: str, function: Any, entry: StageFile) -> None:
    for kind, found, described in (
        ("inputs", function.input, entry.inputs),
        ("outputs", function.output, entry.outputs),
    ):
        actual, expected = {port.name for port in found}, {port.name for port in described}
        if actual != expected:
            raise BackendError(
                f"coreml: {stage} ({entry.file}) has the {kind} {', '.join(sorted(actual))}; "
                f"the manifest says {', '.join(sorted(expected))}"
            )


def _enumerated_lengths(function: Any) -> tuple[int, ...]:
    """Numbers of latent frames a function was made for; empty where it takes any."""
    shapes = [
        tuple(shape.shape)
        for port in function.input
        if port.name == "latent"
        for shape in port.type.multiArrayType.enumeratedShapes.shapes
    ]
    return tuple(sorted({shape[1] for shape in shapes}))


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Whatever Core ML raises becomes one line."""
    try:
        yield
    except Exception as error:
        raise BackendError(f"coreml: {what} was refused: {first_line(error)}") from error
