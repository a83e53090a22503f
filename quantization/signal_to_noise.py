"""Noise over signal of a stage's output, so that it can be averaged over inputs before it becomes decibels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_tta.evaluate.spectral import magnitude_spectrogram

MAX_SNR_DB = 200.0


def compared(stage: str, output: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the output of a stage is compared by: itself, but STFT magnitudes of a waveform [1, channels, samples].

    The decoder makes phases up by running sums, so the smallest rounding shifts a waveform and changes nothing heard.
    """
    if stage != "decoder":
        return output
    return np.stack([magnitude_spectrogram(channel, 1024, 256) for channel in output[0]])


def noise_share(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Energy of the difference over energy of what was expected."""
    expected = expected.astype(np.float64)
    return float(np.sum((found - expected) ** 2) / max(float(np.sum(expected**2)), 1e-30))


def decibels(share: float) -> float:
    """Signal over noise in dB, at most ``MAX_SNR_DB``, rounded to 0.01."""
    return round(min(MAX_SNR_DB, -10 * math.log10(max(share, 1e-30))), 2)
