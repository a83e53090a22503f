"""A figure with the number it rests on and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """One reported figure."""

    value: float
    """The figure itself, on all observations."""
    low: float
    """Lower end of the bootstrap interval."""
    high: float
    """Upper end of the bootstrap interval."""
    n: int
    """Observations the figure rests on."""


def percentile_interval(replicates: npt.ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of resampled figures."""
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.asarray(replicates, dtype=np.float64), [tail, 100.0 - tail])
    return float(low), float(high)


def bootstrap(
    count: int,
    statistic: Callable[[npt.NDArray[np.int64]], float],
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    centred: bool = False,
) -> Estimate:
    """Figure with interval by resampling observations, or whole groups of them.

    Args:
        count: observations.
        statistic: figure from an int64 array of observation indices.
        generator: source of the resampling.
        groups: label per observation; groups are drawn whole, because clips of one prompt are alike.
        resamples: bootstrap replicates.
        centred: shift the replicates to centre on the figure, for figures that repeated observations bias.

    Raises:
        DataError: there is nothing to resample.
    """
    if count < 1:
        raise DataError("a figure needs at least one observation")
    value = statistic(np.arange(count, dtype=np.int64))
    if groups is None:
        members = [np.array([i], dtype=np.int64) for i in range(count)]
    else:
        _, inverse = np.unique(np.asarray(groups), return_inverse=True)
        if inverse.shape != (count,):
            raise DataError(f"groups need one entry per observation: {inverse.shape[0]} for {count}")
        members = [np.flatnonzero(inverse == g).astype(np.int64) for g in range(int(inverse.max()) + 1)]
    replicates = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(members), size=len(members))
        replicates.append(statistic(np.concatenate([members[d] for d in drawn])))
    shift = value - float(np.mean(replicates)) if centred else 0.0
    low, high = percentile_interval(np.asarray(replicates) + shift)
    return Estimate(value, low, high, count)


def mean_estimate(
    values: npt.ArrayLike, generator: np.random.Generator, *, groups: npt.ArrayLike | None = None
) -> Estimate:
    """Mean with its bootstrap interval; shares are means of 0 and 1."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(len(array), lambda index: float(array[index].mean()), generator, groups=groups)
