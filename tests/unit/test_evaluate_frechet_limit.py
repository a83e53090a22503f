"""The Fréchet distance of unlimited clips, against Gaussians whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.frechet import frechet_distance
from edge_tta.evaluate.frechet_limit import MIN_CLIPS, frechet_limit

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
    assert sum(found.low <= truth + 0.3 and truth - 0.3 <= found.high for found in limits) >= 5


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
    assert apart.value == together.value
    # Clips of one label are alike: as if there were far fewer of them.
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


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
