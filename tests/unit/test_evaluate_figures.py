import numpy as np
import pytest
import scipy.linalg

from edge_tta.errors import DataError
from edge_tta.evaluate.diversity import diversity, pairwise_distance
from edge_tta.evaluate.frechet import frechet_distance, frechet_estimate, frechet_in_sets, moments
from edge_tta.evaluate.statistics import bootstrap, mean_estimate, percentile_interval


def cloud(n: int, dimensions: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, dimensions)) @ generator.standard_normal((dimensions, dimensions))


def test_frechet_of_a_set_with_itself_is_zero():
    for n in (10, 500):
        assert frechet_distance(cloud(n, 32), cloud(n, 32)) < 1e-3


def test_frechet_of_a_shift_is_its_square():
    points = cloud(300, 8)
    assert frechet_distance(points, points + 2.0) == pytest.approx(4.0 * 8, rel=1e-6)


def test_frechet_agrees_with_the_textbook_formula():
    first, second = cloud(400, 12, 1), cloud(300, 12, 2) + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = moments(first), moments(second)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_in_one_dimension_is_the_closed_form():
    first, second = np.array([[0.0], [2.0]]), np.array([[4.0], [8.0]])
    expected = (6.0 - 1.0) ** 2 + (np.sqrt(8.0) - np.sqrt(2.0)) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_frechet_is_finite_and_symmetric_with_fewer_clips_than_dimensions():
    first, second = cloud(5, 64, 1), cloud(7, 64, 2)
    assert np.isfinite(frechet_distance(first, second))
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-6)


@pytest.mark.parametrize("bad", [np.zeros((1, 4)), np.zeros(4), np.full((3, 2), np.nan)])
def test_frechet_refuses_what_has_no_covariance(bad):
    with pytest.raises(DataError):
        frechet_distance(bad, cloud(10, 4))


def test_a_distance_varies_with_whole_groups():
    groups = np.repeat(np.arange(15), 8)
    clips = cloud(15, 6, 1)[groups] + 0.1 * cloud(120, 6, 2)
    alone, grouped = (
        frechet_estimate(clips, cloud(200, 6, 3), np.random.default_rng(0), groups=names)
        for names in (None, groups)
    )
    assert alone.value == grouped.value and grouped.n == 120
    assert grouped.high - grouped.low > 1.8 * (alone.high - alone.low)


def test_one_set_is_the_distance_itself():
    first, second = cloud(60, 6, 1), cloud(200, 6, 2)
    alone = frechet_estimate(first, second, np.random.default_rng(0))
    found = frechet_in_sets(first, second, 60, np.random.default_rng(0))
    assert (found.value, found.n) == (alone.value, 60)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def test_more_sets_have_the_bias_of_one_and_a_narrower_interval():
    reference = cloud(400, 6, 9)
    ones = [frechet_estimate(cloud(60, 6, seed), reference, np.random.default_rng(0)) for seed in range(8)]
    rows = np.concatenate([cloud(60, 6, seed) for seed in range(8)])
    found = frechet_in_sets(np.concatenate([rows, rows[:10]]), reference, 60, np.random.default_rng(0))
    assert found.value == pytest.approx(np.mean([one.value for one in ones]))
    assert found.n == 480
    widths = [one.high - one.low for one in ones]
    assert found.high - found.low == pytest.approx(np.mean(widths) / 8**0.5, rel=0.3)
    assert found.value > frechet_distance(reference, rows)


def test_mean_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        estimate = mean_estimate(generator.random(80) < 0.4, generator)
        covered += estimate.low <= 0.4 <= estimate.high
    assert 87 <= covered <= 100


def test_grouped_interval_is_wider_when_groups_agree_within():
    hits = np.repeat(np.random.default_rng(0).random(25) < 0.5, 8)
    groups = np.repeat(np.arange(25), 8)
    alone = mean_estimate(hits, np.random.default_rng(1))
    grouped = mean_estimate(hits, np.random.default_rng(1), groups=groups)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.8 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).random(30)
    assert mean_estimate(values, np.random.default_rng(5)) == mean_estimate(values, np.random.default_rng(5))


def test_constant_observations_have_no_spread():
    estimate = mean_estimate(np.ones(12), np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (1.0, 1.0, 1.0, 12)


def test_percentile_interval_of_a_ramp():
    assert percentile_interval(np.arange(1001)) == pytest.approx((25.0, 975.0))


def test_bootstrap_refuses_nothing_and_uneven_groups():
    generator = np.random.default_rng(0)
    with pytest.raises(DataError):
        mean_estimate([], generator)
    with pytest.raises(DataError):
        bootstrap(3, lambda index: 0.0, generator, groups=[1, 2])


def test_pairwise_distance_is_the_mean_over_pairs():
    assert pairwise_distance([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]) == pytest.approx(10.0 / 3.0)
    with pytest.raises(DataError):
        pairwise_distance([[1.0, 2.0]])


def test_diversity_pairs_within_a_prompt_only():
    # Two prompts far apart, each with two clips a distance of 1 apart; real clips are 2 apart.
    made = [[0.0], [1.0], [100.0], [101.0]]
    real = [[0.0], [2.0], [50.0]]
    found = diversity(made, ["p", "p", "q", "q"], ["a"] * 4, real, ["a", "a", "b"], np.random.default_rng(0))
    assert found is not None
    assert (found.generated, found.real, found.ratio.value) == (1.0, 2.0, 0.5)
    assert found.ratio.n == 1


def test_collapsed_seeds_have_zero_diversity():
    found = diversity(
        [[1.0], [1.0]], ["p", "p"], ["a", "a"], [[0.0], [2.0]], ["a", "a"], np.random.default_rng(0)
    )
    assert found is not None
    assert found.ratio.value == 0.0


def test_diversity_is_undefined_without_two_seeds_or_two_real_clips():
    generator = np.random.default_rng(0)
    assert diversity([[1.0]], ["p"], ["a"], [[0.0], [2.0]], ["a", "a"], generator) is None
    assert diversity([[1.0], [2.0]], ["p", "p"], ["a", "a"], [[0.0]], ["a"], generator) is None
