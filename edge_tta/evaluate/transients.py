"""What a codec does to claps, knocks and clicks: noise before the onset, and how sharply it rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.statistics import Estimate, bootstrap, mean_estimate, share_estimate

SLICE_SECONDS = 0.001
"""Resolution of levels."""
GAP_SLICES, QUIET_SLICES, RISE_SLICES = 2, 18, 6
"""Before an onset: what belongs to its rise, and what is looked at for pre-echo. After it: where its peak must be."""
JUMP_DB, LOUD_DB = 30.0, 12.0
"""An onset rises this far above what is before it, and comes this near to the loudest slice of the clip."""
AUDIBLE_DB = -40.0
"""Level below the peak that counts as pre-echo: what lies in the 20 ms before a loud onset is largely masked by it
(backward masking: Zwicker and Fastl, "Psychoacoustics", 1999, section 4.4), 40 dB below it surely."""
FLOOR_DB = -100.0


@dataclass(frozen=True)
class TransientFigures:
    """Onsets of real clips before and after the codec; levels in dB below the onset's loudest millisecond."""

    original_before: Estimate
    """Median level of the 18 ms before onsets of originals."""
    reconstructed_before: Estimate
    """The same of reconstructions."""
    echoes: Estimate
    """Share of onsets before which the reconstruction, and not the original, is above ``AUDIBLE_DB``."""
    original_rise: Estimate
    """Mean time from a tenth to nine tenths of the peak's envelope, ms."""
    reconstructed_rise: Estimate


@dataclass(frozen=True, eq=False)
class Onset:
    """One onset in a clip."""

    label: str
    sample: int
    """Where it begins."""
    original: FloatArray
    """The clip, [frames]."""
    reconstruction: FloatArray
    """What became of it, [frames]."""
    before: tuple[float, float]
    """Level before the onset in dB relative to its peak: original, reconstruction."""
    rise: tuple[float, float]
    """Rise time in ms: original, reconstruction."""


def slices(samples: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float64]:
    """Mean power of every millisecond, [milliseconds]."""
    length = round(SLICE_SECONDS * sample_rate)
    signal = np.asarray(samples, dtype=np.float64)
    whole = signal[: len(signal) // length * length].reshape(-1, length)
    return np.asarray(np.square(whole).mean(axis=1))


def find_onset(samples: FloatArray, sample_rate: int) -> int | None:
    """First sample of the clearest onset of a clip: the largest rise out of near silence.

    Args:
        samples: one channel, [frames].
        sample_rate: Hz.

    Returns:
        None where nothing rises by ``JUMP_DB`` to about the clip's own peak.
    """
    power = slices(samples, sample_rate)
    lead = GAP_SLICES + QUIET_SLICES
    if len(power) < lead + RISE_SLICES or power.max() <= 0.0:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(power, lead + RISE_SLICES)
    quiet = windows[:, :QUIET_SLICES].mean(axis=1)
    peak = windows[:, lead:].max(axis=1)
    jump = _decibels(peak) - np.maximum(_decibels(quiet), FLOOR_DB)
    jump[_decibels(peak) < _decibels(power.max()) - LOUD_DB] = -np.inf
    best = int(np.argmax(jump))
    if jump[best] < JUMP_DB:
        return None
    # To the sample: the first that stands out of what was before.
    length = round(SLICE_SECONDS * sample_rate)
    start = (best + QUIET_SLICES) * length
    stretch = np.abs(samples[start : (best + lead + RISE_SLICES) * length])
    return start + int(np.argmax(stretch > 0.1 * stretch.max()))


def measure_onset(
    label: str, original: FloatArray, reconstruction: FloatArray, sample_rate: int
) -> Onset | None:
    """The clearest onset of a clip in original and reconstruction, or None where there is none.

    Args:
        label: of the clip.
        original: [frames].
        reconstruction: [frames], aligned.
        sample_rate: Hz.
    """
    onset = find_onset(original, sample_rate)
    if onset is None:
        return None
    length = round(SLICE_SECONDS * sample_rate)
    start = onset - (GAP_SLICES + QUIET_SLICES) * length
    if start < 0:
        return None
    levels, rises = [], []
    for signal in (original, reconstruction):
        power = slices(signal[start : onset + RISE_SLICES * length], sample_rate)
        peak = float(_decibels(power[QUIET_SLICES:].max()))
        levels.append(max(FLOOR_DB, float(_decibels(power[:QUIET_SLICES].mean())) - peak))
        rises.append(
            _rise(np.abs(signal[onset - GAP_SLICES * length : onset + RISE_SLICES * length]), sample_rate)
        )
    return Onset(label, onset, original, reconstruction, (levels[0], levels[1]), (rises[0], rises[1]))


def transient_figures(onsets: Sequence[Onset], generator: np.random.Generator) -> TransientFigures | None:
    """Figures over onsets, with intervals over labels; None without two of them."""
    if len(onsets) < 2:
        return None
    groups = [onset.label for onset in onsets]
    before, rise = np.array([onset.before for onset in onsets]), np.array([onset.rise for onset in onsets])

    def median(values: npt.NDArray[np.float64]) -> Estimate:
        return bootstrap(len(values), lambda rows: float(np.median(values[rows])), generator, groups=groups)

    echoed = (before[:, 1] > AUDIBLE_DB) & (before[:, 0] <= AUDIBLE_DB)
    return TransientFigures(
        median(before[:, 0]),
        median(before[:, 1]),
        share_estimate(echoed, groups=groups),
        mean_estimate(rise[:, 0], generator, groups=groups),
        mean_estimate(rise[:, 1], generator, groups=groups),
    )


def _rise(magnitude: FloatArray, sample_rate: int) -> float:
    """Milliseconds in which the running maximum goes from a tenth to nine tenths of the peak."""
    reached = np.maximum.accumulate(magnitude)
    low, high = (int(np.argmax(reached >= share * reached[-1])) for share in (0.1, 0.9))
    return 1000.0 * (high - low) / sample_rate


def _decibels(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(10.0 * np.log10(np.maximum(np.asarray(power, dtype=np.float64), 1e-12)))
