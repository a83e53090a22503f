"""The Fréchet distance that unlimited clips would have, from those that are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.frechet import Distance, distance_to
from edge_tta.evaluate.statistics import Estimate

MIN_CLIPS = 40
"""Fewer say nothing of how a distance falls with their number."""
SIZES, SMALLEST_SHARE, DRAWS = 6, 0.5, 6
"""Sizes of subsets, from all clips down to this share of them, and subsets of each size."""
BLOCKS = 20
"""Parts that are left out in turn for the interval."""
_NORMAL_95 = 1.96

Floats = npt.NDArray[np.float64]


def frechet_limit(
    judged: npt.ArrayLike,
    reference: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Estimate | None:
    """Fréchet distance without the bias of few clips (FD infinity).

    A set of N clips is further from a reference than what it was drawn from, by a term in 1/N. So distances of random
    subsets are a line over 1/N, and its end at 0 is the figure: Chong and Forsyth, "Effectively Unbiased FID and
    Inception Score and Where to Find Them" (2020, https://arxiv.org/abs/1911.07023, section 3); for audio Gui et al.,
    "Adapting Fréchet Audio Distance for Generative Music Evaluation" (2024, https://arxiv.org/abs/2311.01616).

    Subsets are stratified, as sets of prompts are: every subset has the labels in the shares of all clips. A subset
    drawn without regard to labels also varies in what it shows, which the whole set does not; the line was too steep
    for that, and its end 1 to 3 too low for four clips of each of fifty labels. The figure is that of unlimited clips
    of these labels. Two clips a label still end low, one each cannot be stratified at all.

    The line is straight where most of the variance lies in fewer dimensions than there are clips, as in our tagger's
    embeddings: 200 clips of a Gaussian with their moments are off by 0.1 on average. It is not for 256 dimensions of
    equal variance. What is below 0 counts as 0.

    The interval is a block jackknife's: a twentieth of the labels is left out in turn. It is wider than what other
    clips of the same labels would show, since it allows for other labels too.

    Args:
        judged: embeddings [n, D].
        reference: embeddings [m, D], held fixed.
        generator: source of the subsets.
        groups: label per clip; subsets keep their shares, the interval leaves them out whole. None where every clip
            is drawn by itself.
        weights: what every clip counts for, above 0; None for all alike. The figure is that of labels in these shares.

    Returns:
        The figure, or None for fewer than ``MIN_CLIPS`` clips or two groups.

    Raises:
        DataError: a value that is not finite.
    """
    array = np.asarray(judged, dtype=np.float64)
    names = np.arange(len(array)) if groups is None else np.asarray(groups)
    known, labels = np.unique(names, return_inverse=True)
    if len(array) < MIN_CLIPS or len(known) < 2:
        return None
    if not np.isfinite(array).all():
        raise DataError("embeddings hold a non-finite value")
    counts = None if weights is None else np.asarray(weights, dtype=np.float64)
    distance = distance_to(reference, len(array))
    # The same orders throughout: leaving out a block changes subsets as little as can be.
    orders = np.stack([_stratified_order(labels, generator) for _ in range(DRAWS)])
    value = _extrapolate(array, counts, orders, distance)
    blocks = np.array_split(generator.permutation(known), min(BLOCKS, len(known)))
    replicates = []
    for block in blocks:
        kept = ~np.isin(names, block)
        left = np.stack([order[kept[order]] for order in orders])
        replicates.append(_extrapolate(array, counts, left, distance))
    deviation = np.sqrt((len(blocks) - 1) * np.var(replicates))
    low, high = value - _NORMAL_95 * deviation, value + _NORMAL_95 * deviation
    return Estimate(max(0.0, value), max(0.0, float(low)), max(0.0, float(high)), len(array))


def _stratified_order(labels: npt.NDArray[np.int64], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """A random order [n] of clips with labels 0, 1, ...: every beginning of it has each label in its share.

    Clip number i of the k that a label has lies at a random place of the i-th of k equal parts of the order.
    """
    shuffled = generator.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    within = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (within + generator.random(len(labels))) / np.repeat(counts, counts)
    return by_label[np.argsort(place)]


def _extrapolate(
    array: Floats, weights: Floats | None, orders: npt.NDArray[np.int64], distance: Distance
) -> float:
    """Distance at 1/N = 0 of the line through the distances of subsets: the first N of every order."""

    def of(rows: npt.NDArray[np.int64]) -> float:
        return distance(array[rows], None if weights is None else weights[rows])

    count = orders.shape[1]
    inverse = np.linspace(1.0 / count, 1.0 / (SMALLEST_SHARE * count), SIZES)
    sizes = np.unique(np.round(1.0 / inverse).astype(int))
    means = [
        of(orders[0]) if size == count else float(np.mean([of(order[:size]) for order in orders]))
        for size in sizes
    ]
    _, end = np.polyfit(1.0 / sizes, means, 1)
    return float(end)
