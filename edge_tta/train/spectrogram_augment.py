"""Augmentation of cached log-mel spectrograms, so that the tagger learns sounds and not recordings.

All functions work in dB, where a gain or an equaliser is an addition. Silence is ``FLOOR_DB``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.evaluate.spectral import FLOOR_DB, FloatArray
from edge_tta.ranges import COUNT, SHARE, require_ranges, require_rising


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of the augmentation; probabilities are per clip."""

    shortest_frames: int = 80
    """Shortest crop of a batch, frames."""
    longest_frames: int = 176
    """Longest crop of a batch, frames."""
    speed_probability: float = 0.5
    """Chance to stretch a clip in time by 0.85 to 1.18."""
    transpose_probability: float = 0.4
    """Chance to shift a clip by up to two mel bands."""
    mix_probability: float = 0.6
    """Chance to mix with another clip of the batch, labels in proportion."""
    noise_probability: float = 0.5
    """Chance of coloured background noise 15 to 65 dB below the loudest cell."""
    equalise_probability: float = 0.7
    """Chance of a smooth random equaliser of 4 dB deviation."""
    low_pass_probability: float = 0.25
    """Chance to lose the highest bands, as old or compressed recordings do."""
    high_pass_probability: float = 0.15
    """Chance to lose the lowest bands."""
    mask_probability: float = 0.6
    """Chance of each of two frequency and two time masks (SpecAugment, Park et al. 2019)."""

    def __post_init__(self) -> None:
        require_ranges(self, shortest_frames=COUNT, longest_frames=COUNT)
        require_rising(self, "shortest_frames", "longest_frames", strictly=True)
        kinds = ("speed", "transpose", "mix", "noise", "equalise", "low_pass", "high_pass", "mask")
        require_ranges(self, **{f"{kind}_probability": SHARE for kind in kinds})


def _stretch(decibels: FloatArray, factor: float) -> FloatArray:
    count = max(2, int(len(decibels) / factor))
    position = np.linspace(0, len(decibels) - 1, count)
    lower = position.astype(np.int64)
    upper = np.minimum(lower + 1, len(decibels) - 1)
    weight = (position - lower)[:, None].astype(np.float32)
    return np.asarray(decibels[lower] * (1 - weight) + decibels[upper] * weight, dtype=np.float32)


def _transpose(decibels: FloatArray, bands: int) -> FloatArray:
    shifted = np.full_like(decibels, FLOOR_DB)
    if bands > 0:
        shifted[:, bands:] = decibels[:, :-bands]
    elif bands < 0:
        shifted[:, :bands] = decibels[:, -bands:]
    else:
        return decibels
    return shifted


def _silence(frames: int, bands: int) -> FloatArray:
    return np.full((frames, bands), FLOOR_DB, dtype=np.float32)


def crop(
    decibels: FloatArray, frames: int, config: AugmentConfig, generator: np.random.Generator
) -> FloatArray:
    """A window [frames, bands] of a clip: cut if long, repeated with gaps or placed in silence if short."""
    bands = decibels.shape[1]
    if generator.random() < config.speed_probability:
        decibels = _stretch(decibels, float(generator.uniform(0.85, 1.18)))
    if generator.random() < config.transpose_probability:
        decibels = _transpose(decibels, int(generator.integers(-2, 3)))
    if len(decibels) < frames and generator.random() < 0.5:
        parts, total = [_silence(int(generator.integers(0, 20)), bands)], 0
        while total < frames:
            gap = int(generator.integers(0, 30))
            parts += [decibels, _silence(gap, bands)]
            total += len(decibels) + gap
        decibels = np.concatenate(parts)
    spare = len(decibels) - frames
    if spare < 0:
        window = _silence(frames, bands)
        start = int(generator.integers(0, -spare + 1))
        window[start : start + len(decibels)] = decibels
        return window
    start = int(generator.integers(0, spare + 1))
    if decibels[start : start + frames].max() < decibels.max() - 35.0:
        # A crop of near silence would teach the label to silence: take one around the loudest frame.
        loudest = int(decibels.max(axis=1).argmax())
        start = int(np.clip(loudest - generator.integers(0, frames), 0, spare))
    return decibels[start : start + frames]


def _mask(window: FloatArray, config: AugmentConfig, generator: np.random.Generator) -> None:
    frames, bands = window.shape
    filling = window.max() - 80.0
    for _ in range(2):
        if generator.random() < config.mask_probability:
            width = int(generator.integers(1, max(2, bands // 7)))
            start = int(generator.integers(0, bands - width))
            window[:, start : start + width] = filling
        if generator.random() < config.mask_probability:
            width = int(generator.integers(1, max(2, frames // 7)))
            start = int(generator.integers(0, frames - width))
            window[start : start + width] = filling


def augment_batch(
    windows: FloatArray, targets: FloatArray, config: AugmentConfig, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Mix, add noise, equalise, band-limit and mask a batch.

    Args:
        windows: dB [batch, frames, bands].
        targets: label shares [batch, labels], each row summing to 1.
        config: strengths.
        generator: source of every choice.

    Returns:
        New windows and targets of the same shapes.
    """
    batch, _, bands = windows.shape
    relative = windows - windows.max(axis=(1, 2), keepdims=True)
    drawn = np.asarray(generator.uniform(0.1, 0.9, batch))
    is_mixed = generator.random(batch) < config.mix_probability
    share = np.where(is_mixed, np.maximum(drawn, 1 - drawn), 1.0).astype(np.float32)
    other = generator.permutation(batch)
    quieter = ((1 - share) / share) ** 2
    power = 10.0 ** (relative / 10.0)
    power = power + power[other] * quieter[:, None, None]
    mixed = targets * share[:, None] + targets[other] * (1 - share)[:, None]

    noisy = np.flatnonzero(generator.random(batch) < config.noise_probability)
    tilt = generator.uniform(-0.4, 0.4, (len(noisy), 1, 1)) * (np.arange(bands) - bands / 2)
    noise = 10.0 ** ((generator.uniform(-65, -15, (len(noisy), 1, 1)) + tilt) / 10.0)
    shape = (len(noisy), *power.shape[1:])
    power[noisy] += noise.astype(np.float32) * generator.standard_exponential(shape, dtype=np.float32)
    result = 10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0)), dtype=np.float32)

    knots = np.linspace(0, bands - 1, 6)
    for row in range(batch):
        if generator.random() < config.equalise_probability:
            result[row] += np.interp(np.arange(bands), knots, generator.normal(0, 4, 6)).astype(np.float32)
        if generator.random() < config.low_pass_probability:
            first = int(generator.integers(bands // 3, bands - 2))
            loss = np.linspace(10, 60, bands - first) if generator.random() < 0.5 else 100.0
            result[row, :, first:] -= np.float32(loss)
        if generator.random() < config.high_pass_probability:
            result[row, :, : int(generator.integers(1, max(2, bands // 6)))] -= 30.0
        _mask(result[row], config, generator)
    return result, np.asarray(mixed, dtype=np.float32)


def label_weights(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Chance of each clip so that a label is drawn in proportion to the square root of its size; sums to 1."""
    weights = 1.0 / np.sqrt(np.bincount(indices)[indices])
    return np.asarray(weights / weights.sum())
