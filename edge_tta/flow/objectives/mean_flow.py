"""MeanFlow with guidance as an input: one set of weights from one step to many.

The average velocity u(z_t, r, t) over [r, t] obeys u = v - (t - r) du/dt with du/dt = v d_z u + d_t u (Geng et al.,
"Mean flows for one-step generative modeling", 2025, eq. 6-8). The right-hand side, with a stopped gradient, is the
target; the derivative is one forward-mode product along the tangent (v, dt = 1, d(t - r) = 1), since r stays fixed.

Guidance enters the target, not the sampler. With w the guidance scale of the row,

    v~ = w v + (1 - w) u(z_t, t, t | null)        for w = 1: plain v,

which is MeanFlow's eq. 20 with kappa = 0; a share kappa of the network's own guided velocity u(z_t, t, t | c, w)
lowers the variance of the target (eq. 20 of the same paper in its general form, MeanAudio's default):

    v~ = a (eps - x) + kappa u(z_t, t, t | c, w) + (1 - a - kappa) u(z_t, t, t | null),   a = w (1 - kappa).

Fixed point at r = t: u(c, w) = v~ gives (1 - kappa) u = w (1 - kappa) v + (1 - kappa - w (1 - kappa)) u(null), that
is u(c, w) = w v(c) + (1 - w) v(null): ordinary classifier-free guidance of scale w, for every kappa. The scale is an
input of the network as in improved MeanFlow (Geng et al., 2025, arXiv 2512.02012), so it can be chosen at inference
without a second pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from edge_tta.flow.objectives.intervals import IntervalObjective, adaptive_losses
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, per_row, predict
from edge_tta.ranges import BELOW_ONE, NOT_NEGATIVE, require_ranges


@dataclass(frozen=True)
class MeanFlow(IntervalObjective):
    """MeanFlow objective; rows with r = t are plain flow matching on the guided velocity."""

    equal_share: float = 0.75
    max_guidance: float = 5.0
    unguided_share: float = 0.2
    kappa: float = 0.5
    """Share of the network's own guided velocity in the target."""
    power: float = 1.0
    """Exponent p of the adaptive weight 1 / (error + c)^p."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, kappa=BELOW_ONE, power=NOT_NEGATIVE)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone, with the teacher's velocities if there is one."""
        return GeneratorAlone(
            generator,
            lambda data, condition, _, draws: self.losses(generator, data, condition, draws, teacher),
        )

    def guided_velocity(
        self,
        model: nn.Module,
        z: Tensor,
        velocity: Tensor,
        time: Tensor,
        guidance: Tensor,
        condition: Condition,
    ) -> Tensor:
        """v~ of every row, float32 [B, L, C]; two passes of the network without gradients."""
        own, null = conditional_and_null(model, z, time, guidance, condition)
        own_share = per_row(
            torch.where(guidance > 1, torch.full_like(guidance, self.kappa), torch.zeros_like(guidance)), z
        )
        data_share = per_row(guidance, z) * (1 - own_share)
        return data_share * velocity + own_share * own + (1 - data_share - own_share) * null

    def losses(
        self,
        model: nn.Module,
        data: Tensor,
        condition: Condition,
        generator: Generator,
        teacher: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C]; ``loss`` is what to minimise.

        With a ``teacher`` the target velocity is the teacher's guided one instead of the sample's own: a
        deterministic field, so the derivative's tangent carries no sampling noise. On little compute this is
        what keeps the target from running away (docs/decisions/0005).
        """
        z, velocity, time, duration, guidance, drop, equal = self.draw(data, generator)
        if teacher is None:
            target = self.guided_velocity(model, z, velocity, time, guidance, condition)
            target = torch.where(per_row(drop, z), velocity, target)
        else:
            drop = torch.zeros_like(drop)
            target = guided_teacher_velocity(teacher, z, time, guidance, condition)
        if equal < len(data):
            rows = slice(equal, None)
            whole = mean_target(
                model,
                z[rows],
                target[rows],
                time[rows],
                duration[rows],
                guidance[rows],
                condition.rows(rows),
                drop[rows],
            )
            target = torch.cat([target[:equal], whole])
        predicted = predict(model, z, time, duration, guidance, condition, drop)
        error = (predicted - target).square().flatten(1).mean(dim=1)
        return adaptive_losses(error, equal, self.power, self.floor)


@torch.no_grad()
def conditional_and_null(
    model: nn.Module, z: Tensor, time: Tensor, guidance: Tensor, condition: Condition
) -> tuple[Tensor, Tensor]:
    """Instantaneous velocities with and without text, in one batch of twice the size."""
    count = z.shape[0]
    predicted = predict(
        model,
        torch.cat([z, z]),
        torch.cat([time, time]),
        torch.zeros(2 * count, device=z.device),
        torch.cat([guidance, torch.ones_like(guidance)]),
        condition.twice(),
        torch.arange(2 * count, device=z.device) >= count,
    )
    return predicted[:count], predicted[count:]


def teacher_velocities(
    teacher: nn.Module, z: Tensor, time: Tensor, condition: Condition
) -> tuple[Tensor, Tensor]:
    """Velocities of a frozen flow-matching teacher with and without text, which is told in the words it knows."""
    return conditional_and_null(teacher, z, time, torch.ones_like(time), condition.for_teacher)


@torch.no_grad()
def guided_teacher_velocity(
    teacher: nn.Module, z: Tensor, time: Tensor, guidance: Tensor, condition: Condition
) -> Tensor:
    """w v(c) + (1 - w) v(null) of a frozen flow-matching teacher, float32 [B, L, C]."""
    conditional, null = teacher_velocities(teacher, z, time, condition)
    scale = per_row(guidance, z)
    return scale * conditional + (1 - scale) * null


@torch.no_grad()
def mean_target(
    model: nn.Module,
    z: Tensor,
    velocity: Tensor,
    time: Tensor,
    duration: Tensor,
    guidance: Tensor,
    condition: Condition,
    drop: Tensor | None,
) -> Tensor:
    """Target v - (t - r) du/dt of rows with r < t, float32 [B, L, C]; the derivative runs along v."""
    derivative = velocity_derivative(model, z, velocity, time, duration, guidance, condition, drop)
    return velocity - per_row(duration, z) * derivative


@torch.no_grad()
def velocity_derivative(
    model: nn.Module,
    z: Tensor,
    tangent: Tensor,
    time: Tensor,
    duration: Tensor,
    guidance: Tensor,
    condition: Condition,
    drop: Tensor | None,
) -> Tensor:
    """du/dt of the average velocity at fixed r, float32 [B, L, C]: one forward-mode product along (tangent, 1, 1).

    The derivative is taken in the precision of z, whatever the tangent was computed in; fused attention has none, so
    the model must write its attention out (``model.explicit_attention``), which is switched on here for the duration
    of the call.
    """
    # A compiled network has no forward mode; its original does.
    model = getattr(model, "_orig_mod", model)

    def average_velocity(latent: Tensor, at: Tensor, over: Tensor) -> Tensor:
        return predict(model, latent, at, over, guidance, condition, drop)

    before = getattr(model, "explicit_attention", None)
    if before is not None:
        setattr(model, "explicit_attention", True)  # noqa: B010  (nn.Module's own typing forbids the plain form)
    try:
        tangents = (tangent.to(z.dtype), torch.ones_like(time), torch.ones_like(duration))
        with torch.autocast(z.device.type, enabled=False):
            derivative: Tensor = torch.func.jvp(average_velocity, (z, time, duration), tangents)[1]
    finally:
        if before is not None:
            setattr(model, "explicit_attention", before)  # noqa: B010
    return derivative
