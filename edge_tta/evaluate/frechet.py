"""Fréchet distance between two sets of embeddings."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate, bootstrap

Moments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def moments(embeddings: npt.ArrayLike, weights: npt.NDArray[np.float64] | None = None) -> Moments:
    """Mean [D] and covariance [D, D] of embeddings [n, D].

    Args:
        embeddings: [n, D].
        weights: what every clip counts for, [n], above 0; None for all alike. The covariance is free of bias where
            clips are drawn independently: weights w that sum to 1 divide it by 1 - sum of w^2, equal ones by 1 - 1/n.

    Raises:
        DataError: fewer than two embeddings, or a non-finite value.
    """
    array = np.asarray(embeddings, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise DataError(f"a Fréchet distance needs at least two embeddings [n, D], got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("embeddings hold a non-finite value")
    mean = array.mean(axis=0) if weights is None else np.average(array, axis=0, weights=weights)
    return mean, np.cov(array, rowvar=False, aweights=weights).reshape(array.shape[1], array.shape[1])


def _square_root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def distance_of_moments(first: Moments, second: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians (Dowson and Landau 1982, equation 4).

    The trace of the root of S1 S2 is taken from the symmetric S1^(1/2) S2 S1^(1/2), which has the same eigenvalues:
    real also when a covariance is singular, as it is with fewer clips than dimensions.
    """
    return _distance(first, _square_root(first[1]), second)


def _distance(first: Moments, root: npt.NDArray[np.float64], second: Moments) -> float:
    """The distance with the root of the first covariance at hand, which many distances share."""
    (mean_a, covariance_a), (mean_b, covariance_b) = first, second
    cross = root @ covariance_b @ root
    eigenvalues = np.linalg.eigvalsh(0.5 * (cross + cross.T))
    trace = float(
        np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    )
    return max(0.0, float(np.sum((mean_a - mean_b) ** 2)) + trace)


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Squared Fréchet distance between embeddings [n, D] and [m, D]; it falls with n, compare at equal n only."""
    return distance_of_moments(moments(first), moments(second))


def _few_distance(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None = None,
) -> float:
    """The same distance where dimensions outnumber clips, without a [D, D] matrix; weights are the second set's.

    With centred rows A = X / sqrt(n - 1), the trace of (S1 S2)^(1/2) is the sum of the singular values of A1 A2^T.
    """
    (mean_a, centred_a), (mean_b, centred_b) = _centred(first, None), _centred(second, weights)
    cross = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    trace = float(np.square(centred_a).sum() + np.square(centred_b).sum() - 2.0 * cross)
    return max(0.0, float(np.sum((mean_a - mean_b) ** 2)) + trace)


def _few_to(
    first: Moments, rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None = None
) -> float:
    """The same distance of few clips to the moments of many: S1 S2 has the eigenvalues of A2 S1 A2^T, [n, n]."""
    (mean_a, covariance_a), (mean_b, centred) = first, _centred(rows, weights)
    eigenvalues = np.linalg.eigvalsh(centred @ covariance_a @ centred.T)
    cross = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    trace = float(np.trace(covariance_a) + np.square(centred).sum() - 2.0 * cross)
    return max(0.0, float(np.sum((mean_a - mean_b) ** 2)) + trace)


def _centred(
    rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean [D] of embeddings [n, D], and A [n, D] with A^T A for their covariance."""
    shares = np.full(len(rows), 1.0 / len(rows)) if weights is None else weights / weights.sum()
    mean = shares @ rows
    return mean, np.sqrt(shares / (1.0 - np.square(shares).sum()))[:, None] * (rows - mean)


class Distance(Protocol):
    """The Fréchet distance to a reference."""

    def __call__(
        self, rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None = None, /
    ) -> float:
        """Of a set [n, D]; ``weights`` as of :func:`moments`."""


