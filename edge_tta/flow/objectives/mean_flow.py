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

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, immiscible_noise, interpolate, normal_like, per_row
from edge_tta.flow.times import LogitNormal, TimeSampler, sample_pairs


@dataclass(frozen=True)
class MeanFlow:
    """MeanFlow objective; rows with r = t are plain flow matching on the guided velocity."""

    times: TimeSampler = field(default_factory=lambda: LogitNormal(-0.4, 1.0))
    equal_share: float = 0.75
    """Flow mix-up ratio: share of rows with r = t."""
    one_step_share: float = 0.0
    """Share of the other rows pinned to (t, r) = (1, 0)."""
    null_share: float = 0.1
    """Share of rows trained without text; their target is the plain velocity."""
    max_guidance: float = 5.0
    """Guidance scales are drawn from 1 to this, denser towards 1."""
    unguided_share: float = 0.2
    """Share of rows with guidance scale exactly 1."""
    kappa: float = 0.5
    """Share of the network's own guided velocity in the target."""
    power: float = 1.0
    """Exponent p of the adaptive weight 1 / (error + c)^p."""
    floor: float = 1e-3
    """Constant c of the adaptive weight."""
    immiscible: bool = False
    """Assign noise to data within the batch."""

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone, with the teacher's velocities if there is one."""
        return GeneratorAlone(
            generator,
            lambda data, condition, _, draws: self.losses(generator, data, condition, draws, teacher),
        )

    def draw_guidance(self, count: int, generator: Generator) -> Tensor:
        """Guidance scales float32 [count]: log-uniform in 1..max_guidance, some exactly 1."""
        scale = self.max_guidance ** torch.rand(count, generator=generator)
        plain = torch.rand(count, generator=generator) < self.unguided_share
        return torch.where(plain, torch.ones_like(scale), scale)

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

        ``error`` is the unweighted squared error: with p = 1 the weighted loss itself hardly moves.
        """
        count = data.shape[0]
        noise = normal_like(data, generator)
        if self.immiscible:
            noise = immiscible_noise(data, noise)
        pairs = sample_pairs(self.times, count, self.equal_share, self.one_step_share, generator)
        time, start = (part.to(data.device) for part in pairs)
        drop = (torch.rand(count, generator=generator) < self.null_share).to(data.device)
        guidance = self.draw_guidance(count, generator).to(data.device).masked_fill(drop, 1.0)
        z, velocity = interpolate(data, noise, time), noise - data
        if teacher is None:
            target = self.guided_velocity(model, z, velocity, time, guidance, condition)
            target = torch.where(per_row(drop, z), velocity, target)
        else:
            drop = torch.zeros_like(drop)
            target = guided_teacher_velocity(teacher, z, time, guidance, condition)
        duration = time - start
        equal = int(self.equal_share * count)
        if equal < count:
            target = torch.cat(
                [
                    target[:equal],
                    mean_target(
                        model,
                        z[equal:],
                        target[equal:],
                        time[equal:],
                        duration[equal:],
                        guidance[equal:],
                        condition.rows(slice(equal, count)),
                        drop[equal:],
                    ),
                ]
            )
        predicted = model(
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
        error = (predicted - target).square().flatten(1).mean(dim=1)
        weight = (error.detach() + self.floor) ** -self.power
        whole = error.detach()[equal:].mean() if equal < count else error.new_zeros(())
        return {"loss": (weight * error).mean(), "error": error.detach().mean(), "interval_error": whole}


@torch.no_grad()
def conditional_and_null(
    model: nn.Module, z: Tensor, time: Tensor, guidance: Tensor, condition: Condition
) -> tuple[Tensor, Tensor]:
    """Instantaneous velocities with and without text, in one batch of twice the size."""
    count = z.shape[0]
    both = condition.twice()
    predicted = model(
        torch.cat([z, z]),
        torch.cat([time, time]),
        torch.zeros(2 * count, device=z.device),
        both.tokens,
        both.pooled,
        both.seconds,
        torch.cat([guidance, torch.ones_like(guidance)]),
        text_mask=both.text_mask,
        drop=torch.arange(2 * count, device=z.device) >= count,
    )
    return predicted[:count], predicted[count:]


@torch.no_grad()
def guided_teacher_velocity(
    teacher: nn.Module, z: Tensor, time: Tensor, guidance: Tensor, condition: Condition
) -> Tensor:
    """w v(c) + (1 - w) v(null) of a frozen flow-matching teacher, float32 [B, L, C]."""
    conditional, null = conditional_and_null(teacher, z, time, torch.ones_like(guidance), condition)
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

    The derivative is taken in float32; fused attention has none, so the model must write its attention out
    (``model.explicit_attention``), which is switched on here for the duration of the call.
    """
    # A compiled network has no forward mode; its original does.
    model = getattr(model, "_orig_mod", model)

    def average_velocity(latent: Tensor, at: Tensor, over: Tensor) -> Tensor:
        output: Tensor = model(
            latent,
            at,
            over,
            condition.tokens,
            condition.pooled,
            condition.seconds,
            guidance,
            text_mask=condition.text_mask,
            drop=drop,
        )
        return output

    before = getattr(model, "explicit_attention", None)
    if before is not None:
        setattr(model, "explicit_attention", True)  # noqa: B010  (nn.Module's own typing forbids the plain form)
    try:
        tangents = (tangent, torch.ones_like(time), torch.ones_like(duration))
        with torch.autocast(z.device.type, enabled=False):
            derivative: Tensor = torch.func.jvp(average_velocity, (z, time, duration), tangents)[1]
    finally:
        if before is not None:
            setattr(model, "explicit_attention", before)  # noqa: B010
    return derivative
