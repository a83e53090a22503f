"""What is wrong with a sound whatever it is meant to be: silence, overload, flat tops, clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.audio import Audio
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.runtime.finish import SILENCE_PEAK

FLAT_LEVEL, FLAT_LENGTH, FLAT_TOLERANCE = 0.98, 3, 1e-6
"""A flat top is this many samples or more above this level that differ by no more than this. A 20 Hz sine at full
scale differs more from sample to sample, so bass is not taken for clipping."""
CLICK_RATIO = 25.0
"""A click's second difference is this many times the local median. White noise reaches about 8."""
CLICK_FLOOR = 1e-3
"""Second differences below this are no click, however quiet it is around them."""
CLICK_BLOCK_SECONDS, CLICK_APART_SECONDS = 0.01, 0.005


@dataclass(frozen=True)
class Defects:
    """Faults of one sound."""

    silent: bool
    """Peak below -80 dBFS."""
    overload_db: float
    """By how many dB the decoder's waveform exceeded full scale before it was scaled down; 0 for most sounds."""
    flat_tops: int
    """Places where the finished waveform stands still at its ceiling."""
    clicks: int
    """Isolated jumps. Sounds that click by nature have some too: what counts is the change."""


@dataclass(frozen=True)
class DefectCounts:
    """Faults of a set of sounds."""

    silent: int
    """Sounds that are silent."""
    overloaded: int
    """Sounds that were scaled down to fit into full scale."""
    flat_topped: int
    """Sounds with a flat top."""
    clicks: int
    """Clicks of all sounds together."""


def find_defects(waveform: FloatArray, audio: Audio) -> Defects:
    """Faults of a sound.

    Args:
        waveform: float32 [channels, frames] as the decoder made it.
        audio: the finished sound.
    """
    peak = float(np.abs(waveform).max())
    return Defects(
        silent=audio.peak < SILENCE_PEAK,
        overload_db=float(20 * np.log10(peak)) if peak > 1.0 else 0.0,
        flat_tops=sum(_flat_tops(channel) for channel in audio.samples),
        clicks=sum(count_clicks(channel, audio.sample_rate) for channel in audio.samples),
    )


def count_defects(found: Sequence[Defects]) -> DefectCounts:
    """Sum over sounds."""
    return DefectCounts(
        silent=sum(defects.silent for defects in found),
        overloaded=sum(defects.overload_db > 0 for defects in found),
        flat_topped=sum(defects.flat_tops > 0 for defects in found),
        clicks=sum(defects.clicks for defects in found),
    )


def _flat_tops(channel: FloatArray) -> int:
    """Runs of at least ``FLAT_LENGTH`` equal samples near full scale."""
    still = (np.abs(np.diff(channel)) <= FLAT_TOLERANCE) & (np.abs(channel[1:]) >= FLAT_LEVEL)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    # A run of n equal samples has n - 1 still steps.
    return int(np.sum(edges[1::2] - edges[::2] >= FLAT_LENGTH - 1))


def count_clicks(channel: FloatArray, sample_rate: int) -> int:
    """Jumps whose second difference stands out of its surroundings, at least 5 ms from one to the next.

    The surroundings are blocks of 10 ms with their neighbours; the largest of the three medians counts, so that the
    onset of a loud sound after silence is measured by that sound.
    """
    bend = np.abs(np.diff(channel.astype(np.float64), n=2))
    size = max(8, round(CLICK_BLOCK_SECONDS * sample_rate))
    count = len(bend) // size
    if count == 0:
        return 0
    blocks = bend[: count * size].reshape(count, size)
    medians = np.pad(np.median(blocks, axis=1), 1, mode="edge")
    around = np.maximum(np.maximum(medians[:-2], medians[1:-1]), medians[2:])
    limit = np.maximum(CLICK_RATIO * around, CLICK_FLOOR)
    places: npt.NDArray[np.int64] = np.flatnonzero((blocks > limit[:, None]).reshape(-1))
    apart = round(CLICK_APART_SECONDS * sample_rate)
    return int(len(places) > 0) + int(np.sum(np.diff(places) > apart))
