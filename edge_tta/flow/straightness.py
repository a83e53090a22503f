"""Straightness of a flow: S(z) = integral over t of E |(z1 - z0) - v(z_t, t)|^2 (Liu et al., 2023, section 2.2).

Zero for a flow whose particles keep their velocity, the flow that one Euler step integrates exactly; FlashAudio (arXiv
2410.12266) plots its logarithm before and after reflow. Figures are means over the values of a latent, so that lengths
compare, and one number a row, so that a mean can carry its interval.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_tta.flow.couples import Couples, velocity_of
from edge_tta.flow.path import Condition, interpolate


@torch.no_grad()
def couple_straightness(
    model: nn.Module, couples: Couples, condition: Condition, classifier_free: bool, points: int = 16
) -> Tensor:
    """S(z) with z_t on the line between noise and data of a couple: how far the model is from moving along it.

    Args:
        model: generator; its velocity is asked with duration 0.
        couples: noise and data that belong together.
        condition: what the couples were made for.
        classifier_free: whether the model is guided by two passes; else the couples' scale is an input.
        points: midpoints of t at which the integral is evaluated.

    Returns:
        float32 [B].
    """
    total = torch.zeros_like(couples.guidance)
    for index in range(points):
        time = torch.full_like(total, (index + 0.5) / points)
        z = interpolate(couples.data, couples.noise, time)
        velocity = velocity_of(
            model, z, time, torch.zeros_like(time), couples.guidance, condition, classifier_free
        )
        total += (couples.noise - couples.data - velocity).square().flatten(1).mean(dim=1) / points
    return total


@torch.no_grad()
def flow_straightness(
    model: nn.Module,
    noise: Tensor,
    condition: Condition,
    guidance: Tensor,
    classifier_free: bool,
    steps: int = 32,
) -> Tensor:
    """S(z) along the model's own trajectories, z_t and its end from Euler steps: the variance of its velocity in time.

    Args:
        model: generator; its velocity is asked with duration 0.
        noise: float32 [B, L, C].
        condition: text and seconds.
        guidance: float32 [B].
        classifier_free: as above.
        steps: Euler steps; one step is always straight.

    Returns:
        float32 [B].
    """
    z, velocities = noise, []
    for step in range(steps):
        time = torch.full_like(guidance, 1 - step / steps)
        velocities.append(
            velocity_of(model, z, time, torch.zeros_like(time), guidance, condition, classifier_free)
        )
        z = z - velocities[-1] / steps
    spread = torch.stack(velocities).var(dim=0, correction=0)
    return spread.flatten(1).mean(dim=1)
