"""The largest step in the mean spectrum of many sounds: a trace of how they were stored, not of what they are.

Spectra of single sounds are full of edges; those of different kinds of sound lie elsewhere and average out. What is
left at one frequency was put there by a coder with bands, by a filter, or by a model that learnt from either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.evaluate.spectral import FloatArray, magnitude_spectrogram
from edge_tta.evaluate.statistics import Estimate, mean_estimate

N_FFT, HOP = 2048, 1024
RANGE_HZ, NYQUIST_SHARE = 4000.0, 0.82
"""Steps are looked for from this frequency to this share of the Nyquist frequency (18.1 kHz at 44.1): below lie the
resonances of things, above the filters of converters."""
SIDE_HZ, CLEAR_HZ = 560.0, 60.0
"""A step is measured from bins within the one and beyond the other, on either side."""
DEPTH_DB = 90.0
"""Bins this far below a sound's loudest say nothing."""


@dataclass(frozen=True)
class SpectralStep:
    """Where the mean spectrum jumps most, and by how much once its slope is taken off."""

    hertz: float
    height_db: Estimate
    """Mean over sounds at that frequency; positive where it is louder above. ``n`` counts sounds."""


def long_term_spectrum(samples: npt.ArrayLike) -> FloatArray:
    """Mean power of a sound [frames] by frequency, dB of its loudest bin, not below -``DEPTH_DB``: [K]."""
    power = np.mean(np.square(magnitude_spectrogram(samples, N_FFT, HOP), dtype=np.float64), axis=0)
    loudest = max(float(power.max()), 1e-30)
    return np.asarray(10 * np.log10(np.maximum(power / loudest, 10 ** (-DEPTH_DB / 10))), dtype=np.float32)


def largest_step(
    spectra: Sequence[FloatArray], sample_rate: int, generator: np.random.Generator
) -> SpectralStep | None:
    """The step of largest mean height.

    Args:
        spectra: ``long_term_spectrum`` of every sound.
        sample_rate: Hz.
        generator: source of the bootstrap over sounds.

    Returns:
        None without two sounds, or where the sample rate leaves no range to look in.
    """
    bin_hz = sample_rate / N_FFT
    side, clear = int(SIDE_HZ / bin_hz), int(CLEAR_HZ / bin_hz)
    first, last = int(RANGE_HZ / bin_hz), int(NYQUIST_SHARE * sample_rate / 2 / bin_hz)
    if len(spectra) < 2 or last + side > N_FFT // 2 or first >= last:
        return None
    offset = np.arange(-side, side + 1)
    used = np.abs(offset) > clear
    terms = np.stack([np.ones(len(offset)), offset / side, 0.5 * np.sign(offset)], axis=1)
    weights = np.zeros(len(offset))
    weights[used] = np.linalg.pinv(terms[used])[2]
    heights = np.stack([np.correlate(spectrum, weights) for spectrum in spectra])[
        :, first - side : last - side
    ]
    place = int(np.abs(heights.mean(axis=0)).argmax())
    return SpectralStep((first + place) * bin_hz, mean_estimate(heights[:, place], generator))
