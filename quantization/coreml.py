"""coremltools, imported once and quietly."""

from __future__ import annotations

from types import ModuleType

from edge_tta.errors import MissingExtraError
from quantization.silence import silenced

LOGGERS = ("coremltools", "torch.onnx", "torchao")


def import_coremltools() -> ModuleType:
    """The package; off a Mac it says at import that half of it is missing, which the toolchain does not need.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with silenced(*LOGGERS):
            import coremltools
            import coremltools.optimize.coreml
    except ImportError as error:
        raise MissingExtraError("coreml", "the Core ML target") from error
    module: ModuleType = coremltools
    return module
