"""The last step to a sound: exact length, no offset, within full scale, no clicks at the ends."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FADE_SECONDS = 0.005
"""Raised-cosine fade at both ends: a sound that is cut anywhere must not click."""
SILENCE_PEAK = 1e-4
"""A peak below this (-80 dBFS) is reported as silence."""
MAX_OFFSET = 1e-3
"""A mean further from zero than this is taken out."""
REPORTED_OFFSET = 0.05
"""Such a mean is no low rumble any more, it is a fault worth telling."""
REPORTED_PEAK = 10.0
"""A decoder makes phases anew, so many a sound peaks above full scale and is scaled; from here on it is a fault too."""


class Finished(NamedTuple):
    """A sound that is ready."""

    samples: Floats
    """float32 [channels, frames] in -1..1, a new array."""
    warnings: list[str]
    """What was wrong with the waveform."""
    gain: float
    """Linear factor that keeps the peak within full scale; 1 if it was there."""


def finish_waveform(waveform: Floats, frames: int, sample_rate: int) -> Finished:
    """Trim, centre, limit and fade a waveform.

    Args:
        waveform: float32 [channels, n], finite, n >= frames.
        frames: length of the result.
        sample_rate: Hz, for the length of the fades.
    """
    warnings = []
    samples = np.array(waveform[:, :frames], dtype=np.float32, order="C")
    offset = samples.mean(axis=1, keepdims=True, dtype=np.float64)
    largest = float(np.abs(offset).max())
    if largest > MAX_OFFSET:
        samples -= offset.astype(np.float32)
    if largest > REPORTED_OFFSET:
        warnings.append(f"the sound had a constant offset of {largest:.2g}, which was removed")
    peak = float(np.abs(samples).max())
    gain = 1.0
    if peak > 1.0:
        samples /= np.float32(peak)
        gain = 1.0 / peak
    if peak > REPORTED_PEAK:
        warnings.append(f"the sound peaked at {20 * math.log10(peak):+.1f} dBFS and was scaled down to fit")
    if peak < SILENCE_PEAK:
        warnings.append("the sound is silent")
    fade = min(round(FADE_SECONDS * sample_rate), frames // 2)
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / max(1, fade))).astype(np.float32)
    samples[:, :fade] *= ramp
    samples[:, frames - fade :] *= ramp[::-1]
    return Finished(samples, warnings, gain)
