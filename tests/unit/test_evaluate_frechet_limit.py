"""The Fréchet distance of unlimited clips, against Gaussians whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.frechet import distance_of_moments, frechet_distance, moments
from edge_tta.evaluate.frechet_limit import MIN_CLIPS, _stratified_order, frechet_limit

REFERENCE = np.random.default_rng(0).standard_normal((4000, 32))


def drawn(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 32)) * scale + shift


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.2, 1.0), (0.0, 1.5), (0.1, 0.8)])
def test_the_limit_is_the_distance_of_what_clips_are_drawn_from(shift: float, scale: float) -> None:
    # Of two Gaussians with covariances of multiples of the identity.
    truth = 32 * (shift**2 + (scale - 1.0) ** 2)
    few, limits = [], []
    for seed in range(1, 7):
        clips = drawn(150, seed, shift, scale)
        few.append(frechet_distance(clips, REFERENCE))
        found = frechet_limit(clips, REFERENCE, np.random.default_rng(seed))
        assert found is not None and found.n == 150
        limits.append(found)
    off = np.mean([found.value for found in limits]) - truth
    assert abs(off) < 0.35 and np.mean(few) - truth > 1.2


def test_it_does_not_depend_on_the_number_of_clips() -> None:
    large, small = (
        frechet_limit(drawn(count, 3, 0.3), REFERENCE, np.random.default_rng(0)) for count in (2000, 150)
    )
    assert large is not None and small is not None
    assert large.value == pytest.approx(32 * 0.09, abs=0.3)
    assert small.low < large.value < small.high and large.high - large.low < small.high - small.low


def test_groups_are_left_out_whole() -> None:
    labels = np.repeat(np.arange(12), 20)
    shifts = np.random.default_rng(5).standard_normal((12, 1))
    clips = drawn(240, 6) + shifts[labels]
    apart, together = (
        frechet_limit(clips, REFERENCE, np.random.default_rng(0), groups=groups) for groups in (None, labels)
    )
    assert apart is not None and together is not None
    # Clips of one label are alike: as if there were far fewer of them.
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


class Kinds:
    """Clips of twenty kinds of sound whose means lie apart; a model that pulls them together has a known distance."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.means = 2.0 * generator.standard_normal((20, 12))
        self.within = 0.5 * generator.standard_normal((12, 12))
        self.reference = self.draw(np.repeat(np.arange(20), 24), 1, pulled=0.0)

    def draw(self, labels: np.ndarray, seed: int, pulled: float) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(labels), 12))
        return (1.0 - pulled) * self.means[labels] + noise @ self.within

    def truth(self, labels: np.ndarray, pulled: float) -> float:
        """Distance of unlimited clips with the labels in these shares."""
        shares = np.bincount(labels) / len(labels)
        means = (1.0 - pulled) * self.means
        apart = means - shares @ means
        covariance = (apart.T * shares) @ apart + self.within.T @ self.within
        return distance_of_moments(moments(self.reference), (shares @ means, covariance))


UNEVEN = np.random.default_rng(5).integers(2, 9, 20)


@pytest.mark.parametrize("counts", [2, 4, UNEVEN], ids=["two", "four", "uneven"])
def test_clips_with_the_same_labels_throughout_have_no_bias(counts: int | np.ndarray) -> None:
    """Sets are stratified: subsets that are not would vary in their labels too, and the end come out 1 too low."""
    kinds, labels = Kinds(), np.repeat(np.arange(20), counts)
    truth = kinds.truth(labels, 0.3)
    found = [
        frechet_limit(
            kinds.draw(labels, 100 + seed, 0.3), kinds.reference, np.random.default_rng(seed), groups=labels
        )
        for seed in range(24)
    ]
    assert all(item is not None for item in found)
    values = np.array([(item.value, item.low, item.high) for item in found if item is not None])
    # What the mean of 24 may be off by chance, and the little that a straight line leaves.
    allowed = 2.0 * values[:, 0].std() / 24**0.5 + 0.25
    assert abs(values[:, 0].mean() - truth) < allowed
    assert ((values[:, 1] <= truth) & (truth <= values[:, 2])).mean() >= 0.9
    # Wider than seeds alone, for it allows for other labels, but not without bounds.
    assert 1.96 < np.mean(values[:, 2] - values[:, 1]) / 2.0 / values[:, 0].std() < 8.0


@pytest.mark.parametrize("counts", [1, 3, UNEVEN], ids=["one", "three", "uneven"])
def test_every_beginning_of_an_order_has_labels_in_their_shares(counts: int | np.ndarray) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(20), counts))
    order = _stratified_order(labels, np.random.default_rng(2))
    assert sorted(order) == list(range(len(labels)))
    assert not np.array_equal(order, _stratified_order(labels, np.random.default_rng(3)))
    shares = np.bincount(labels) / len(labels)
    for size in range(1, len(labels) + 1):
        held = np.bincount(labels[order[:size]], minlength=20)
        assert np.abs(held - shares * size).max() < 2.0 or np.ndim(counts) == 0
        if np.ndim(counts) == 0:
            assert held.max() - held.min() <= 1


def test_without_groups_the_interval_covers_as_often_as_it_says() -> None:
    truth = 32 * 0.3**2
    covered = 0
    for seed in range(60):
        found = frechet_limit(drawn(160, seed + 1, 0.3), REFERENCE, np.random.default_rng(seed))
        assert found is not None
        covered += found.low <= truth <= found.high
        assert found.high - found.low < 4.0
    assert covered >= 52


def test_it_is_a_function_of_its_inputs() -> None:
    clips = drawn(80, 1)
    first, second = (frechet_limit(clips, REFERENCE, np.random.default_rng(4)) for _ in range(2))
    assert first == second


def test_few_clips_or_one_group_have_none() -> None:
    assert frechet_limit(drawn(MIN_CLIPS - 1, 1), REFERENCE, np.random.default_rng(0)) is None
    alone = frechet_limit(drawn(60, 1), REFERENCE, np.random.default_rng(0), groups=np.zeros(60))
    assert alone is None


def test_what_is_not_finite_is_refused() -> None:
    clips = drawn(60, 1)
    clips[3, 4] = np.nan
    with pytest.raises(DataError, match="non-finite"):
        frechet_limit(clips, REFERENCE, np.random.default_rng(0))
