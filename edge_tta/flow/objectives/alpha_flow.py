"""alpha-Flow: from flow matching to MeanFlow by one number, without derivatives on the way.

An interval [r, t] is split at s = alpha r + (1 - alpha) t. The average velocity over it is the share alpha of the
velocity at t, taken as constant over [s, t], and the share 1 - alpha of the network's own average velocity over what
is left (Zhang et al., 2025, arXiv 2510.20771, section 4):

    target = alpha v~ + (1 - alpha) sg(u(z_s, r, s)),   z_s = z_t - (t - s) v~.

alpha = 1 is flow matching on the whole trajectory, 1/2 a shortcut model, alpha -> 0 has MeanFlow's gradient. Annealing
alpha from 1 keeps the two losses that MeanFlow sums, and whose gradients disagree, from fighting at the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.intervals import IntervalObjective
from edge_tta.flow.objectives.mean_flow import conditional_and_null, teacher_velocities
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, per_row, predict


@dataclass(frozen=True)
class AlphaFlow(IntervalObjective):
    """Trajectory consistency with an annealed step."""

    equal_share: float = 0.25
    anneal_start: int = 0
    """Batch number from which alpha falls from 1 ..."""
    anneal_end: int = 10000
    """... to ``smallest_alpha`` at this one, along a sigmoid."""
    steepness: float = 25.0
    """Slope of the sigmoid over the annealing span taken as 1."""
    smallest_alpha: float = 5e-3
    """Alpha is clamped to this from below, and to 1 from above 1 minus this."""

    def __post_init__(self) -> None:
        if self.anneal_end <= self.anneal_start:
            raise ConfigError("alpha_flow: anneal_end must lie after anneal_start")

    def alpha(self, number: int) -> float:
        """Alpha at a batch number; streams of further processes count from 0 as well."""
        share = (number % 2**32 - self.anneal_start) / (self.anneal_end - self.anneal_start)
        alpha = 1.0 / (1.0 + math.exp(min(60.0, max(-60.0, self.steepness * (share - 0.5)))))
        if alpha > 1.0 - self.smallest_alpha:
            return 1.0
        return max(alpha, self.smallest_alpha)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone, with the teacher's velocities if there is one."""
        return GeneratorAlone(
            generator,
            lambda data, condition, number, draws: self.losses(
                generator, data, condition, self.alpha(number), draws, teacher
            ),
        )

    def losses(
        self,
        model: nn.Module,
        data: Tensor,
        condition: Condition,
        alpha: float,
        generator: Generator,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C] at one alpha."""
        z, plain, time, duration, guidance, drop, _ = self.draw(data, generator)
        scale = per_row(guidance, data)
        if teacher is None:
            own, null = conditional_and_null(model, z, time, guidance, condition)
        else:
            own, null = teacher_velocities(teacher, z, time, condition)
        conditional = plain if teacher is None else torch.where(per_row(drop, z), null, own)
        velocity = scale * conditional + (1 - scale) * null
        target = velocity
        if alpha < 1:
            walked, left = alpha * duration, (1 - alpha) * duration
            with torch.no_grad():
                between = z - per_row(walked, z) * velocity
                rest = predict(model, between, time - walked, left, guidance, condition, drop)
            # Rows with r = t have nothing left to walk: their target is the velocity itself.
            rest = torch.where(per_row(duration > 0, z), rest, velocity)
            target = alpha * velocity + (1 - alpha) * rest
        average = predict(model, z, time, duration, guidance, condition, drop)
        error = (average - target).square().flatten(1).mean(dim=1)
        weight = torch.where(duration > 0, alpha, 1.0) / (error.detach() + self.floor)
        return {
            "loss": (weight * error).mean(),
            "error": error.detach().mean(),
            "alpha": torch.tensor(alpha, device=data.device),
        }
