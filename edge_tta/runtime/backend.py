"""What every backend offers: the three networks of a model as functions on float32 arrays, batch 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import Generation
from edge_tta.config import AudioSpec
from edge_tta.errors import BackendError, BundleError
from edge_tta.text import Tokenizer

Floats = NDArray[np.float32]
BUNDLE_BACKENDS = ("ort",)
"""Backends that run a bundle's variants, best first: the order in which "auto" looks."""


class Backend(Protocol):
    """Three stages of one model. Calls may come from any thread, one at a time."""

    name: str
    """Name by which the backend is asked for."""
    precision: str
    """"fp32" or "int8"."""
    threads: int
    """Threads a stage may use."""

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
        for name, variant in sorted(bundle.variants.items()):
            if variant.backend == wanted and variant.precision == precision:
                return name
    asked = precision if backend == "auto" else f"{backend}-{precision}"
    raise BackendError(
        f"bundle {bundle.name} has no {asked} variant; it has {', '.join(sorted(bundle.variants))}"
    )


def load_bundle(bundle: Bundle, backend: str, precision: str, threads: int) -> LoadedModel:
    """Open a variant of a bundle.

    Args:
        bundle: opened bundle.
        backend: one of ``BUNDLE_BACKENDS``, or "auto".
        precision: "fp32" or "int8".
        threads: threads a stage may use.

    Raises:
        BackendError: no such variant, or the backend refuses it.
        BundleError: a file of the variant is damaged.
    """
    variant = choose_variant(bundle, backend, precision)
    tokenizer = Tokenizer.from_bytes(bundle.tokenizer_bytes(), bundle.manifest.tokenizer.max_tokens)
    rows = bundle.config.text_encoder.vocab_size
    if tokenizer.vocab_size > rows:
        raise BundleError(
            f"{bundle.manifest.tokenizer.file}: {tokenizer.vocab_size} pieces, the text encoder knows {rows}"
        )
    from edge_tta.runtime.ort_backend import OrtBackend

    engine = OrtBackend(bundle, variant, threads)
    return LoadedModel(bundle.name, bundle.config.audio, tokenizer, bundle.manifest.generation, engine)
