"""A bundle checks itself: each stage runs on the golden inputs and is compared with the float model's outputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.errors import BundleError
from edge_tta.runtime.backend import load_variant

MAX_DEMANDED_DB = 60.0
"""Float results differ between CPUs by rounding; closer than this is not asked for."""
ALLOWED_LOSS_DB = 3.0
"""How far a stage may stay below the figure that was measured at export."""
ALLOWED_DEVICE_LOSS_DB = 10.0
"""The same for Core ML, which is exported where it does not run: the order of sums and what runs where are unknown."""
MAX_DB = 200.0


@dataclass(frozen=True)
class StageParity:
    """One stage of one variant against the golden output."""

    variant: str
    stage: str
    snr_db: float
    """Energy of the golden output over energy of the difference, dB, at most 200."""
    max_abs_error: float
    required_db: float
    """Lowest acceptable ``snr_db``: 3 dB below what the manifest states (Core ML: 10 dB), at most 60."""

    @property
    def passed(self) -> bool:
        """Whether the stage is close enough."""
        return self.snr_db >= self.required_db


def check_golden(
    bundle: Bundle, threads: int = 1, variants: Collection[str] | None = None
) -> list[StageParity]:
    """Run every stage of every variant on the golden inputs of the bundle.

    Each stage gets the float model's own input, so that errors do not add up.

    Args:
        bundle: opened bundle.
        threads: threads a stage may use.
        variants: names of the variants to run; None for all.

    Raises:
        BundleError: golden vectors are missing or malformed.
        BackendError: a variant is unknown or cannot be opened.
    """
    golden = bundle.golden()
    names = (
        "ids",
        "noise",
        "time",
        "duration",
        "seconds",
        "guidance",
        "tokens",
        "pooled",
        "velocity",
        "latent",
    )
    missing = [name for name in (*names, "waveform") if name not in golden]
    if missing:
        raise BundleError(f"{bundle.manifest.golden.file}: no array {', '.join(missing)}")
    found = []
    for name in sorted(bundle.variants if variants is None else set(variants)):
        backend = load_variant(bundle, name, threads).backend
        variant = bundle.variants[name]
        try:
            outputs = _run_stages(backend, golden)
        finally:
            backend.close()
        on_device = "coreml" in (variant.backend, variant.delegate)
        loss = ALLOWED_DEVICE_LOSS_DB if on_device else ALLOWED_LOSS_DB
        for stage, (expected, actual) in outputs.items():
            stated = variant.parity_snr_db.get(stage, MAX_DEMANDED_DB + loss)  # type: ignore[call-overload]
            required = min(MAX_DEMANDED_DB, stated - loss)
            if expected.shape != actual.shape:
                raise BundleError(
                    f"{name}: {stage} made {actual.shape}, the golden output is {expected.shape}"
                )
            error = float(np.abs(expected - actual).max())
            found.append(StageParity(name, stage, signal_to_noise_db(expected, actual), error, required))
    return found


def _run_stages(
    backend: Any, golden: dict[str, NDArray[Any]]
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    scalars = {name: float(golden[name].item()) for name in ("time", "duration", "seconds", "guidance")}
    text = golden["tokens"], golden["pooled"]
    velocity = backend.generator(
        golden["noise"], scalars["time"], scalars["duration"], text, scalars["seconds"], scalars["guidance"]
    )
    return {
        "text_encoder": (golden["tokens"], backend.text_encoder(golden["ids"])[0]),
        "generator": (golden["velocity"], velocity),
        "decoder": (golden["waveform"], backend.decoder(golden["latent"])),
    }


def signal_to_noise_db(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Energy of the reference over energy of the difference, dB, at most 200; NaN counts as no signal at all."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - other).sum())
    if not np.isfinite(noise):
        return -MAX_DB
    return float(min(MAX_DB, 10 * np.log10((signal + 1e-30) / (noise + 1e-30))))
