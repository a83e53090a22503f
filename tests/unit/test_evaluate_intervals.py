"""Intervals against simulation: sets drawn many times from one source, whose figure is known or averaged over more."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.frechet import frechet_change, frechet_distance, frechet_estimate
from edge_tta.evaluate.label_figures import distribution_divergence, divergence, inception_score
from edge_tta.evaluate.statistics import (
    Estimate,
    binomial_interval,
    bootstrap,
    share_estimate,
)

REFERENCE = np.random.default_rng(0).standard_normal((2000, 6))
LABELS = 6
Table = np.ndarray


def check(truth: float, estimate: Callable[[int], Estimate], sets: int = 80) -> None:
    """Intervals of 95 % hold the truth about as often, and are about as wide as figures differ from set to set.

    Of 80 sets 8 may miss by chance; the rest is for the bootstrap, which is a little narrow with few groups.
    """
    found = [estimate(seed) for seed in range(sets)]
    covered = np.mean([item.low <= truth <= item.high for item in found])
    halves = np.mean([item.high - item.low for item in found]) / 2.0
    assert covered >= 0.86
    assert 1.5 < halves / np.std([item.value for item in found]) < 2.7


def test_frechet_distance() -> None:
    def clips(seed: int) -> Table:
        return 0.4 + 1.3 * np.random.default_rng(seed).standard_normal((60, 6))

    # What sets of 60 come to: the distance's own bias is no matter of the interval.
    truth = float(np.mean([frechet_distance(clips(10_000 + seed), REFERENCE) for seed in range(600)]))
    check(truth, lambda seed: frechet_estimate(clips(seed), REFERENCE, np.random.default_rng(seed)))


def test_frechet_change_of_pairs_in_groups() -> None:
    groups = np.repeat(np.arange(50), 4)

    def pair(seed: int) -> tuple[Table, Table]:
        generator = np.random.default_rng(seed)
        before = 0.5 + generator.standard_normal((50, 6))[groups] + 0.7 * generator.standard_normal((200, 6))
        moved = 0.1 + 0.15 * generator.standard_normal((50, 6))[groups]
        return before, before + moved + 0.1 * generator.standard_normal((200, 6))

    def change(before: Table, after: Table) -> float:
        return 100.0 * (frechet_distance(REFERENCE, after) / frechet_distance(REFERENCE, before) - 1.0)

    truth = float(np.mean([change(*pair(20_000 + seed)) for seed in range(400)]))

    def estimate(seed: int) -> Estimate:
        generator = np.random.default_rng(seed)
        return frechet_change(*pair(seed), REFERENCE, generator, groups=groups, resamples=80)

    check(truth, estimate)


def softmax(values: Table) -> Table:
    raised = np.exp(values)
    return raised / raised.sum(axis=1, keepdims=True)


def test_inception_score_of_clips_in_groups() -> None:
    groups = np.repeat(np.arange(40), 3)

    def clips(seed: int) -> Table:
        generator = np.random.default_rng(seed)
        shared = 2.0 * np.eye(LABELS)[generator.integers(0, LABELS, 40)]
        shared += 0.7 * generator.standard_normal((40, LABELS))
        return softmax(shared[groups] + generator.standard_normal((len(groups), LABELS)))

    def score(table: Table) -> float:
        return float(np.exp(divergence(table, table.mean(axis=0)).mean()))

    truth = float(np.mean([score(clips(30_000 + seed)) for seed in range(600)]))
    check(truth, lambda seed: inception_score(clips(seed), np.random.default_rng(seed), groups=groups), 50)


def test_divergence_of_mean_distributions() -> None:
    made, real = np.repeat(np.arange(30), 3), np.repeat(np.arange(30), 6)
    lean = 0.8 * np.linspace(-1.0, 1.0, LABELS)

    def sets(seed: int) -> tuple[Table, Table]:
        generator = np.random.default_rng(seed)
        kinds = 2.0 * np.eye(LABELS)[generator.integers(0, LABELS, 30)]
        off = kinds + lean + 0.5 * generator.standard_normal((30, LABELS))
        noise = [0.5 * generator.standard_normal((len(rows), LABELS)) for rows in (made, real)]
        return softmax(off[made] + noise[0]), softmax(kinds[real] + noise[1])

    def truth_of(ours: Table, theirs: Table) -> float:
        return float(divergence(theirs.mean(axis=0), ours.mean(axis=0)))

    truth = float(np.mean([truth_of(*sets(40_000 + seed)) for seed in range(600)]))

    def estimate(seed: int) -> Estimate:
        ours, theirs = sets(seed)
        names = [[str(label) for label in rows] for rows in (made, real)]
        found = distribution_divergence(ours, names[0], theirs, names[1], np.random.default_rng(seed))
        assert found is not None
        return found

    check(truth, estimate, 50)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_check_itself_sees_a_wrong_width(scale: float) -> None:
    def mean(seed: int) -> Estimate:
        value = np.random.default_rng(seed).standard_normal(100).mean()
        half = scale * 0.196
        return Estimate(value, value - half, value + half, 100)

    with pytest.raises(AssertionError):
        check(0.0, mean)


GROUPS = np.repeat(np.arange(30), 4)


def hits_of(seed: int, share: float, alike: float) -> np.ndarray:
    """Hits of thirty labels with four clips each, whose rates follow a beta distribution about the share."""
    generator = np.random.default_rng(seed)
    scale = (1.0 - alike) / alike
    return generator.random(len(GROUPS)) < generator.beta(share * scale, (1.0 - share) * scale, 30)[GROUPS]


@pytest.mark.parametrize("alike", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.005, 0.03, 0.2, 0.5, 0.99])
def test_shares_are_covered_near_none_and_all_too(share: float, alike: float) -> None:
    found = [share_estimate(hits_of(seed, share, alike), groups=GROUPS) for seed in range(150)]
    assert all(0.0 <= item.low <= item.value <= item.high <= 1.0 and item.low < item.high for item in found)
    # 0.95 of 150, less two deviations.
    assert np.mean([item.low <= share <= item.high for item in found]) >= 0.915
    # Not bought with width: in the middle about that of the bootstrap.
    if share == 0.5:
        hits = hits_of(0, share, alike)
        resampled = bootstrap(
            len(hits), lambda rows: float(hits[rows].mean()), np.random.default_rng(0), groups=GROUPS
        )
        assert found[0].high - found[0].low == pytest.approx(resampled.high - resampled.low, rel=0.25)


def test_a_share_of_none_has_the_upper_end_of_as_many_trials_as_groups() -> None:
    none, every = (share_estimate(np.full(120, hit), groups=GROUPS) for hit in (False, True))
    trials = binomial_interval(0, 30)
    assert (none.value, none.low, none.n) == (0.0, 0.0, 120)
    assert none.high == pytest.approx(trials.high, rel=0.05)
    assert (every.value, every.high, every.low) == (1.0, 1.0, pytest.approx(1.0 - none.high))
    ends = [share_estimate(np.arange(120) < hits, groups=GROUPS).high for hits in range(9)]
    assert all(second > 0.97 * first for first, second in pairwise(ends))


def test_a_share_of_single_observations_is_the_exact_one() -> None:
    for hits in (0, 1, 7, 19, 20):
        found = [np.arange(20) < hits, np.arange(20)]
        assert share_estimate(found[0]) == binomial_interval(hits, 20)
        alone, exact = share_estimate(found[0], groups=found[1]), binomial_interval(hits, 20)
        assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    one = share_estimate([True, False, True], groups=["a"] * 3)
    assert one.low < 0.05 and one.high > 0.95
    with pytest.raises(DataError, match="at least one"):
        share_estimate([])
    with pytest.raises(DataError, match="one entry per observation"):
        share_estimate([True, False], groups=["a"])
