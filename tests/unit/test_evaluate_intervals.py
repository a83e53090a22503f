"""Intervals against simulation: sets drawn many times from one source, whose figure is known or averaged over more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_tta.evaluate.frechet import frechet_change, frechet_distance, frechet_estimate
from edge_tta.evaluate.label_figures import distribution_divergence, divergence, inception_score
from edge_tta.evaluate.statistics import Estimate

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
