"""Noise: known answers of the generator, golden values, statistics, independence of place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_tta.errors import RequestError
from edge_tta.noise import MAX_SEED, gaussian_noise, philox_4x32

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "noise.json").read_text())


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_its_published_known_answers(
    counter: list[int], key: tuple[int, int], words: list[int]
) -> None:
    assert philox_4x32(np.array([counter], dtype=np.uint64), key)[0].tolist() == words


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['seed']}-{case['stream']}")
def test_golden_values_to_the_last_bit(case: dict[str, object]) -> None:
    values = gaussian_noise(case["seed"], tuple(case["shape"]), case["stream"])  # type: ignore[arg-type]
    bits = values.reshape(-1)[:16].view(np.uint32)
    assert [f"{word:08x}" for word in bits] == case["first_16_float32_bits"]


def test_statistics_of_a_million() -> None:
    x = gaussian_noise(11, (1_000_000,)).astype(np.float64)
    assert abs(x.mean()) < 4e-3
    assert abs(x.var() - 1) < 5e-3
    assert abs((x**3).mean()) < 1e-2
    assert abs((x**4).mean() - 3) < 5e-2
    share = [(np.abs(x) < bound).mean() for bound in (1, 2, 3)]
    np.testing.assert_allclose(share, [0.6827, 0.9545, 0.9973], atol=1.5e-3)


def test_seeds_and_streams_are_uncorrelated() -> None:
    base = gaussian_noise(5, (100_000,))
    for other in (
        gaussian_noise(6, (100_000,)),
        gaussian_noise(5, (100_000,), stream=1),
        gaussian_noise(5 + 2**32, (100_000,)),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.015


def test_a_longer_sound_starts_with_the_shorter_ones_noise() -> None:
    short, long = gaussian_noise(3, (10, 64)), gaussian_noise(3, (200, 64))
    assert np.array_equal(short, long[:10])


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="out of range"):
        gaussian_noise(seed, (2,))


def test_largest_seed_works() -> None:
    assert np.isfinite(gaussian_noise(MAX_SEED, (5,))).all()
