"""Figures from label distributions: divergences between generated and real sounds, and the inception-type score.

Distributions are those of the embedder's labels, rows that sum to 1 (the softmax of its logits). Divergences are in
nats and, as in the public evaluation codes, the distribution that divides is lifted by ``FLOOR``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate, bootstrap, mean_estimate

FLOOR = 1e-6
Direction = Literal["reference to generated", "generated to reference"]
Table = npt.NDArray[np.float64]


def distributions(values: npt.ArrayLike, name: str) -> Table:
    """Checked distributions float64 [n, labels].

    Raises:
        DataError: not a table, negative or non-finite entries, or rows that do not sum to 1.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise DataError(f"{name}: label distributions [n, labels] are needed, got shape {table.shape}")
    if not np.isfinite(table).all() or table.min() < 0 or np.abs(table.sum(axis=1) - 1.0).max() > 1e-3:
        raise DataError(f"{name}: rows must be distributions, not negative and with sum 1")
    return table


def divergence(first: npt.ArrayLike, second: npt.ArrayLike) -> Table:
    """KL(first_i || second_i) = sum_k p_k log(p_k / (q_k + FLOOR)) of distributions [..., labels], nats [...]."""
    p, q = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    logarithm = np.log(np.where(p > 0, p, 1.0)) - np.log(q + FLOOR)
    return np.asarray((p * logarithm).sum(axis=-1))


def paired_divergence(
    generated: npt.ArrayLike,
    reference: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    direction: Direction = "reference to generated",
    groups: npt.ArrayLike | None = None,
) -> Estimate:
    """The field's KL: mean over pairs of the divergence between the clips' label distributions.

    "reference to generated", KL(reference_i || generated_i), is the form of AudioGen (Kreuk et al. 2022,
    https://arxiv.org/abs/2209.15352) and of the evaluation code of AudioLDM; "generated to reference" is that of the
    metrics published with Stable Audio. Zero if and only if every pair sounds alike to the labeller.

    Args:
        generated: distributions [n, labels].
        reference: distributions [n, labels]; row i is the real clip of what row i was asked for.
        generator: source of the bootstrap.
        direction: which distribution the divergence is taken of.
        groups: prompt or label of every pair; resampled whole.

    Raises:
        DataError: tables that do not pair, or hold no distributions.
    """
    made, real = distributions(generated, "generated"), distributions(reference, "reference")
    if made.shape != real.shape:
        raise DataError(f"every generated clip needs its reference: {made.shape} for {real.shape}")
    values = divergence(real, made) if direction == "reference to generated" else divergence(made, real)
    return mean_estimate(values, generator, groups=groups)


def matched_divergence(
    generated: npt.ArrayLike,
    labels: Sequence[str],
    reference: npt.ArrayLike,
    reference_labels: Sequence[str],
    generator: np.random.Generator,
    *,
    direction: Direction = "reference to generated",
    weights: npt.ArrayLike | None = None,
) -> Estimate | None:
    """The paired divergence where prompts have no clip of their own: mean over all real clips of the same label.

    That is the expectation of :func:`paired_divergence` when each clip's partner is drawn from its label. The interval
    resamples whole labels; ``n`` counts generated clips.

    Args:
        generated: distributions [n, labels].
        labels: label of every generated clip.
        reference: distributions [m, labels].
        reference_labels: label of every real clip.
        generator: source of the bootstrap.
        direction: which distribution the divergence is taken of.
        weights: what every generated clip counts for; None for all alike.

    Returns:
        None when no generated clip's label has a reference.
    """
    made, real = distributions(generated, "generated"), distributions(reference, "reference")
    names, real_names = np.asarray(labels), np.asarray(reference_labels)
    values, kept = [], []
    for place, (row, label) in enumerate(zip(made, names, strict=True)):
        partners = real[real_names == label]
        if len(partners):
            forward = direction == "reference to generated"
            pairs = divergence(partners, row) if forward else divergence(row, partners)
            values.append(float(pairs.mean()))
            kept.append(place)
    if not values:
        return None
    counts = None if weights is None else np.asarray(weights, dtype=np.float64)[kept]
    return mean_estimate(values, generator, groups=names[kept], weights=counts)


def distribution_divergence(
    generated: npt.ArrayLike,
    labels: Sequence[str],
    reference: npt.ArrayLike,
    reference_labels: Sequence[str],
    generator: np.random.Generator,
) -> Estimate | None:
    """KL(mean reference || mean generated): do the sets hold the same mixture of sounds, whatever their order?

    Means are taken within a label and then over the labels that both sets have, so that every label weighs the same
    in both. It is blind to mistaken prompts that balance out; :func:`matched_divergence` is not. The interval
    resamples labels and is centred on the figure; ``n`` counts generated clips.
    """
    made, real = distributions(generated, "generated"), distributions(reference, "reference")
    names, real_names = np.asarray(labels), np.asarray(reference_labels)
    common = sorted(set(labels) & set(reference_labels))
    if not common:
        return None
    means = np.stack([made[names == label].mean(axis=0) for label in common])
    real_means = np.stack([real[real_names == label].mean(axis=0) for label in common])

    def figure(index: npt.NDArray[np.int64]) -> float:
        return float(divergence(real_means[index].mean(axis=0), means[index].mean(axis=0)))

    estimate = bootstrap(len(common), figure, generator, centred=True)
    low = min(estimate.value, max(0.0, estimate.low))
    return dataclasses.replace(estimate, low=low, n=int(np.isin(names, common).sum()))


def inception_score(
    probabilities: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """exp(mean_i KL(p_i || mean p)), from 1 to the number of labels: high if clips are clear and labels many.

    Salimans et al., "Improved techniques for training GANs" (2016, https://arxiv.org/abs/1606.03498), section 4, on
    all clips at once. It needs no reference and does not know the prompts. Resampling repeats clips and lowers the
    score, so the interval is centred on the figure.

    Args:
        probabilities: distributions [n, labels].
        generator: source of the bootstrap.
        groups: label of every clip; resampled whole.
        weights: what every clip counts for; None for all alike.
    """
    table = distributions(probabilities, "clips")
    counts = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    # The mean divergence needs of each clip its entropy alone, which no resampling changes.
    negative_entropy = (table * np.log(np.where(table > 0, table, 1.0))).sum(axis=1)

    def figure(index: npt.NDArray[np.int64]) -> float:
        shares = counts[index] / counts[index].sum()
        mean = shares @ table[index]
        return float(np.exp(shares @ negative_entropy[index] - mean @ np.log(mean + FLOOR)))

    estimate = bootstrap(len(table), figure, generator, groups=groups, centred=True)
    return dataclasses.replace(estimate, low=min(estimate.value, max(1.0, estimate.low)))
