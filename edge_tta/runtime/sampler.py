"""From noise to a clean latent along average velocities, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_tta.times import ping_pong_grid

Floats = NDArray[np.float32]
Velocity = Callable[[Floats, float, float], Floats]
"""Latent z_t [1, L, C], time t and duration t - r to the average velocity u(z_t, r, t) [1, L, C]."""


def sample(velocity: Velocity, noise: Floats, steps: int) -> Floats:
    """Walk from t = 1 (noise) to t = 0 (data) on a uniform grid.

    Each step is exact for an exact average velocity (Mean Flows, Geng et al. 2025, arXiv 2505.13447, eq. 12):
    z_r = z_t - (t - r) u(z_t, r, t). One step is x = eps - u(eps, 0, 1).

    Args:
        velocity: the generator with text, seconds and guidance bound.
        noise: float32 [1, L, C], standard normal.
        steps: number of network evaluations, at least 1.

    Returns:
        float32 [1, L, C].
    """
    latent = noise
    for step in range(steps):
        time, until = 1.0 - step / steps, 1.0 - (step + 1) / steps
        latent = latent - np.float32(time - until) * velocity(latent, time, time - until)
    return latent


def ping_pong(
    velocity: Velocity,
    noise: Floats,
    steps: int,
    fresh: Callable[[int], Floats],
) -> Floats:
    """Jump to clean data, add fresh noise of the next level, jump again; of models trained by ARC or multi-step DMD2.

    Each jump is x = z_t - t u(z_t, 0, t); one step is the same as ``sample``'s. On the log-SNR grid of ARC (Novack et
    al. 2025, arXiv 2505.08175, section 3).

    Args:
        velocity: the generator with text, seconds and guidance bound.
        noise: float32 [1, L, C], standard normal.
        steps: number of network evaluations, at least 1.
        fresh: number of the coming step, from 1, to noise float32 [1, L, C] that differs from step to step.

    Returns:
        float32 [1, L, C].
    """
    latent = data = noise
    for step, (now, then) in enumerate(itertools.pairwise(ping_pong_grid(steps))):
        data = latent - np.float32(now) * velocity(latent, now, now)
        if then > 0:
            latent = np.float32(1 - then) * data + np.float32(then) * fresh(step + 1)
    return data
