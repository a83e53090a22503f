"""Grids of times that samplers walk, from 1 (noise) down to 0 (data); the same while training and on the device."""

from __future__ import annotations

import math

LOWEST_LOG_SNR, HIGHEST_LOG_SNR = -6.0, 2.0
"""Ends of the ping-pong grid: almost pure noise, and where sound is settled (ARC, arXiv 2505.08175, section 4)."""


def ping_pong_grid(steps: int) -> tuple[float, ...]:
    """Times of a ping-pong sampler, ``steps`` + 1 of them from 1 down to 0.

    Evenly spaced in the logarithm of the signal-to-noise ratio, lambda, from -6 to 2, with t = sigmoid(-lambda) on the
    straight path; the first is set to 1 and the last to 0.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    width = HIGHEST_LOG_SNR - LOWEST_LOG_SNR
    inner = (LOWEST_LOG_SNR + width * step / steps for step in range(1, steps))
    return (1.0, *(1 / (1 + math.exp(value)) for value in inner), 0.0)
