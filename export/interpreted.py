"""Core ML variants where Core ML is absent: an interpreter runs their saved programs, to be judged, not timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_tta.bundle import Bundle
from edge_tta.runtime.backend import LoadedModel, load_variant, model_of
from edge_tta.runtime.coreml_backend import CoreMLBackend, Predict
from export.mil_interpreter import MilInterpreter


class InterpretedCoreML(CoreMLBackend):
    """One Core ML variant of a bundle, every result rounded to the type its program declares; see ``MilInterpreter``.

    Args:
        bundle: opened bundle.
        variant: name of one of its Core ML variants.

    Raises:
        MissingExtraError: coremltools is not installed.
        BackendError: the package is malformed or has an operation that the interpreter does not know.
        BundleError: a file is damaged, or a package holds what the manifest does not name.
    """

    name = "coreml-interpreted"

    def _require(self) -> None:
        """It runs anywhere."""

    def _compile(self, package: Path, units: str) -> Callable[[str], Predict]:
        interpreter = MilInterpreter(package, "declared")
        return lambda function: partial(interpreter.run, function)


def load_interpreted(bundle: Bundle, variant: str, threads: int) -> LoadedModel:
    """As ``edge_tta.runtime.backend.load_variant``, with Core ML variants in the interpreter."""
    entry = bundle.variants.get(variant)
    if entry is None or entry.backend != "coreml":
        return load_variant(bundle, variant, threads)
    return model_of(bundle)(InterpretedCoreML(bundle, variant))
