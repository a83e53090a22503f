"""alpha-Flow: from flow matching to MeanFlow by one number.

An interval [r, t] is split at s = alpha r + (1 - alpha) t. The average velocity over it is the share alpha of the
velocity at t, taken as constant over [s, t], and the share 1 - alpha of the network's own average velocity over what
is left (Zhang et al., "AlphaFlow: Understanding and improving MeanFlow models", 2025, arXiv 2510.20771, section 4):

    target = alpha v~ + (1 - alpha) sg(u(z_s, r, s)),   z_s = z_t - (t - s) v~.

alpha = 1 is flow matching on the whole trajectory, 1/2 a shortcut model, alpha -> 0 has MeanFlow's gradient. Annealing
alpha from 1 keeps the two losses that MeanFlow sums, and whose gradients disagree, from fighting at the start.

Rows weigh alpha / (error + c), rows with r = t 1 / (error + c). As alpha falls the error falls with alpha^2, so below
alpha = 0.03 or so c outweighs it and intervals would teach nothing. The curriculum ends there: an alpha below the
clamp is 0, and alpha = 0 is MeanFlow itself, target v~ - (t - r) du/dt by a derivative (Geng et al., 2025, arXiv
2505.13447, equation 6) at weight 1 / (error + c). The authors' published code does the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from edge_tta.flow.objectives.intervals import IntervalObjective
from edge_tta.flow.objectives.mean_flow import mean_target, teacher_velocities
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, per_row, predict
from edge_tta.ranges import POSITIVE, require_ranges, require_rising


@dataclass(frozen=True)
class AlphaFlow(IntervalObjective):
    """Trajectory consistency with an annealed step."""

    equal_share: float = 0.25
    anneal_start: int = 0
    """Step from which alpha falls from 1 ..."""
    anneal_end: int = 10000
    """... to 0 at this one, along a sigmoid."""
    steepness: float = 25.0
    """Slope of the sigmoid over the annealing span taken as 1."""
    smallest_alpha: float = 5e-3
    """Below this alpha is 0, which is MeanFlow, and above 1 minus this it is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rising(self, "anneal_start", "anneal_end", strictly=True)
        require_ranges(self, steepness=POSITIVE, smallest_alpha=(0, 0.5))

    def alpha(self, step: int) -> float:
        """Alpha at a step, from 1 to 0."""
        share = (step - self.anneal_start) / (self.anneal_end - self.anneal_start)
        alpha = 1.0 / (1.0 + math.exp(min(60.0, max(-60.0, self.steepness * (share - 0.5)))))
        if alpha > 1.0 - self.smallest_alpha:
            return 1.0
        return alpha if alpha >= self.smallest_alpha else 0.0

    def method(self, generator: nn.Module, teacher: nn.Module | None, reuse: int = 1) -> Method:
        """Train the generator alone, with the teacher's velocities if there is one.

        Args:
            generator: what is trained.
            teacher: frozen flow-matching generator, or None.
            reuse: steps for which a batch number stays: alpha follows steps.
        """

        def losses(data: Tensor, condition: Condition, number: int, draws: Generator) -> dict[str, Tensor]:
            # Batches of further processes count from multiples of 2**32.
            step = number % 2**32 * reuse
            return self.losses(generator, data, condition, self.alpha(step), draws, teacher)

        return GeneratorAlone(generator, losses)

    def losses(
        self,
        model: nn.Module,
        data: Tensor,
        condition: Condition,
        alpha: float,
        generator: Generator,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C] at one alpha; ``loss`` is what to minimise."""
        z, plain, time, duration, guidance, drop, equal = self.draw(data, generator)
        scale = per_row(guidance, z)
        if teacher is None:
            null = _null_velocity(model, z, time, condition)
            target = scale * plain + (1 - scale) * null
        else:
            own, null = teacher_velocities(teacher, z, time, condition)
            conditional = torch.where(per_row(drop, z), null, own)
            target = scale * conditional + (1 - scale) * null
        if equal < len(data) and alpha < 1:
            rows = slice(equal, None)
            parts = (z[rows], target[rows], time[rows], duration[rows], guidance[rows])
            whole = self._interval_target(model, alpha, *parts, condition.rows(rows), drop[rows])
            target = torch.cat([target[:equal], whole])
        average = predict(model, z, time, duration, guidance, condition, drop)
        error = (average - target).square().flatten(1).mean(dim=1)
        weight = torch.where(duration > 0, alpha or 1.0, 1.0) / (error.detach() + self.floor)
        return {
            "loss": (weight * error).mean(),
            "error": error.detach().mean(),
            "alpha": torch.tensor(alpha, device=data.device),
        }

    @staticmethod
    @torch.no_grad()
    def _interval_target(
        model: nn.Module,
        alpha: float,
        z: Tensor,
        velocity: Tensor,
        time: Tensor,
        duration: Tensor,
        guidance: Tensor,
        condition: Condition,
        drop: Tensor,
    ) -> Tensor:
        if alpha == 0:
            return mean_target(model, z, velocity, time, duration, guidance, condition, drop)
        walked, left = alpha * duration, (1 - alpha) * duration
        rest = predict(
            model, z - per_row(walked, z) * velocity, time - walked, left, guidance, condition, drop
        )
        # Where the two ends fell together nothing is left to walk.
        rest = torch.where(per_row(duration > 0, z), rest, velocity)
        return alpha * velocity + (1 - alpha) * rest


@torch.no_grad()
def _null_velocity(model: nn.Module, z: Tensor, time: Tensor, condition: Condition) -> Tensor:
    """Instantaneous velocity without text, float32 [B, L, C]."""
    without = torch.ones_like(time, dtype=torch.bool)
    return predict(model, z, time, torch.zeros_like(time), torch.ones_like(time), condition, without)
