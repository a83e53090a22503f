"""A figure with the number it rests on and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError, MissingExtraError

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


@dataclass(frozen=True)
class Spread(Estimate):
    """A mean with its interval, and how the observations are spread; None where a figure has no observations."""

    median: float | None = None
    lowest: float | None = None
    highest: float | None = None


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


def spread(
    values: npt.ArrayLike, generator: np.random.Generator, *, groups: npt.ArrayLike | None = None
) -> Spread:
    """Mean of observations with its bootstrap interval, their median and their extremes."""
    array = np.asarray(values, dtype=np.float64)
    mean = mean_estimate(array, generator, groups=groups)
    middle = float(np.median(array))
    return Spread(mean.value, mean.low, mean.high, mean.n, middle, float(array.min()), float(array.max()))


def binomial_interval(successes: int, count: int, confidence: float = CONFIDENCE) -> Estimate:
    """Share of successes with its exact interval (Clopper and Pearson 1934): never covers less than it says.

    Raises:
        DataError: no trial, or more successes than trials.
        MissingExtraError: scipy is not installed.
    """
    found = _binomial_test(successes, count).proportion_ci(confidence, method="exact")
    return Estimate(successes / count, float(found.low), float(found.high), count)


def sign_test(successes: int, count: int) -> float:
    """Two-sided probability of a count as far from half of the trials as this one, if both outcomes are as likely.

    Raises:
        DataError: no trial, or more successes than trials.
        MissingExtraError: scipy is not installed.
    """
    return float(_binomial_test(successes, count).pvalue)


def _binomial_test(successes: int, count: int) -> Any:
    if not 0 <= successes <= count or count < 1:
        raise DataError(f"{successes} successes of {count} trials have no share")
    try:
        from scipy.stats import binomtest
    except ImportError as error:
        raise MissingExtraError("eval", "an exact interval of a share") from error
    return binomtest(successes, count)
