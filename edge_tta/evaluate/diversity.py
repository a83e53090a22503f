"""Do different seeds of one prompt differ, and as much as real recordings of that label do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate, bootstrap


@dataclass(frozen=True)
class Diversity:
    """Mean pairwise distance within a label, generated over real."""

    ratio: Estimate
    """Generated over real, of means over labels; 1 is as diverse as real clips. ``n`` counts labels."""
    generated: float
    """Mean pairwise distance among the clips of one prompt."""
    real: float
    """Mean pairwise distance among real clips of one label."""


def pairwise_distance(vectors: npt.ArrayLike) -> float:
    """Mean Euclidean distance over all pairs of vectors [n, D], n at least 2."""
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise DataError(f"pairwise distance needs at least two vectors, got shape {array.shape}")
    first, second = np.triu_indices(len(array), k=1)
    return float(np.linalg.norm(array[first] - array[second], axis=1).mean())


def diversity(
    generated: npt.ArrayLike,
    prompts: Sequence[str],
    labels: Sequence[str],
    real: npt.ArrayLike,
    real_labels: Sequence[str],
    generator: np.random.Generator,
) -> Diversity | None:
    """Compare spread within a prompt to spread within a label.

    Args:
        generated: vectors [n, D] of generated clips.
        prompts: prompt of each generated clip; only clips of one prompt are paired.
        labels: label of each generated clip.
        real: vectors [m, D] of real clips.
        real_labels: label of each real clip.
        generator: source of the bootstrap over labels.

    Returns:
        None when no prompt has two clips, or none of their labels two real clips.
    """
    made, found = np.asarray(generated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    prompt_names, label_names, real_names = np.asarray(prompts), np.asarray(labels), np.asarray(real_labels)
    spread: list[tuple[float, float]] = []
    for label in sorted(set(labels)):
        within = [
            pairwise_distance(made[chosen])
            for prompt in sorted(set(prompt_names[label_names == label]))
            if (chosen := (prompt_names == prompt) & (label_names == label)).sum() >= 2
        ]
        if within and (real_names == label).sum() >= 2:
            spread.append((float(np.mean(within)), pairwise_distance(found[real_names == label])))
    if not spread:
        return None
    table = np.asarray(spread)

    def ratio(index: npt.NDArray[np.int64]) -> float:
        return float(table[index, 0].mean() / max(float(table[index, 1].mean()), 1e-12))

    return Diversity(
        bootstrap(len(table), ratio, generator), float(table[:, 0].mean()), float(table[:, 1].mean())
    )
