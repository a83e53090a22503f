"""Improved MeanFlow: regression on the velocity itself, along the network's own prediction.

MeanFlow's identity v = u + (t - r) du/dt, read from right to left, predicts the velocity from the average velocity:
V = u(z_t, r, t) + (t - r) sg(du/dt), a loss on V whose target does not hold the network (Geng et al., 2025, arXiv
2512.02012, section 4). The derivative runs along the network's predicted velocity u(z_t, t, t) instead of the sample's
eps - x, whose noise the product would amplify. Guidance scales are drawn per row, are inputs of the network, and enter
the target as w (eps - x) + (1 - w) u(z_t, t, t | null).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from edge_tta.flow.objectives.intervals import IntervalObjective, adaptive_losses
from edge_tta.flow.objectives.mean_flow import conditional_and_null, teacher_velocities, velocity_derivative
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, per_row, predict
from edge_tta.ranges import NOT_NEGATIVE, require_ranges


@dataclass(frozen=True)
class ImprovedMeanFlow(IntervalObjective):
    """Velocity regression through average velocities."""

    max_guidance: float = 8.0
    power: float = 1.0
    """Exponent p of the adaptive weight 1 / (error + c)^p."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, power=NOT_NEGATIVE)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone; a teacher's guided velocity, if there is one, is tangent and target."""
        return GeneratorAlone(
            generator,
            lambda data, condition, _, draws: self.losses(generator, data, condition, draws, teacher),
        )

    def losses(
        self,
        model: nn.Module,
        data: Tensor,
        condition: Condition,
        generator: Generator,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C]; ``loss`` is what to minimise."""
        z, velocity, time, duration, guidance, drop, equal = self.draw(data, generator)
        target, tangent = self._fields(model, teacher, z, velocity, time, guidance, condition, drop)
        correction = torch.zeros_like(z)
        if equal < len(data):
            rows = slice(equal, None)
            correction[rows] = per_row(duration[rows], z[rows]) * velocity_derivative(
                model,
                z[rows],
                tangent[rows],
                time[rows],
                duration[rows],
                guidance[rows],
                condition.rows(rows),
                drop[rows],
            )
        average = predict(model, z, time, duration, guidance, condition, drop)
        error = (average + correction - target).square().flatten(1).mean(dim=1)
        return adaptive_losses(error, equal, self.power, self.floor)

    def _fields(
        self,
        model: nn.Module,
        teacher: nn.Module | None,
        z: Tensor,
        velocity: Tensor,
        time: Tensor,
        guidance: Tensor,
        condition: Condition,
        drop: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Velocity to regress on and tangent of the derivative, [B, L, C] each."""
        scale, unconditional = per_row(guidance, z), per_row(drop, z)
        if teacher is not None:
            own, null = teacher_velocities(teacher, z, time, condition)
            guided = torch.where(unconditional, null, scale * own + (1 - scale) * null)
            return guided, guided
        own, null = conditional_and_null(model, z, time, guidance, condition)
        target = torch.where(unconditional, velocity, scale * velocity + (1 - scale) * null)
        return target, torch.where(unconditional, null, own)
