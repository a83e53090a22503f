"""Noise: known answers of the generator, golden values, statistics, independence of place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def by_the_document(seed: int, stream: int, index: int) -> float:
    """Value number ``index``, written from docs/formats/noise.md with Python's own integers and libm."""
    block, place = divmod(index, 4)
    x = [block % 2**32, block >> 32, stream % 2**32, stream >> 32]
    k0, k1 = seed % 2**32, seed >> 32
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(q >> 32) ^ x[1] ^ k0, q % 2**32, (p >> 32) ^ x[3] ^ k1, p % 2**32]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    u0, u1 = ((word + 0.5) / 2**32 for word in x[place // 2 * 2 : place // 2 * 2 + 2])
    return math.sqrt(-2 * math.log(u0)) * (math.cos, math.sin)[place % 2](6.283185307179586 * u1)


@given(st.integers(0, MAX_SEED), st.integers(0, MAX_SEED), st.integers(0, 300))
def test_the_document_is_enough_to_write_it_again(seed: int, stream: int, index: int) -> None:
    value = gaussian_noise(seed, (index + 1,), stream)[index]
    expected = np.float32(by_the_document(seed, stream, index))
    assert abs(int(value.view(np.int32)) - int(expected.view(np.int32))) <= 1


def test_golden_values_are_those_of_the_document() -> None:
    assert len({case["seed"] for case in GOLDEN}) == 4 and len(GOLDEN) == 8
    for case in GOLDEN:
        values = [by_the_document(case["seed"], case["stream"], index) for index in range(16)]
        bits = np.array(values, np.float32).view(np.int32)
        stored = np.array([int(word, 16) for word in case["first_16_float32_bits"]], np.uint32).view(np.int32)
        assert np.abs(bits.astype(np.int64) - stored).max() <= 1
        assert np.array_equal(np.array(case["first_4"], np.float32), stored[:4].view(np.float32))


def test_a_block_beyond_the_first_four_billion() -> None:
    """The high half of the counter is used, not dropped."""
    low, high = (philox_4x32(np.array([[5, word, 0, 0]], dtype=np.uint64), (1, 2)) for word in (0, 1))
    assert not np.array_equal(low, high)


def test_statistics_of_a_million() -> None:
    x = gaussian_noise(11, (1_000_000,)).astype(np.float64)
    assert abs(x.mean()) < 4e-3
    assert abs(x.var() - 1) < 5e-3
    assert abs((x**3).mean()) < 1e-2
    assert abs((x**4).mean() - 3) < 5e-2
    share = [(np.abs(x) < bound).mean() for bound in (1, 2, 3)]
    np.testing.assert_allclose(share, [0.6827, 0.9545, 0.9973], atol=1.5e-3)
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is the distance that a true normal exceeds once in a thousand draws.
    ordered = np.sort(x)
    expected = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in ordered[::50]])
    assert np.abs(expected - np.arange(0, len(x), 50) / len(x)).max() < 1.95 / math.sqrt(len(x))
    # Neighbours come from the same pair and the same block.
    for lag in (1, 2, 3, 4, 64):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 4e-3


def test_seeds_and_streams_are_uncorrelated() -> None:
    size = (1_000_000,)
    base = gaussian_noise(5, size)
    for other in (gaussian_noise(6, size), gaussian_noise(5, size, 1), gaussian_noise(5 + 2**32, size)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 4e-3


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (3,), (5, 7), (2, 3, 4)])
def test_every_shape_is_the_beginning_of_one_sequence(shape: tuple[int, ...]) -> None:
    values = gaussian_noise(9, shape)
    assert values.shape == shape and values.dtype == np.float32 and values.flags.c_contiguous
    assert np.array_equal(values.reshape(-1), gaussian_noise(9, (100,))[: values.size])


def test_a_longer_sound_starts_with_the_shorter_ones_noise() -> None:
    short, long = gaussian_noise(3, (10, 64)), gaussian_noise(3, (200, 64))
    assert np.array_equal(short, long[:10])


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 10**6000], ids=["negative", "above", "huge"])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(RequestError, match=r"seed .* is out of range"):
        gaussian_noise(seed, (2,))
    with pytest.raises(RequestError, match=r"stream .* is out of range"):
        gaussian_noise(0, (2,), seed)


@pytest.mark.parametrize("seed", [1.0, "1", None])
def test_seeds_are_integers(seed: object) -> None:
    with pytest.raises(RequestError, match="integer"):
        gaussian_noise(seed, (2,))  # type: ignore[arg-type]


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(RequestError, match="negative"):
        gaussian_noise(0, (-1, -2))


def test_integers_of_numpy_are_integers() -> None:
    assert np.array_equal(gaussian_noise(np.int64(2**40 + 3), (8,)), gaussian_noise(2**40 + 3, (8,)))  # type: ignore[arg-type]


def test_largest_seed_works() -> None:
    assert np.isfinite(gaussian_noise(MAX_SEED, (5,))).all()
