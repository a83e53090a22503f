"""Sampling in torch, for training-time samples and evaluation; the runtime has its own torch-free copy of the loop."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from edge_tta.flow.path import Condition, predict


@torch.no_grad()
def sample(
    model: nn.Module,
    noise: Tensor,
    condition: Condition,
    steps: int,
    guidance: float,
    classifier_free: bool = False,
) -> Tensor:
    """Integrate from noise to data on a uniform grid.

    Args:
        model: generator.
        noise: float32 [B, L, C].
        condition: text and seconds of every row.
        steps: network steps; each covers an interval of length 1 / steps.
        guidance: scale; an input of a MeanFlow generator.
        classifier_free: combine two passes instead, (1 - g) u(null) + g u(c), with instantaneous velocities: for
            models trained by flow matching alone.

    Returns:
        Latents float32 [B, L, C].
    """
    z, count = noise, noise.shape[0]
    grid = torch.linspace(1.0, 0.0, steps + 1)
    for now, then in itertools.pairwise(grid.tolist()):
        width = now - then
        both = condition.twice() if classifier_free else condition
        rows = 2 * count if classifier_free else count
        velocity = predict(
            model,
            torch.cat([z, z]) if classifier_free else z,
            torch.full((rows,), now, device=noise.device),
            torch.full((rows,), 0.0 if classifier_free else width, device=noise.device),
            torch.full((rows,), 1.0 if classifier_free else guidance, device=noise.device),
            both,
            torch.arange(rows, device=noise.device) >= count,
        )
        if classifier_free:
            velocity = guidance * velocity[:count] + (1 - guidance) * velocity[count:]
        z = z - width * velocity
    return z