def distance_to(reference: npt.ArrayLike, most: int) -> Distance:
    """The Fréchet distance of sets [n, D] to one reference [m, D], by the cheapest of three ways.

    Args:
        reference: held fixed.
        most: largest n that will be asked for.
    """
    other = np.asarray(reference, dtype=np.float64)
    if other.shape[1] > max(most, len(other)):
        return lambda rows, weights=None: _few_distance(other, rows, weights)
    fixed = moments(other)
    root = _square_root(fixed[1])

    def to_fixed(rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None = None) -> float:
        if len(rows) < other.shape[1]:
            return _few_to(fixed, rows, weights)
        return _distance(fixed, root, moments(rows, weights))

    return to_fixed


def frechet_estimate(
    judged: npt.ArrayLike,
    reference: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    resamples: int = 100,
) -> Estimate:
    """Fréchet distance with an interval from resampling the judged set (the reference is held fixed).

    Resampling repeats clips and so inflates the distance; the replicates are shifted to centre on the figure.

    Args:
        judged: embeddings [n, D].
        reference: embeddings [m, D].
        generator: source of the resampling.
        groups: label per clip; groups are drawn whole. None where every clip is drawn by itself.
        resamples: bootstrap replicates.

    Raises:
        DataError: fewer than two embeddings, a non-finite value, or groups that do not fit.
    """
    array = np.asarray(judged, dtype=np.float64)
    value = frechet_distance(reference, array)
    distance = distance_to(reference, len(array))
    found = bootstrap(
        len(array),
        lambda rows: distance(array[rows]),
        generator,
        groups=groups,
        resamples=resamples,
        centred=True,
    )
    return Estimate(value, max(0.0, found.low), found.high, found.n)


def frechet_in_sets(
    judged: npt.ArrayLike, reference: npt.ArrayLike, size: int, generator: np.random.Generator
) -> Estimate:
    """Mean Fréchet distance of disjoint sets of equal size: to be held against one set of that size.

    A distance falls with the number of clips, so more clips are not one larger set but more sets, and their mean is
    known the better: half-widths of independent intervals add up in squares.

    Args:
        judged: embeddings [n, D] in random order; what is left over is not used.
        reference: embeddings [m, D], held fixed.
        size: clips of a set, at most n.
        generator: source of the bootstrap.

    Raises:
        DataError: fewer than two embeddings, or a non-finite value.
    """
    array = np.asarray(judged, dtype=np.float64)
    count = len(array) // size
    sets = [
        frechet_estimate(array[place * size : (place + 1) * size], reference, generator)
        for place in range(count)
    ]
    value = float(np.mean([found.value for found in sets]))
    down, up = (
        float(np.linalg.norm([getattr(found, end) - found.value for found in sets])) / count
        for end in ("low", "high")
    )
    return Estimate(value, max(0.0, value - down), value + up, count * size)


def frechet_change(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    reference: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    resamples: int = 200,
) -> Estimate:
    """By how many percent the Fréchet distance to a reference changes, with a paired bootstrap interval.

    Both sets are resampled alike, so that what they share cancels; the replicates are shifted to centre on the figure.

    Args:
        before: embeddings [n, D].
        after: embeddings [n, D] of the same clips in the same order, made otherwise.
        reference: embeddings [m, D], held fixed.
        generator: source of the resampling.
        groups: label per clip; groups are drawn whole.
        resamples: bootstrap replicates.

    Raises:
        DataError: the two sets differ in shape, or ``before`` is the reference itself.
    """
    pair = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if pair[0].shape != pair[1].shape:
        raise DataError(f"pairs of embeddings are compared, got {pair[0].shape} and {pair[1].shape}")
    fixed = moments(reference)
    root = _square_root(fixed[1])
    if _distance(fixed, root, moments(pair[0])) <= 1e-9:
        raise DataError("a Fréchet distance of zero has no relative change")

    def change(rows: npt.NDArray[np.int64]) -> float:
        was, now = (_distance(fixed, root, moments(embeddings[rows])) for embeddings in pair)
        return 100.0 * (now - was) / was

    return bootstrap(len(pair[0]), change, generator, groups=groups, resamples=resamples, centred=True)
