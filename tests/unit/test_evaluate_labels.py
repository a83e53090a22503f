"""Figures from label distributions and embeddings, against closed forms and the public Fréchet formula."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from edge_tta.errors import DataError
from edge_tta.evaluate.embedder_figures import conditional_diversity, text_score
from edge_tta.evaluate.frechet import _few_distance, frechet_distance, frechet_estimate
from edge_tta.evaluate.label_figures import (
    FLOOR,
    distribution_divergence,
    divergence,
    inception_score,
    matched_divergence,
    paired_divergence,
)
from edge_tta.evaluate.statistics import bootstrap

ONE_HOT = np.eye(4)


def draws(n: int, labels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(labels), n)


def fresh() -> np.random.Generator:
    return np.random.default_rng(0)


def public_frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The distance as public FID and FAD programs have it: a matrix square root of the product of the covariances."""
    means = [points.mean(axis=0) for points in (first, second)]
    covariances = [np.cov(points, rowvar=False) for points in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(root))
        root = scipy.linalg.sqrtm((covariances[0] + offset) @ (covariances[1] + offset))
    return float(
        np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    )


@pytest.mark.parametrize(
    ("n", "m", "dimensions"), [(500, 400, 8), (300, 300, 64), (1000, 600, 32), (30, 45, 96)]
)
def test_frechet_equals_the_public_formula(n: int, m: int, dimensions: int) -> None:
    """Random Gaussians of different mean and covariance, the last with fewer clips than dimensions."""
    random = np.random.default_rng(dimensions)
    shapes = [random.standard_normal((dimensions, dimensions)) / dimensions**0.5 for _ in range(2)]
    first = random.standard_normal((n, dimensions)) @ shapes[0]
    second = random.standard_normal((m, dimensions)) @ shapes[1] + random.standard_normal(dimensions)
    assert frechet_distance(first, second) == pytest.approx(public_frechet(first, second), rel=1e-5)


def test_frechet_of_few_clips_needs_no_large_matrix() -> None:
    random = np.random.default_rng(1)
    first, second = random.standard_normal((12, 40)), 2 * random.standard_normal((9, 40)) + 1
    assert _few_distance(first, second) == pytest.approx(frechet_distance(first, second), rel=1e-6)
    estimate = frechet_estimate(first, random.standard_normal((20, 40)), fresh(), resamples=10)
    assert estimate.low <= estimate.value <= estimate.high


def test_divergence_is_torch_s() -> None:
    p, q = draws(6, 5, 1), draws(6, 5, 2)
    expected = torch.nn.functional.kl_div(
        torch.from_numpy(q + FLOOR).log(), torch.from_numpy(p), reduction="none"
    ).sum(dim=1)
    assert np.allclose(divergence(p, q), expected.numpy())
    assert divergence([0.5, 0.5, 0.0], [0.25, 0.25, 0.5]) == pytest.approx(np.log(2), abs=1e-5)


def test_paired_divergence_has_a_direction() -> None:
    generated, reference = np.array([[0.5, 0.5]] * 3), np.array([[0.9, 0.1]] * 3)
    forward = paired_divergence(generated, reference, fresh())
    backward = paired_divergence(generated, reference, fresh(), direction="generated to reference")
    assert forward.value == pytest.approx(0.9 * np.log(1.8) + 0.1 * np.log(0.2), abs=1e-4)
    assert backward.value == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(5), abs=1e-4)
    assert forward.n == 3
    assert paired_divergence(generated, generated, fresh()).value == pytest.approx(0, abs=1e-5)


def test_matched_divergence_is_the_mean_over_possible_pairs() -> None:
    generated, reference = draws(3, 4, 3), draws(4, 4, 4)
    found = matched_divergence(generated, ["a", "a", "x"], reference, ["a", "b", "a", "b"], fresh())
    pairs = [divergence(reference[j], generated[i]) for i in (0, 1) for j in (0, 2)]
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(np.mean(pairs)), 2)
    assert matched_divergence(generated, ["x"] * 3, reference, ["a"] * 4, fresh()) is None


def test_distribution_divergence_is_blind_to_swapped_prompts_and_sees_missing_sounds() -> None:
    labels = ["a", "a", "b", "b", "c", "c"]
    reference = ONE_HOT[[0, 0, 1, 1, 2, 2]]
    swapped = ONE_HOT[[1, 1, 2, 2, 0, 0]]
    collapsed = ONE_HOT[[0] * 6]
    assert distribution_divergence(swapped, labels, reference, labels, fresh()).value < 1e-5
    assert matched_divergence(swapped, labels, reference, labels, fresh()).value > 10
    found = distribution_divergence(collapsed, labels, reference, labels, fresh())
    expected = divergence(np.array([1, 1, 1, 0]) / 3, ONE_HOT[0])
    assert (found.value, found.n) == (pytest.approx(float(expected)), 6)
    # Twice as many clips of one label weigh no more.
    more, names = np.concatenate([reference, ONE_HOT[[0] * 9]]), [*labels, *["a"] * 9]
    assert distribution_divergence(more, names, reference, labels, fresh()).value < 1e-5


def test_inception_score_is_one_for_no_news_and_the_number_of_clear_labels() -> None:
    assert inception_score(np.full((8, 4), 0.25), fresh()).value == pytest.approx(1, abs=1e-4)
    assert inception_score(ONE_HOT[[0] * 8], fresh()).value == pytest.approx(1, abs=1e-4)
    clear = inception_score(ONE_HOT[[0, 1, 2, 3] * 5], fresh())
    assert clear.value == pytest.approx(4, abs=1e-3)
    table = draws(40, 6)
    expected = np.exp(np.mean([divergence(row, table.mean(axis=0)) for row in table]))
    found = inception_score(table, fresh(), groups=np.arange(40) // 4)
    assert found.value == pytest.approx(float(expected))
    assert found.low >= 1


def test_text_score_is_the_mean_cosine() -> None:
    found = text_score([[2.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [-3.0, 3.0]], fresh())
    assert (found.value, found.n) == (pytest.approx(0.5), 2)
    with pytest.raises(DataError, match="same space"):
        text_score([[1.0, 0.0]], [[1.0, 0.0, 0.0]], fresh())


def test_conditional_diversity_compares_within_a_prompt_only() -> None:
    vectors = [[1, 0], [0, 5], [1, 0], [3, 0], [0, 1]]
    found = conditional_diversity(vectors, ["p", "p", "q", "q", "alone"], fresh())
    assert found is not None
    # Orthogonal within p, the same direction within q.
    assert (found.value, found.n) == (pytest.approx(0.5), 2)
    assert conditional_diversity(vectors, list("abcde"), fresh()) is None


def test_a_centred_interval_surrounds_a_figure_that_repetitions_lower() -> None:
    def distinct(index: np.ndarray) -> float:
        return float(len(set(index.tolist())))

    plain = bootstrap(30, distinct, fresh())
    centred = bootstrap(30, distinct, fresh(), centred=True)
    assert plain.high < plain.value == centred.value == 30
    assert centred.low < 30 < centred.high
    assert centred.high - centred.low == pytest.approx(plain.high - plain.low)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 3)), np.array([[0.5, np.nan]]), np.array([[1.5, -0.5]]), np.ones(3) / 3, np.zeros((0, 3))],
)
def test_what_is_no_distribution_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="distributions"):
        inception_score(bad, fresh())
    with pytest.raises(DataError):
        paired_divergence(bad, bad, fresh())


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(DataError, match="needs its reference"):
        paired_divergence(draws(3, 4), draws(2, 4), fresh())
