"""What every backend offers: the three networks of a model as functions on float32 arrays, batch 1."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tta import __version__
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import Generation, Variant
from edge_tta.config import AudioSpec
from edge_tta.errors import BackendError, BundleError
from edge_tta.runtime.apple import require_macos
from edge_tta.text import Tokenizer

Floats = NDArray[np.float32]
BUNDLE_BACKENDS = ("ort", "executorch", "coreml")
"""Backends that run a bundle's variants, best first: the order in which "auto" looks."""
PACKAGES = {"ort": "onnxruntime", "coreml": "coremltools", "executorch": "executorch"}
"""What a backend is a part of."""
COMPUTE_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+neural-engine": "CPU_AND_NE"}
"""What Core ML may run on, and how coremltools calls it."""


class Backend(Protocol):
    """Three stages of one model. Calls may come from any thread, one at a time."""

    name: str
    """Name by which the backend is asked for."""
    precision: str
    """Precision of the variant: "fp32", "fp16", "int8" or "int4"."""
    threads: int
    """Threads a stage may use; 0 where the system decides."""

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Token features [1, T, D] and sentence vector [1, D] of ids int64 [1, T]."""
        ...

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        """Average velocity [1, L, C] of a latent [1, L, C] over the interval [time - duration, time]."""
        ...

    def decoder(self, latent: Floats) -> Floats:
        """Waveform [1, channels, L * hop] of a standardised latent [1, L, C]."""
        ...

    def close(self) -> None:
        """Release sessions and memory; calling it twice is fine."""
        ...


def generator_inputs(
    latent: Floats,
    time: float,
    duration: float,
    text: tuple[Floats, Floats],
    seconds: float,
    guidance: float,
) -> dict[str, Floats]:
    """The generator's arguments by the names bundles have for them, as C-contiguous float32: native runtimes read
    other layouts silently wrong."""
    arrays = {"latent": latent, "tokens": text[0], "pooled": text[1]}
    scalars = {"time": time, "duration": duration, "seconds": seconds, "guidance": guidance}
    named = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    return named | {name: np.array([value], dtype=np.float32) for name, value in scalars.items()}


@dataclass(frozen=True)
class LoadedModel:
    """A model on a backend, with what a pipeline must know of it."""

    name: str
    """Name and beginning of the digest."""
    audio: AudioSpec
    tokenizer: Tokenizer
    generation: Generation
    """Defaults and limits of requests."""
    backend: Backend


def choose_variant(bundle: Bundle, backend: str, precision: str) -> str:
    """Name of the bundle's variant for a backend and precision. An explicit backend never falls back to another.

    Raises:
        BackendError: unknown backend, or the bundle has no such variant; the message lists what there is.
    """
    known = ("auto", *BUNDLE_BACKENDS, "eager")
    if backend not in known:
        raise BackendError(f"unknown backend '{backend}'; this version has {', '.join(known)}")
    for wanted in BUNDLE_BACKENDS if backend == "auto" else (backend,):
        names = [
            name
            for name, variant in sorted(bundle.variants.items())
            if variant.backend == wanted and variant.precision == precision
        ]
        if names:
            # Of several the first that can run here, such as XNNPACK's beside Core ML's.
            return next((name for name in names if unavailable(bundle.variants[name]) is None), names[0])
    asked = precision if backend == "auto" else f"{backend}-{precision}"
    raise BackendError(
        f"bundle {bundle.name} has no {asked} variant; it has {', '.join(sorted(bundle.variants))}"
    )


def unavailable(variant: Variant) -> str | None:
    """Why a variant cannot run on this machine, whatever its files hold; None if nothing speaks against it."""
    if variant.backend not in BUNDLE_BACKENDS:
        return f"this version runs {', '.join(BUNDLE_BACKENDS)}, not {variant.backend}"
    if variant.backend == "coreml" or variant.delegate == "coreml":
        try:
            require_macos()
        except BackendError as error:
            return str(error)
    package = PACKAGES[variant.backend]
    return None if find_spec(package) is not None else f"the package {package} is not installed"


def package_versions(backend: str) -> dict[str, str]:
    """Versions of this package and of the one that a loaded backend is a part of, as far as it tells."""
    package = {**PACKAGES, "eager": "torch"}.get(backend, "")
    found = getattr(sys.modules.get(package), "__version__", None)
    if found is None:
        with contextlib.suppress(PackageNotFoundError, ValueError):
            found = version(package)
    return {"edge_tta": __version__} | ({package: str(found)} if found is not None else {})


def check_compute_units(compute_units: str) -> None:
    """Refuse unknown compute units, also where another backend runs that has no such choice.

    Raises:
        BackendError: lists those there are.
    """
    if not isinstance(compute_units, str) or compute_units not in COMPUTE_UNITS:
        raise BackendError(f"unknown compute units '{compute_units}'; there are {', '.join(COMPUTE_UNITS)}")


def load_bundle(
    bundle: Bundle, backend: str, precision: str, threads: int, compute_units: str = "all"
) -> LoadedModel:
    """Open the variant of a bundle for a backend and precision.

    Args:
        bundle: opened bundle.
        backend: one of ``BUNDLE_BACKENDS``, or "auto".
        precision: one that the bundle has a variant in.
        threads: threads a stage may use.
        compute_units: what Core ML may run on, one of ``COMPUTE_UNITS``.

    Raises:
        BackendError: no such variant, or the backend refuses it.
        BundleError: a file of the variant is damaged.
    """
    return load_variant(bundle, choose_variant(bundle, backend, precision), threads, compute_units)


def load_variant(bundle: Bundle, variant: str, threads: int, compute_units: str = "all") -> LoadedModel:
    """Open a variant of a bundle by its name.

    Raises:
        MissingExtraError: the backend's package is not installed.
        BackendError: no such variant, no backend here that runs it, or the backend refuses it.
        BundleError: a file of the variant is damaged.
    """
    if variant not in bundle.variants:
        raise BackendError(
            f"bundle {bundle.name} has no variant '{variant[:80]}'; it has {', '.join(sorted(bundle.variants))}"
        )
    wanted = bundle.variants[variant]
    if wanted.backend not in BUNDLE_BACKENDS:
        raise BackendError(f"{variant}: this version runs {', '.join(BUNDLE_BACKENDS)}, not {wanted.backend}")
    if wanted.delegate == "coreml":
        require_macos()
    model = model_of(bundle)
    return model(_open_engine(bundle, variant, threads, compute_units))


def model_of(bundle: Bundle) -> Callable[[Backend], LoadedModel]:
    """What a bundle's variants have in common, read before one of them is opened: a model but for its backend.

    Raises:
        BundleError: the tokenizer is damaged, or has pieces that the text encoder does not know.
    """
    tokenizer = Tokenizer.from_bytes(bundle.tokenizer_bytes(), bundle.manifest.tokenizer.max_tokens)
    rows = bundle.config.text_encoder.vocab_size
    if tokenizer.vocab_size > rows:
        raise BundleError(
            f"{bundle.manifest.tokenizer.file}: {tokenizer.vocab_size} pieces, the text encoder knows {rows}"
        )
    return partial(LoadedModel, bundle.name, bundle.config.audio, tokenizer, bundle.manifest.generation)


def _open_engine(bundle: Bundle, variant: str, threads: int, compute_units: str) -> Backend:
    """The backend of a variant; its package is imported only now."""
    if bundle.variants[variant].backend == "coreml":
        from edge_tta.runtime.coreml_backend import CoreMLBackend

        return CoreMLBackend(bundle, variant, compute_units)
    if bundle.variants[variant].backend == "executorch":
        from edge_tta.runtime.et_backend import ExecutorchBackend

        return ExecutorchBackend(bundle, variant, threads)
    from edge_tta.runtime.ort_backend import OrtBackend

    return OrtBackend(bundle, variant, threads)
