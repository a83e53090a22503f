"""Average velocities from an integrated teacher: MeanFlow without derivatives.

The average velocity over [r, t] is (z_t - z_r) / (t - r) by definition. A frozen flow-matching teacher integrates its
guided velocity from z_t to z_r in a few Euler steps, and the student regresses on the quotient (the idea of
IntMeanFlow, arXiv 2510.07979). The target is deterministic and bounded, which the MeanFlow target is not while the
network is young (docs/decisions/0005). Interval length and guidance scale are inputs, as in ``mean_flow``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.kept_answers import KeptAnswers
from edge_tta.flow.objectives.mean_flow import guided_teacher_velocity
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, euler, interpolate, normal_like, per_row, predict
from edge_tta.flow.times import LogitNormal, TimeSampler, sample_pairs
from edge_tta.ranges import COUNT, NOT_NEGATIVE, SHARE, require_ranges, require_rising


class IntervalTargets(NamedTuple):
    """Where the student starts and the average velocity it should find; one row per example."""

    z: Tensor
    """float32 [B, L, C] at time ``time``."""
    time: Tensor
    """float32 [B]."""
    duration: Tensor
    """float32 [B], t - r."""
    guidance: Tensor
    """float32 [B]."""
    velocity: Tensor
    """float32 [B, L, C]."""


@dataclass(frozen=True)
class IntegratedFlow:
    """Regression on a teacher's integrated velocity."""

    times: TimeSampler = field(default_factory=LogitNormal)
    """Distribution of the ends of intervals that are not (1, 0)."""
    one_step_share: float = 0.7
    """Share of rows with (t, r) = (1, 0)."""
    teacher_steps: int = 4
    """Euler steps of the teacher over every interval."""
    min_guidance: float = 2.0
    """Guidance scales are drawn uniformly from this ..."""
    max_guidance: float = 6.0
    """... to this."""

    def __post_init__(self) -> None:
        require_ranges(self, one_step_share=SHARE, teacher_steps=COUNT)
        require_ranges(self, min_guidance=NOT_NEGATIVE, max_guidance=NOT_NEGATIVE)
        require_rising(self, "min_guidance", "max_guidance")

    def method(self, generator: nn.Module, teacher: nn.Module | None, seed: int = 0) -> Method:
        """Train the generator alone; targets are kept as long as the same batch comes again."""
        if teacher is None:
            raise ConfigError("integrated_flow needs generator.teacher")
        targets = KeptAnswers(partial(self.targets, teacher), seed)

        def losses(data: Tensor, condition: Condition, number: int, draws: Generator) -> dict[str, Tensor]:
            return self.losses(generator, targets(data, condition, number), condition)

        return GeneratorAlone(generator, losses)

    @torch.no_grad()
    def targets(
        self, teacher: nn.Module, data: Tensor, condition: Condition, generator: Generator
    ) -> IntervalTargets:
        """Let the teacher integrate a batch of latents float32 [B, L, C] with their noise."""
        count = data.shape[0]
        noise = normal_like(data, generator)
        pairs = sample_pairs(self.times, count, 0.0, self.one_step_share, generator)
        time, end = (part.to(data.device) for part in pairs)
        span = self.max_guidance - self.min_guidance
        guidance = (self.min_guidance + span * torch.rand(count, generator=generator)).to(data.device)
        start = interpolate(data, noise, time)
        duration = time - end

        def velocity(z: Tensor, at: Tensor) -> Tensor:
            return guided_teacher_velocity(teacher, z, at, guidance, condition)

        z = euler(velocity, start, time, duration, self.teacher_steps)
        average = (start - z) / per_row(duration.clamp(min=1e-4), z)
        return IntervalTargets(start, time, duration, guidance, average)

    def losses(self, model: nn.Module, targets: IntervalTargets, condition: Condition) -> dict[str, Tensor]:
        """Mean squared error of the student's average velocity; ``loss`` is what to minimise."""
        predicted = predict(model, targets.z, targets.time, targets.duration, targets.guidance, condition)
        loss = (predicted - targets.velocity).square().mean()
        return {"loss": loss, "explained": 1 - loss.detach() / targets.velocity.var()}
