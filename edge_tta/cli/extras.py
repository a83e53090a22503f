"""Which extra brings which package, so that a missing one is a clear line and not a traceback."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from edge_tta.errors import MissingExtraError

EXTRA_PACKAGES: dict[str, tuple[str, ...]] = {
    "train": ("torch", "safetensors", "tensorboard", "soxr", "scipy", "tokenizers", "PIL"),
    "export": ("torch", "onnx", "onnxscript", "safetensors", "soxr"),
    "eval": ("torch", "scipy", "soxr", "safetensors", "PIL", "pyloudnorm", "threadpoolctl"),
    "executorch": ("executorch", "torchao"),
    "coreml": ("coremltools",),
    "public": ("transformers", "optimum"),
}
"""Import names by extra, first the one whose absence is reported."""


def require(package: str, extra: str, purpose: str) -> None:
    """Refuse early when a package is absent.

    Raises:
        MissingExtraError: names purpose and extra.
    """
    if find_spec(package) is None:
        raise MissingExtraError(extra, purpose)


def extra_of(package: str) -> str | None:
    """Extra that brings an import name; None if none does."""
    return next((extra for extra, packages in EXTRA_PACKAGES.items() if package in packages), None)


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, "?" if it has none, None if the package cannot be imported."""
    if find_spec(package) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def own_version() -> str:
    """Version of this package; "0 (not installed)" when it runs from a bare checkout."""
    try:
        return version("edge-tta")
    except PackageNotFoundError:
        return "0 (not installed)"
