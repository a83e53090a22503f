"""Ping-pong sampling: jump to clean data, add fresh noise of the next level, jump again.

Sampler of ARC (Novack et al., 2025, arXiv 2505.08175, section 3) and of multi-step DMD2 (Yin et al., 2024, arXiv
2405.14867, section 4.4), as in consistency models (Song et al., 2023, algorithm 1). Every jump asks the generator for
its average velocity over the whole way from t to 0, so one step is exactly what the exported one-step graph computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from edge_tta.flow.path import Condition, interpolate, normal_like, per_row, predict
from edge_tta.times import ping_pong_grid

NoiseSource = Callable[[int], Tensor]
"""Number of the coming step, from 1, to standard normal noise [B, L, C]."""


def denoise(
    model: nn.Module,
    z: Tensor,
    time: Tensor,
    condition: Condition,
    guidance: Tensor,
    drop: Tensor | None = None,
) -> Tensor:
    """Clean latent x = z_t - t u(z_t, 0, t), float32 [B, L, C].

    Args:
        model: generator.
        z: float32 [B, L, C] at ``time``.
        time: float32 [B], t; the interval's length is t as well.
        condition: text and seconds of every row.
        guidance: float32 [B], the generator's guidance input.
        drop: bool [B], True where the null condition takes the text's place.
    """
    velocity = predict(model, z, time, time, guidance, condition, drop)
    return z - per_row(time, z) * velocity.float()


@torch.no_grad()
def ping_pong(
    model: nn.Module,
    noise: Tensor,
    condition: Condition,
    steps: int,
    source: torch.Generator | NoiseSource,
    guidance: float = 1.0,
) -> Tensor:
    """Sample in ``steps`` jumps on the log-SNR grid.

    Args:
        model: generator.
        noise: float32 [B, L, C], where it starts.
        condition: text and seconds of every row.
        steps: network steps, at least 1.
        source: of the noise after every jump but the last: a generator of the CPU, or a function of the step.
        guidance: the generator's guidance input; 1 for a generator trained without guidance.

    Returns:
        Latents float32 [B, L, C].

    Raises:
        ValueError: fewer than one step.
    """
    rows = noise.shape[0]
    scale = torch.full((rows,), guidance, device=noise.device)
    data = z = noise
    for step, (now, then) in enumerate(itertools.pairwise(ping_pong_grid(steps)), start=1):
        data = denoise(model, z, torch.full((rows,), now, device=noise.device), condition, scale)
        if then > 0:
            fresh = normal_like(noise, source) if isinstance(source, torch.Generator) else source(step)
            z = interpolate(data, fresh.to(data), torch.full((rows,), then, device=noise.device))
    return data
