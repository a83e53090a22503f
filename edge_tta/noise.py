"""Portable noise: the same seed gives the same float32 values in every language (docs/formats/noise.md).

Bits come from Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011);
pairs of words become normals by Box-Muller in float64, rounded once to float32.
"""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import RequestError

MAX_SEED = 2**63 - 1

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox_4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Ten rounds of Philox on many counters.

    Args:
        counter: [n, 4], 32-bit words in uint64.
        key: two 32-bit words.

    Returns:
        [n, 4], 32-bit words in uint64.
    """
    x0, x1, x2, x3 = (counter[:, column].copy() for column in range(4))
    k0, k1 = key
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (second >> _HALF) ^ x1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _HALF) ^ x3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=1)


def _word64(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise RequestError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not 0 <= number <= MAX_SEED:
        # A number of a million digits is not repeated.
        shown = str(number) if abs(number) < 10**40 else "with more than 40 digits"
        raise RequestError(f"{name} {shown} is out of range: allowed are 0 to {MAX_SEED}")
    return number


def gaussian_noise(seed: int, shape: tuple[int, ...], stream: int = 0) -> NDArray[np.float32]:
    """Standard normal noise as a function of seed, stream and position alone.

    Args:
        seed: 0 .. 2**63 - 1; the key of the generator.
        shape: sizes >= 0, filled in row-major order, so a longer [L, C] array starts with the shorter one.
        stream: independent sequences of one seed, 0 .. 2**63 - 1.

    Returns:
        float32 array of ``shape``.

    Raises:
        RequestError: seed or stream is no integer or out of range, or a size is negative.
    """
    seed, stream = _word64("seed", seed), _word64("stream", stream)
    if any(size < 0 for size in shape):
        raise RequestError(f"noise of shape {shape}: sizes must not be negative")
    count = math.prod(shape)
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(blocks), 4), dtype=np.uint64)
    counter[:, 0], counter[:, 1] = blocks & _LOW, blocks >> _HALF
    counter[:, 2], counter[:, 3] = stream & 0xFFFFFFFF, stream >> 32
    words = philox_4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    uniform = (words.astype(np.float64) + 0.5) / 4294967296.0
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0::2]))
    angle = 2.0 * np.pi * uniform[:, 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:count].reshape(shape).astype(np.float32)
