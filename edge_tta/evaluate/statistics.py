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
_UPPER = 0.5 + CONFIDENCE / 2.0


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
        inverse = _group_numbers(groups, count)
        members = [np.flatnonzero(inverse == g).astype(np.int64) for g in range(int(inverse.max()) + 1)]
    replicates = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(members), size=len(members))
        replicates.append(statistic(np.concatenate([members[d] for d in drawn])))
    shift = value - float(np.mean(replicates)) if centred else 0.0
    low, high = percentile_interval(np.asarray(replicates) + shift)
    return Estimate(value, low, high, count)


def _group_numbers(groups: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Groups as 0, 1, ..., one of each observation."""
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    if inverse.shape != (count,):
        raise DataError(f"groups need one entry per observation: {inverse.shape[0]} for {count}")
    return np.asarray(inverse, dtype=np.int64)


def mean_estimate(
    values: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """Mean with its bootstrap interval; shares have one of their own, see :func:`share_estimate`.

    Args:
        values: [n].
        generator: source of the resampling.
        groups: label per observation; groups are drawn whole.
        weights: what every observation counts for; None for all alike.
    """
    array = np.asarray(values, dtype=np.float64)
    if weights is None:
        return bootstrap(len(array), lambda index: float(array[index].mean()), generator, groups=groups)
    counts = np.asarray(weights, dtype=np.float64)
    return bootstrap(
        len(array),
        lambda index: float(np.average(array[index], weights=counts[index])),
        generator,
        groups=groups,
    )


def spread(
    values: npt.ArrayLike, generator: np.random.Generator, *, groups: npt.ArrayLike | None = None
) -> Spread:
    """Mean of observations with its bootstrap interval, their median and their extremes."""
    array = np.asarray(values, dtype=np.float64)
    mean = mean_estimate(array, generator, groups=groups)
    middle = float(np.median(array))
    return Spread(mean.value, mean.low, mean.high, mean.n, middle, float(array.min()), float(array.max()))


def share_estimate(
    hits: npt.ArrayLike, *, groups: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
) -> Estimate:
    """Share of hits with an interval of 95 % that keeps a width where none or all hit.

    A bootstrap repeats what was seen: of labels that all failed it makes 0 to 0, and it covers too seldom near there.
    This is the interval of Clopper and Pearson (1934) at the number of independent observations that would vary as
    much as groups do: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data" (Survey Methodology 24, 1998, pages 193 to 201), with their correction for few
    groups. That number is estimated with two groups more, one that hits and one that does not, as Agresti and Coull
    ("Approximate is better than exact", 1998) add observations: few hits tell little of how groups vary, and one hit
    more never narrows the interval to a part of what it was. Where none or all hit it is about the number of groups.
    Without groups and weights it is :func:`binomial_interval`.

    Args:
        hits: true or false, [n].
        groups: label per observation; groups succeed or fail together. None where each is by itself.
        weights: what every observation counts for; None for all alike.

    Raises:
        DataError: no observation, or groups that do not fit.
        MissingExtraError: scipy is not installed.
    """
    found = np.asarray(hits, dtype=np.float64)
    count = len(found)
    if count < 1:
        raise DataError("a figure needs at least one observation")
    if groups is None and weights is None:
        return binomial_interval(int(found.sum()), count)
    stats = _distributions()
    group = _group_numbers(np.arange(count) if groups is None else groups, count)
    number = int(group.max()) + 1
    counts = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = counts / counts.sum()
    share, added = float(np.average(found, weights=counts)), 1.0 / number
    # Of linearised totals, each group's weight times how far it lies off; the two groups more weigh an average one.
    middle = (share + added) / (1.0 + 2.0 * added)
    off = [*np.bincount(group, counts * (found - middle)), added * (1.0 - middle), -added * middle]
    variance = (number + 2) / (number + 1) * np.square(off).sum() / (1.0 + 2.0 * added) ** 2
    few = stats.t.ppf(_UPPER, max(count - 1, 1)) / stats.t.ppf(_UPPER, max(number - 1, 1))
    size = min(float(count), middle * (1.0 - middle) / variance * few**2)
    hit, missed = share * size, (1.0 - share) * size
    low = float(stats.beta.ppf(1.0 - _UPPER, hit, missed + 1.0)) if found.any() else 0.0
    high = float(stats.beta.ppf(_UPPER, hit + 1.0, missed)) if not found.all() else 1.0
    return Estimate(share, low, high, count)


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
    return _distributions().binomtest(successes, count)


def _distributions() -> Any:
    """``scipy.stats``."""
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("eval", "an exact interval of a share") from error
    return stats
