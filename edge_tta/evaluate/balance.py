"""Two sets of clips beside each other: a label counts for as much in one as in the other.

Prompt lists ask for every label equally often; folders of real clips have one of this and thirteen of that. A mean over
such clips is that of their commonest labels, and no ceiling for sounds of all labels alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError


def label_weights(labels: Sequence[Hashable], like: Sequence[Hashable]) -> npt.NDArray[np.float64]:
    """What every clip counts for, so that labels have the shares that they have in another set.

    This is direct standardisation: the label's share in the other set, divided among its clips here.

    Args:
        labels: of every clip, [n].
        like: labels of the other set's clips.

    Returns:
        Weights [n] with sum 1; 0 for labels that the other set does not have.

    Raises:
        DataError: the sets have no label in common.
    """
    wanted, here = Counter(like), Counter(labels)
    weights = np.array([wanted[label] / here[label] for label in labels], dtype=np.float64)
    if not weights.any():
        raise DataError("two sets of clips without a common label cannot be compared")
    return np.asarray(weights / weights.sum())


def matched_counts(first: Sequence[str], second: Sequence[str]) -> dict[str, int]:
    """How many clips of every label two sets can both give, none more than an equal share of them all, rounded up.

    Without that bound the labels of many clips would outweigh the others in both.

    Args:
        first: labels of one set's clips.
        second: labels of the other's.

    Returns:
        Number by label, in the order of their names; empty without a common label.
    """
    ours, theirs = Counter(first), Counter(second)
    least = {label: min(ours[label], theirs[label]) for label in sorted(ours.keys() & theirs.keys())}
    most = math.ceil(sum(least.values()) / max(1, len(least)))
    return {label: min(number, most) for label, number in least.items()}


def draw_sets(
    labels: Sequence[str], counts: Mapping[str, int], generator: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Disjoint sets of clips, drawn at random, with so many of every label; as many sets as there are clips for.

    Args:
        labels: of every clip, [n].
        counts: see :func:`matched_counts`.
        generator: source of the draw.

    Returns:
        Rows of each set in rising order, int64 [sum of counts].
    """
    names = np.asarray(labels)
    rows = {label: generator.permutation(np.flatnonzero(names == label)) for label in counts}
    sets = min(len(rows[label]) // number for label, number in counts.items())
    return [
        np.sort(
            np.concatenate([rows[label][k * number : (k + 1) * number] for label, number in counts.items()])
        )
        for k in range(sets)
    ]
