"""Improved MeanFlow: regression on the velocity itself, along the network's own prediction.

MeanFlow's identity v = u + (t - r) du/dt, read from right to left, predicts the velocity from the average velocity:
V = u(z_t, r, t) + (t - r) sg(du/dt), a loss on V whose target does not hold the network (Geng et al., 2025, arXiv
2512.02012, section 4). The derivative runs along the network's predicted velocity u(z_t, t, t) instead of the sample's
eps - x, whose noise the product would amplify. Guidance scales are drawn per row, are inputs of the network, and enter
the target as w (eps - x) + (1 - w) u(z_t, t, t | null).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from edge_tta.flow.objectives.mean_flow import conditional_and_null, velocity_derivative
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, immiscible_noise, interpolate, normal_like, per_row
from edge_tta.flow.times import LogitNormal, TimeSampler, sample_pairs


@dataclass(frozen=True)
class ImprovedMeanFlow:
    """Velocity regression through average velocities."""

    times: TimeSampler = field(default_factory=lambda: LogitNormal(-0.4, 1.0))
    equal_share: float = 0.5
    """Share of rows with r = t."""
    one_step_share: float = 0.0
    """Share of the other rows pinned to (t, r) = (1, 0)."""
    null_share: float = 0.1
    """Share of rows trained without text; their target is the plain velocity."""
    max_guidance: float = 8.0
    """Guidance scales are drawn log-uniformly from 1 to this."""
    unguided_share: float = 0.1
    """Share of rows with guidance scale exactly 1."""
    power: float = 1.0
    """Exponent p of the adaptive weight 1 / (error + c)^p."""
    floor: float = 1e-3
    """Constant c of the adaptive weight."""
    immiscible: bool = False
    """Assign noise to data within the batch."""

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone; a teacher's guided velocity, if there is one, is tangent and target."""
        return GeneratorAlone(
            generator,
            lambda data, condition, _, draws: self.losses(generator, data, condition, draws, teacher),
        )

    def draw_guidance(self, count: int, generator: Generator) -> Tensor:
        """Guidance scales float32 [count]."""
        scale = self.max_guidance ** torch.rand(count, generator=generator)
        return scale.masked_fill(torch.rand(count, generator=generator) < self.unguided_share, 1.0)

    def losses(
        self,
        model: nn.Module,
        data: Tensor,
        condition: Condition,
        generator: Generator,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C]; ``error`` is the unweighted squared error."""
        count = data.shape[0]
        noise = normal_like(data, generator)
        if self.immiscible:
            noise = immiscible_noise(data, noise)
        pairs = sample_pairs(self.times, count, self.equal_share, self.one_step_share, generator)
        time, start = (part.to(data.device) for part in pairs)
        drop = (torch.rand(count, generator=generator) < self.null_share).to(data.device)
        guidance = self.draw_guidance(count, generator).to(data.device).masked_fill(drop, 1.0)
        z, velocity = interpolate(data, noise, time), noise - data
        target, tangent = self._fields(model, teacher, z, velocity, time, guidance, condition, drop)
        duration = time - start
        correction = torch.zeros_like(z)
        equal = int(self.equal_share * count)
        if equal < count:
            rows = slice(equal, count)
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
        average = model(
            z,
            time,
            duration,
            condition.tokens,
            condition.pooled,
            condition.seconds,
            guidance,
            text_mask=condition.text_mask,
            drop=drop,
        )
        error = (average + correction - target).square().flatten(1).mean(dim=1)
        weight = (error.detach() + self.floor) ** -self.power
        whole = error.detach()[equal:].mean() if equal < count else error.new_zeros(())
        return {"loss": (weight * error).mean(), "error": error.detach().mean(), "interval_error": whole}

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
            own, null = conditional_and_null(teacher, z, time, torch.ones_like(guidance), condition)
            guided = torch.where(unconditional, null, scale * own + (1 - scale) * null)
            return guided, guided
        own, null = conditional_and_null(model, z, time, guidance, condition)
        target = torch.where(unconditional, velocity, scale * velocity + (1 - scale) * null)
        return target, torch.where(unconditional, null, own)
